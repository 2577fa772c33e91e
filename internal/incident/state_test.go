package incident

import (
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/promptcademy/promptops/internal/fault"
)

var noon = time.Date(2026, 11, 24, 12, 0, 0, 0, time.UTC)

func TestTake(t *testing.T) {
	ada := uuid.New()
	at := noon.Add(time.Hour)
	for _, test := range []struct {
		from Status
		step Step
		want Status // "": refused
	}{
		{Open, Acknowledge, Open}, {Mitigated, Acknowledge, Mitigated},
		{Open, Mitigate, Mitigated}, {Mitigated, Mitigate, ""}, {Resolved, Mitigate, ""},
		{Open, Resolve, Resolved}, {Mitigated, Resolve, Resolved}, {Resolved, Resolve, ""},
		{Open, Reopen, ""}, {Mitigated, Reopen, Open}, {Resolved, Reopen, Open},
	} {
		before := Incident{Status: test.from, DetectedAt: noon}
		after, err := before.Take(test.step, ada, at)
		if test.want == "" {
			if err == nil || fault.KindOf(err) != fault.Conflict || after != before {
				t.Errorf("%s a %s incident: %+v, %v; want a conflict", test.step, test.from, after, err)
			}
			continue
		}
		if err != nil || after.Status != test.want || after.AcknowledgedAt == nil || !after.AcknowledgedAt.Equal(at) || *after.AcknowledgedBy != ada {
			t.Errorf("%s a %s incident: %+v, %v; want %s, acknowledged", test.step, test.from, after, err, test.want)
		}
	}
	if _, err := (Incident{Status: Open, AcknowledgedAt: &noon}).Take(Acknowledge, ada, at); fault.KindOf(err) != fault.Conflict {
		t.Errorf("acknowledging twice: %v", err)
	}
	if _, err := (Incident{Status: Open}).Take("explode", ada, at); fault.KindOf(err) != fault.Malformed {
		t.Errorf("an unknown step: %v", err)
	}
}

// Whatever is done in whatever order, the state makes sense.
func TestAnyStepsKeepTheStateWhole(t *testing.T) {
	random := rand.New(rand.NewPCG(6, 2026))
	steps := []Step{Acknowledge, Mitigate, Resolve, Reopen}
	people := []uuid.UUID{uuid.New(), uuid.New()}
	for range 2000 {
		i := Incident{Status: Open, DetectedAt: noon}
		now := noon.Add(-time.Minute) // a clock that is behind
		for range 12 {
			now = now.Add(time.Duration(random.IntN(90)) * time.Second)
			step, by := steps[random.IntN(len(steps))], people[random.IntN(2)]
			next, err := i.Take(step, by, now)
			if allowed := slices.Contains(i.Allowed(), step); allowed != (err == nil) {
				t.Fatalf("%s on %+v: allowed %v, but %v", step, i, allowed, err)
			}
			if i.AcknowledgedAt != nil && (next.AcknowledgedAt != i.AcknowledgedAt || next.AcknowledgedBy != i.AcknowledgedBy) {
				t.Fatalf("%s took the acknowledgement from %+v: %+v", step, i, next)
			}
			i = next
			switch {
			case (i.Status == Resolved) != (i.ResolvedAt != nil),
				i.Status == Mitigated && i.MitigatedAt == nil,
				i.Status == Open && i.MitigatedAt != nil,
				i.Status != Open && i.AcknowledgedAt == nil:
				t.Fatalf("after %s: %+v", step, i)
			}
			for _, at := range []*time.Time{i.AcknowledgedAt, i.MitigatedAt, i.ResolvedAt} {
				if at != nil && at.Before(i.DetectedAt) {
					t.Fatalf("something happened before it was detected: %+v", i)
				}
			}
			if len(i.Allowed()) == 0 || i.End(now).Before(i.DetectedAt) {
				t.Fatalf("stuck, or it ends before it begins: %+v", i)
			}
		}
	}
}

func TestCrossings(t *testing.T) {
	at := func(n int) time.Time { return noon.Add(time.Duration(n) * slot) }
	buckets := []bucket{
		{"anthropic", at(0), 10, 10, "overloaded"}, // begins before the incident
		{"anthropic", at(1), 40, 12, "timeout"},    // goes on
		{"anthropic", at(2), 100, 20, "timeout"},   // exactly a fifth: no
		{"openai", at(1), 10, 9, ""},               // too few
		{"openai", at(3), 20, 14, "rate_limited"},
		{"openai", at(5), 11, 11, ""}, // a gap before: another episode, which goes on at the end
	}
	from, to := noon.Add(2*time.Minute), at(5).Add(2*time.Minute)
	got := crossings(buckets, from, to)
	want := []Entry{
		{At: from, Provider: "anthropic", Title: "Errors cross the threshold: 10 of 10 attempts in 5 minutes failed (100%)", Body: "Mostly overloaded."},
		{At: at(2), Provider: "anthropic", Title: "Errors are below the threshold again, after 8 min"},
		{At: at(3), Provider: "openai", Title: "Errors cross the threshold: 14 of 20 attempts in 5 minutes failed (70%)", Body: "Mostly rate limited."},
		{At: at(4), Provider: "openai", Title: "Errors are below the threshold again, after 5 min"},
		{At: at(5), Provider: "openai", Title: "Errors cross the threshold: 11 of 11 attempts in 5 minutes failed (100%)"},
	}
	if len(got) != len(want) {
		t.Fatalf("%d entries: %+v", len(got), got)
	}
	for i := range want {
		if got[i].At != want[i].At || got[i].Provider != want[i].Provider || got[i].Title != want[i].Title || got[i].Body != want[i].Body {
			t.Errorf("entry %d: %+v, want %+v", i, got[i], want[i])
		}
	}
}

func TestSpan(t *testing.T) {
	for d, want := range map[time.Duration]string{
		0: "0 s", 59 * time.Second: "59 s", time.Minute: "1 min", 61 * time.Second: "1 min 1 s", time.Hour: "1 h",
		3*time.Hour + 5*time.Minute + 9*time.Second: "3 h 5 min", 49*time.Hour + time.Minute: "2 d 1 h", 48 * time.Hour: "2 d",
	} {
		if got := Span(d); got != want {
			t.Errorf("%s is %q, want %q", d, got, want)
		}
	}
}
