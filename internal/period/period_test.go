package period_test

import (
	"net/url"
	"slices"
	"testing"
	"time"
	_ "time/tzdata"

	"github.com/promptcademy/promptops/internal/period"
)

func zone(t *testing.T, name string) *time.Location {
	t.Helper()
	z, err := time.LoadLocation(name)
	if err != nil {
		t.Fatal(err)
	}
	return z
}

func instant(t *testing.T, s string) time.Time {
	t.Helper()
	at, err := time.Parse(time.RFC3339, s)
	if err != nil {
		t.Fatal(err)
	}
	return at
}

func TestParse(t *testing.T) {
	for name, c := range map[string]struct{ query, zone, now, from, to, again string }{
		"default":         {"", "UTC", "2026-11-24T04:08:57Z", "2026-10-26T00:00:00Z", "2026-11-25T00:00:00Z", "range=30d"},
		"already there":   {"range=today", "Asia/Tokyo", "2026-11-24T15:00:00Z", "2026-11-24T15:00:00Z", "2026-11-25T15:00:00Z", "range=today"},
		"a day of 23 h":   {"from=2026-03-29&to=2026-03-29", "Europe/Berlin", "2026-11-24T00:00:00Z", "2026-03-28T23:00:00Z", "2026-03-29T22:00:00Z", "from=2026-03-29&to=2026-03-29"},
		"until today":     {"range=custom&from=2026-11-01", "UTC", "2026-11-24T00:00:00Z", "2026-11-01T00:00:00Z", "2026-11-25T00:00:00Z", "from=2026-11-01&to=2026-11-24"},
		"no midnight":     {"from=2018-11-04&to=2018-11-04", "America/Sao_Paulo", "2026-11-24T00:00:00Z", "2018-11-04T03:00:00Z", "2018-11-05T02:00:00Z", "from=2018-11-04&to=2018-11-04"},
		"name before day": {"range=7d&from=2026-01-01", "UTC", "2026-11-24T00:00:00Z", "2026-11-18T00:00:00Z", "2026-11-25T00:00:00Z", "range=7d"},
	} {
		t.Run(name, func(t *testing.T) {
			values, err := url.ParseQuery(c.query)
			if err != nil {
				t.Fatal(err)
			}
			p, problems := period.Parse(values, instant(t, c.now), zone(t, c.zone))
			if len(problems) > 0 || !p.From.Equal(instant(t, c.from)) || !p.To.Equal(instant(t, c.to)) {
				t.Errorf("from %s to %s %v, want %s to %s", p.From.UTC(), p.To.UTC(), problems, c.from, c.to)
			}
			again := url.Values{}
			if p.AddTo(again); again.Encode() != c.again {
				t.Errorf("again: %s, want %s", again.Encode(), c.again)
			}
		})
	}
}

func TestParseRefuses(t *testing.T) {
	for query, fields := range map[string][]string{
		"range=31d": {"range"}, "range=custom": {"from"}, "to=2026-01-01": {"from"}, "from=2026-02-30&to=soon": {"from", "to"},
		"from=2026-01-02&to=2026-01-01": {"to"}, "from=2026-11-25": {"to"}, "from=0000-01-01&to=9999-12-31": {"from"}, "from=2026-1-1": {"from"},
	} {
		values, err := url.ParseQuery(query)
		if err != nil {
			t.Fatal(err)
		}
		_, problems := period.Parse(values, instant(t, "2026-11-24T12:00:00Z"), time.UTC)
		var got []string
		for _, p := range problems {
			got = append(got, p.Field)
		}
		if !slices.Equal(got, fields) {
			t.Errorf("%s: refused %v, want %v", query, got, fields)
		}
	}
}

func TestStartsAndWeeks(t *testing.T) {
	for _, c := range []struct {
		zone, first, last string
		hours             []float64
	}{
		{"UTC", "2026-02-28", "2026-03-01", []float64{24, 24}},
		{"Europe/Berlin", "2026-03-28", "2026-03-30", []float64{24, 23, 24}},
		{"Europe/Berlin", "2026-10-24", "2026-10-26", []float64{24, 25, 24}},
		{"Pacific/Apia", "2011-12-29", "2011-12-31", []float64{24, 0, 24}}, // no 30th
	} {
		day := func(s string) period.Day { return period.DayOf(instant(t, s+"T00:00:00Z"), time.UTC) }
		starts := period.Starts(day(c.first), day(c.last), zone(t, c.zone))
		var hours []float64
		for i := 1; i < len(starts); i++ {
			hours = append(hours, starts[i].Sub(starts[i-1]).Hours())
		}
		if !slices.Equal(hours, c.hours) {
			t.Errorf("%s from %s: days of %v hours, want %v", c.zone, c.first, hours, c.hours)
		}
	}
	for d := period.DayOf(instant(t, "2026-01-01T00:00:00Z"), time.UTC); d.String() < "2027"; d = d.Plus(1) {
		at, err := time.Parse(time.DateOnly, d.Monday().String())
		if back := d.Monday().Until(d); err != nil || at.Weekday() != time.Monday || back < 0 || back > 6 {
			t.Errorf("the week of %s begins on %s", d, d.Monday())
		}
	}
}
