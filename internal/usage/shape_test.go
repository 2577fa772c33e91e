package usage_test

import (
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/promptcademy/promptops/internal/fault"
	"github.com/promptcademy/promptops/internal/postgres"
	"github.com/promptcademy/promptops/internal/postgres/pgtest"
	"github.com/promptcademy/promptops/internal/usage"
)

func TestParseQueryShape(t *testing.T) {
	now := instant(t, "2026-11-24T12:00:00Z")
	for query, again := range map[string]string{
		"": "range=30d",
		"group=model&metric=cost&bucket=day&sub=":                                         "range=30d",
		"group=team&sub=team":                                                             "group=team&range=30d",
		"bucket=hour&range=7d&compare=previous":                                           "bucket=hour&compare=previous&range=7d",
		"from=2026-11-11&to=2026-11-24&bucket=hour":                                       "bucket=hour&from=2026-11-11&to=2026-11-24",
		"group=learner&sub=key&metric=first_token&bucket=week&learner=+ada%40example.org": "bucket=week&group=learner&learner=ada%40example.org&metric=first_token&range=30d&sub=key",
	} {
		q, err := usage.ParseQuery(values(t, query), now, time.UTC)
		if err != nil {
			t.Errorf("%s: %v", query, err)
			continue
		}
		if got := q.Values().Encode(); got != again {
			t.Errorf("%s became %s, want %s", query, got, again)
		}
	}
	for query, want := range map[string]string{
		"group=day": "group must be", "sub=x": "sub must be", "metric=money": "metric must be", "bucket=minute": "bucket must be", "compare=yes": "compare must be",
		"template=7": "template is not an id", "learner=%00": "learner holds", "bucket=hour": "bucket cannot be hour for 30 days; choose 14 days or fewer, or days or weeks",
	} {
		_, err := usage.ParseQuery(values(t, query), now, time.UTC)
		f, ok := errors.AsType[*fault.Error](err)
		if !ok || f.Kind != fault.Invalid || len(f.Details) != 1 || !strings.HasPrefix(f.Details[0].Field+" "+f.Details[0].Message, want) {
			t.Errorf("%s: %v, want %s …", query, err, want)
		}
	}
}

// Buckets are as long as the clocks of the zone say, and each of the period before
// belongs to the one that is as many days later.
func TestBucketsOfTheZone(t *testing.T) {
	db := pgtest.Tx(t)
	now := instant(t, "2026-11-24T12:00:00Z")
	for _, c := range []struct {
		query, zone string
		buckets     int
		odd         []string // lengths other than the usual one
		before      string   // begins
	}{
		{"bucket=hour&from=2026-10-25&to=2026-10-25", "Europe/Berlin", 25, nil, "2026-10-24"},
		{"bucket=hour&from=2026-03-29&to=2026-03-29", "Europe/Berlin", 23, nil, "2026-03-28"},
		{"bucket=hour&from=2026-04-05&to=2026-04-05", "Australia/Lord_Howe", 25, []string{"30m0s"}, "2026-04-04"},
		{"bucket=hour&from=2026-10-04&to=2026-10-04", "Australia/Lord_Howe", 24, []string{"30m0s"}, "2026-10-03"},
		{"bucket=hour&from=2026-11-01&to=2026-11-02", "Asia/Kathmandu", 48, nil, "2026-10-30"},
		{"bucket=day&from=2026-10-24&to=2026-10-26", "Europe/Berlin", 3, []string{"25h0m0s"}, "2026-10-21"},
		{"bucket=week&from=2026-11-04&to=2026-11-24", "UTC", 4, []string{"120h0m0s", "48h0m0s"}, "2026-10-14"},
		{"bucket=week&from=2026-10-19&to=2026-11-01", "Europe/Berlin", 2, []string{"169h0m0s"}, "2026-10-05"},
	} {
		z := zone(t, c.zone)
		got := report(t, db, c.query+"&compare=previous", now, z)
		var odd []string
		usual := map[string]time.Duration{"h": time.Hour, "d": 24 * time.Hour, "w": 7 * 24 * time.Hour}[c.query[7:8]]
		for _, p := range got.Points {
			if length := p.End.Sub(p.Start); length != usual {
				odd = append(odd, length.String())
			}
		}
		if len(got.Points) != c.buckets || !slices.Equal(odd, c.odd) {
			t.Errorf("%s in %s: %d buckets, those of other lengths %v, want %d, %v", c.query, c.zone, len(got.Points), odd, c.buckets, c.odd)
		}
		before := got.Before
		if at := before.From.In(z).Format(time.DateOnly); at != c.before || !before.To.Equal(got.Points[0].Start) ||
			len(before.Points) != len(got.Points) || !before.Points[0].Start.Equal(before.From) || !before.Points[len(before.Points)-1].End.Equal(before.To) {
			t.Errorf("%s in %s: before are %d buckets from %s (%s) to %s", c.query, c.zone, len(before.Points), before.From, at, before.To)
		}
	}
}

