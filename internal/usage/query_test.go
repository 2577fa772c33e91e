package usage_test

import (
	"errors"
	"net/url"
	"testing"
	"time"
	_ "time/tzdata"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"

	"github.com/promptcademy/promptops/internal/fault"
	"github.com/promptcademy/promptops/internal/usage"
)

func zone(t testing.TB, name string) *time.Location {
	t.Helper()
	z, err := time.LoadLocation(name)
	if err != nil {
		t.Fatal(err)
	}
	return z
}

func values(t testing.TB, query string) url.Values {
	t.Helper()
	v, err := url.ParseQuery(query)
	if err != nil {
		t.Fatal(err)
	}
	return v
}

func instant(t testing.TB, s string) time.Time {
	t.Helper()
	at, err := time.Parse(time.RFC3339, s)
	if err != nil {
		t.Fatal(err)
	}
	return at
}

func TestParseQueryDays(t *testing.T) {
	for name, c := range map[string]struct {
		query, zone, now string
		from, to         string // instants
		first, last      string
		rng, again       string // Range, and Values().Encode()
	}{
		"default": {"", "UTC", "2026-11-24T04:08:57Z",
			"2026-10-26T00:00:00Z", "2026-11-25T00:00:00Z", "2026-10-26", "2026-11-24", "30d", "range=30d"},
		"today, where it is already tomorrow": {"range=today", "Asia/Tokyo", "2026-11-24T15:00:00Z",
			"2026-11-24T15:00:00Z", "2026-11-25T15:00:00Z", "2026-11-25", "2026-11-25", "today", "range=today"},
		"a week over the end of summer time": {"range=7d", "Europe/Berlin", "2026-10-25T12:00:00Z",
			"2026-10-18T22:00:00Z", "2026-10-25T23:00:00Z", "2026-10-19", "2026-10-25", "7d", "range=7d"},
		"half a year": {"range=180d", "UTC", "2026-11-24T23:59:59Z",
			"2026-05-29T00:00:00Z", "2026-11-25T00:00:00Z", "2026-05-29", "2026-11-24", "180d", "range=180d"},
		"own days": {"from=2026-03-29&to=2026-03-29", "Europe/Berlin", "2026-11-24T00:00:00Z",
			"2026-03-28T23:00:00Z", "2026-03-29T22:00:00Z", "2026-03-29", "2026-03-29", "custom", "from=2026-03-29&to=2026-03-29"},
		"until today": {"range=custom&from=2026-11-01&to=", "UTC", "2026-11-24T00:00:00Z",
			"2026-11-01T00:00:00Z", "2026-11-25T00:00:00Z", "2026-11-01", "2026-11-24", "custom", "from=2026-11-01&to=2026-11-24"},
		"a named range comes before days": {"range=7d&from=2026-01-01", "UTC", "2026-11-24T00:00:00Z",
			"2026-11-18T00:00:00Z", "2026-11-25T00:00:00Z", "2026-11-18", "2026-11-24", "7d", "range=7d"},
		"no midnight": {"from=2018-11-04&to=2018-11-04", "America/Sao_Paulo", "2026-11-24T00:00:00Z",
			"2018-11-04T03:00:00Z", "2018-11-05T02:00:00Z", "2018-11-04", "2018-11-04", "custom", "from=2018-11-04&to=2018-11-04"},
		"midnight twice": {"from=2018-02-17&to=2018-02-17", "America/Sao_Paulo", "2026-11-24T00:00:00Z",
			"2018-02-17T02:00:00Z", "2018-02-18T03:00:00Z", "2018-02-17", "2018-02-17", "custom", "from=2018-02-17&to=2018-02-17"},
		"the longest": {"from=2025-10-21&to=2026-11-24", "UTC", "2026-11-24T00:00:00Z",
			"2025-10-21T00:00:00Z", "2026-11-25T00:00:00Z", "2025-10-21", "2026-11-24", "custom", "from=2025-10-21&to=2026-11-24"},
	} {
		t.Run(name, func(t *testing.T) {
			q, err := usage.ParseQuery(values(t, c.query), instant(t, c.now), zone(t, c.zone))
			if err != nil {
				t.Fatal(err)
			}
			if !q.From.Equal(instant(t, c.from)) || !q.To.Equal(instant(t, c.to)) {
				t.Errorf("from %s to %s, want %s to %s", q.From.UTC(), q.To.UTC(), c.from, c.to)
			}
			if q.FirstDay() != c.first || q.LastDay() != c.last || q.Range != c.rng {
				t.Errorf("%s: %s to %s, want %s: %s to %s", q.Range, q.FirstDay(), q.LastDay(), c.rng, c.first, c.last)
			}
			if got := q.Values().Encode(); got != c.again {
				t.Errorf("Values() = %s, want %s", got, c.again)
			}
		})
	}
}

