package outreach

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"
)

var noon = time.Date(2026, 11, 24, 12, 0, 0, 0, time.UTC)

func TestNext(t *testing.T) {
	snoozed := func(until time.Time) Status { return Status{State: Snoozed, Until: until} }
	for _, tt := range []struct {
		name           string
		was            Status
		usable, broken bool
		want           Status
		reason         string
	}{
		{"nothing", Status{}, true, false, Status{}, ""},
		{"never had a key", Status{}, false, false, Status{State: New}, ""},
		{"new still", Status{State: New}, false, false, Status{State: New}, ""},
		{"new, has a key", Status{State: New}, true, false, Status{State: Resolved}, ReasonHasKey},
		{"contacted, has a key and a broken one", Status{State: Contacted}, true, true, Status{State: Resolved}, ReasonHasKey},
		{"contacted, nothing happened", Status{State: Contacted}, false, true, Status{State: Contacted}, ""},
		{"snoozed, has a key", snoozed(noon.Add(time.Hour)), true, false, Status{State: Resolved}, ReasonHasKey},
		{"snooze is over, but has a key", snoozed(noon.Add(-time.Hour)), true, false, Status{State: Resolved}, ReasonHasKey},
		{"snoozed still", snoozed(noon.Add(time.Microsecond)), false, false, snoozed(noon.Add(time.Microsecond)), ""},
		{"snooze is over", snoozed(noon), false, false, Status{State: Reopened}, ReasonSnoozeOver},
		{"reopened, has a key", Status{State: Reopened}, true, false, Status{State: Resolved}, ReasonHasKey},
		{"resolved still", Status{State: Resolved}, true, false, Status{State: Resolved}, ""},
		{"resolved, key broke", Status{State: Resolved}, false, true, Status{State: Reopened}, ReasonKeyBroke},
		{"resolved, key removed", Status{State: Resolved}, false, false, Status{State: Reopened}, ReasonNoKey},
		{"reopened still", Status{State: Reopened}, false, true, Status{State: Reopened}, ""},
	} {
		got, reason := Next(tt.was, tt.usable, tt.broken, noon)
		if diff := cmp.Diff(tt.want, got); diff != "" || reason != tt.reason {
			t.Errorf("%s: %q, want %q; (-want +got)\n%s", tt.name, reason, tt.reason, diff)
		}
		// What came by itself is not followed by anything else that does.
		if again, reason := Next(got, tt.usable, tt.broken, noon); again != got || reason != "" {
			t.Errorf("%s: then %+v, %q", tt.name, again, reason)
		}
	}
}

func TestAct(t *testing.T) {
	operator, until := uuid.New(), noon.AddDate(0, 0, 7)
	by := func(kind, from, to string) *Event {
		return &Event{Kind: kind, FromState: from, ToState: to, OperatorID: &operator}
	}
	fromSnooze := by("contacted", "snoozed", "contacted")
	fromSnooze.FromUntil = &until
	for _, tt := range []struct {
		name    string
		was     Status
		verb    Verb
		usable  bool
		last    *Event
		want    Status
		refused string
	}{
		{"contacted", Status{State: New}, MarkContacted, false, nil, Status{State: Contacted}, ""},
		{"contacted again", Status{State: Contacted}, MarkContacted, false, nil, Status{State: Contacted}, ""},
		{"snoozed", Status{State: Contacted}, Snooze, false, nil, Status{State: Snoozed, Until: until}, ""},
		{"reopened", Status{State: Contacted}, Reopen, false, nil, Status{State: Reopened}, ""},
		{"open already", Status{State: New}, Reopen, false, nil, Status{State: New}, RefusedOpenAlready},
		{"has a key", Status{State: Resolved}, MarkContacted, true, nil, Status{State: Resolved}, RefusedHasKey},
		{"nothing to undo", Status{State: New}, Undo, false, nil, Status{State: New}, RefusedNothing},
		{"undone", Status{State: Contacted}, Undo, false, by("contacted", "new", "contacted"), Status{State: New}, ""},
		{"undone to a snooze", Status{State: Contacted}, Undo, false, fromSnooze, Status{State: Snoozed, Until: until}, ""},
		{"a message cannot be undone", Status{State: Contacted}, Undo, false, by("nudged", "new", "contacted"), Status{State: Contacted}, RefusedNothing},
		{"nor an undoing", Status{State: New}, Undo, false, by("undone", "contacted", "new"), Status{State: New}, RefusedNothing},
		{"nor what happened by itself", Status{State: Resolved}, Undo, true, &Event{Kind: "resolved", FromState: "new", ToState: "resolved"}, Status{State: Resolved}, RefusedNothing},
		{"nor what something happened after", Status{State: Reopened}, Undo, false, by("snoozed", "new", "snoozed"), Status{State: Reopened}, RefusedNothing},
	} {
		got, refused := Act(tt.was, tt.verb, until, tt.usable, tt.last)
		if diff := cmp.Diff(tt.want, got); diff != "" || refused != tt.refused {
			t.Errorf("%s: %q, want %q; (-want +got)\n%s", tt.name, refused, tt.refused, diff)
		}
	}
}