// However many groups there are, what is shown adds up.
func TestManyGroups(t *testing.T) {
	db := pgtest.Tx(t)
	now := instant(t, "2026-11-24T12:00:00Z")
	var all []attempt
	for i := range 130 {
		learner := uuid.New()
		all = append(all, attempt{at: now, model: fmt.Sprintf("x/m%d", i%17), learner: &learner, status: "ok", keySource: "user", cost: fmt.Sprintf("0.%03d", i+1)})
	}
	insert(t, db, all...)
	for query, want := range map[string][4]int{ // groups, others, lines, parts of the first and others
		"group=learner":                {100, 30, 8, 0},
		"group=learner&sub=model":      {25, 105, 8, 1},
		"group=key&sub=learner":        {1, 0, 1, 10},
		"group=provider&sub=model":     {1, 0, 1, 10},
		"group=learner&metric=latency": {100, 30, 0, 0},
	} {
		q, err := usage.ParseQuery(values(t, query), now, time.UTC)
		if err != nil {
			t.Fatal(err)
		}
		store := usage.NewStore(postgres.NewReader(db))
		got, err := store.Report(t.Context(), q)
		if err != nil {
			t.Fatal(err)
		}
		checkSums(t, q, got)
		others, lines := 0, 0
		if got.Others != nil {
			others = got.Others.Count
		}
		for _, g := range got.Groups {
			if len(g.Points) > 0 {
				lines++
			}
		}
		if is := [4]int{len(got.Groups), others, lines, len(got.Groups[0].Subs)}; is != want {
			t.Errorf("%s: %v, want %v", query, is, want)
		}
		file, cut, err := store.Lines(t.Context(), q)
		if err != nil || cut {
			t.Fatal(cut, err)
		}
		if ids := map[string]bool{}; q.Group == usage.ByLearner {
			for _, line := range file {
				ids[line.Group.ID] = true
			}
			if len(ids) != 130 {
				t.Errorf("%s: the file has %d learners", query, len(ids))
			}
		}
	}
}

// What is gone, or never was, is called something.
func TestNamesOfGroups(t *testing.T) {
	db := pgtest.Tx(t)
	now := instant(t, "2026-11-24T12:00:00Z")
	c := newCrowd(t, db)
	insert(t, db,
		attempt{at: now, model: "x/y", status: "ok", team: &c.teams[0], learner: &c.learners[0], template: &c.templates[0], keySource: "user"},
		attempt{at: now, model: "x/y", status: "ok", team: &c.teams[3], learner: &c.learners[3], keySource: "fallback"},
		attempt{at: now, model: "x/y", status: "ok"})
	for by, want := range map[usage.Dimension][]string{
		usage.ByTeam:     {"Deleted team", "No team", "Team 0"},
		usage.ByLearner:  {"0@example.org", "Deleted learner " + c.learners[3].String()[:8], "Deleted learner 5eb0d000"},
		usage.ByTemplate: {"Deleted template " + c.templates[0].String()[:8], "No template"},
		usage.ByKey:      {"Fallback keys", "No key", "Own keys"},
	} {
		got := report(t, db, url.Values{"group": {string(by)}}.Encode(), now, time.UTC)
		var names []string
		for _, g := range got.Groups {
			names = append(names, g.Name)
		}
		slices.Sort(names)
		slices.Sort(want)
		if !slices.Equal(names, want) {
			t.Errorf("by %s: %q, want %q", by, names, want)
		}
	}
}