func TestParseQueryFilters(t *testing.T) {
	team := uuid.New()
	query := "key=fallback&model=groq%2Fopenai%2Fgpt-oss-20b&provider=groq&range=7d&team=" + team.String()
	q, err := usage.ParseQuery(values(t, query), time.Now(), time.UTC)
	if err != nil {
		t.Fatal(err)
	}
	want := usage.Query{Provider: "groq", Model: "groq/openai/gpt-oss-20b", TeamID: &team, KeySource: "fallback"}
	got := usage.Query{Provider: q.Provider, Model: q.Model, TeamID: q.TeamID, KeySource: q.KeySource}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	if again := q.Values().Encode(); again != query {
		t.Errorf("Values() = %s, want %s", again, query)
	}
}

func TestParseQueryRefuses(t *testing.T) {
	for query, fields := range map[string][]string{
		"range=31d":                     {"range"},
		"range=custom":                  {"from"},
		"to=2026-01-01":                 {"from"},
		"from=2026-02-30&to=yesterday":  {"from", "to"},
		"from=2026-01-02&to=2026-01-01": {"to"},
		"from=2026-11-25":               {"to"}, // tomorrow
		"from=2025-10-20&to=2026-11-24": {"from"},
		"from=0000-01-01&to=9999-12-31": {"from"},
		"from=2026-1-1":                 {"from"},
		"team=7":                        {"team"},
		"key=sandbox":                   {"key"},
		"provider=a%00b&model=%ff":      {"provider", "model"},
		"range=x&team=y&key=z":          {"team", "key", "range"},
	} {
		_, err := usage.ParseQuery(values(t, query), instant(t, "2026-11-24T12:00:00Z"), time.UTC)
		f, ok := errors.AsType[*fault.Error](err)
		if !ok || f.Kind != fault.Invalid {
			t.Errorf("%s: error %v, want fault.Invalid", query, err)
			continue
		}
		var got []string
		for _, d := range f.Details {
			got = append(got, d.Field)
		}
		if diff := cmp.Diff(fields, got); diff != "" {
			t.Errorf("%s: %s", query, diff)
		}
	}
}

func FuzzParseQuery(f *testing.F) {
	f.Add("range=30d&team=8f0b6f1e-0000-4000-8000-000000000000")
	f.Add("from=0000-01-01&to=0001-01-01&key=user")
	f.Add("from=9999-12-31&to=9999-12-31&model=%C3%A4")
	apia := zone(f, "Pacific/Apia") // had no 30 December 2011
	now := instant(f, "2026-11-24T12:00:00Z")
	f.Fuzz(func(t *testing.T, query string) {
		v, err := url.ParseQuery(query)
		if err != nil {
			return
		}
		q, err := usage.ParseQuery(v, now, apia)
		if err != nil {
			if fault.KindOf(err) != fault.Invalid {
				t.Fatal(err)
			}
			return
		}
		if q.To.Before(q.From) {
			t.Fatalf("%s ends before it begins, at %s", q.From, q.To)
		}
		again, err := usage.ParseQuery(q.Values(), now, apia)
		if err != nil || again.Values().Encode() != q.Values().Encode() {
			t.Fatalf("%s became %s: %v", q.Values().Encode(), again.Values().Encode(), err)
		}
	})
}
