package period_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/promptcademy/promptops/internal/period"
)

func TestHoursBetween(t *testing.T) {
	for name, c := range map[string]struct {
		zone, from, to string
		count          int
		clocks         map[int]time.Duration // how long each of these hours was
	}{
		"a day":               {"UTC", "2026-11-24T00:00:00Z", "2026-11-25T00:00:00Z", 24, map[int]time.Duration{0: time.Hour, 23: time.Hour}},
		"a day of 23 hours":   {"Europe/Berlin", "2026-03-28T23:00:00Z", "2026-03-29T22:00:00Z", 23, map[int]time.Duration{1: time.Hour, 2: 0, 3: time.Hour}},
		"a day of 25 hours":   {"Europe/Berlin", "2026-10-24T22:00:00Z", "2026-10-25T23:00:00Z", 25, map[int]time.Duration{1: time.Hour, 2: 2 * time.Hour, 3: time.Hour}},
		"half an hour back":   {"Australia/Lord_Howe", "2026-04-04T13:00:00Z", "2026-04-05T13:30:00Z", 25, map[int]time.Duration{1: 90 * time.Minute, 2: time.Hour}},
		"half an hour on":     {"Australia/Lord_Howe", "2026-10-03T13:30:00Z", "2026-10-04T13:00:00Z", 24, map[int]time.Duration{1: time.Hour, 2: 30 * time.Minute, 3: time.Hour}},
		"quarters":            {"Asia/Kathmandu", "2026-11-23T18:15:00Z", "2026-11-24T18:15:00Z", 24, map[int]time.Duration{0: time.Hour}},
		"cut off":             {"UTC", "2026-11-24T10:20:00Z", "2026-11-24T12:05:00Z", 3, map[int]time.Duration{10: 40 * time.Minute, 11: time.Hour, 12: 5 * time.Minute}},
		"nothing":             {"UTC", "2026-11-24T10:20:00Z", "2026-11-24T10:20:00Z", 0, nil},
		"no midnight on it":   {"America/Sao_Paulo", "2018-11-04T03:00:00Z", "2018-11-05T02:00:00Z", 23, map[int]time.Duration{0: 0, 1: time.Hour}},
		"a day was left out":  {"Pacific/Apia", "2011-12-30T09:00:00Z", "2011-12-30T11:00:00Z", 2, map[int]time.Duration{23: time.Hour, 0: time.Hour}},
		"before clocks agree": {"Europe/Amsterdam", "1930-01-01T00:00:00Z", "1930-01-01T02:00:00Z", 3, nil},
	} {
		t.Run(name, func(t *testing.T) {
			z, from, to := zone(t, c.zone), instant(t, c.from), instant(t, c.to)
			hours := period.HoursBetween(from, to, z)
			if len(hours) != c.count {
				t.Errorf("%d hours, want %d", len(hours), c.count)
			}
			lasted, at := map[int]time.Duration{}, from
			for _, h := range hours {
				if !h.Start.Equal(at) || !h.End.After(at) {
					t.Fatalf("an hour is from %s to %s, the one before ended at %s", h.Start, h.End, at)
				}
				at = h.End
				lasted[h.Clock] += h.End.Sub(h.Start)
				for _, moment := range []time.Time{h.Start, h.End.Add(-time.Nanosecond)} {
					local := moment.In(z)
					if got := fmt.Sprint((int(local.Weekday())+6)%7, local.Hour()); got != fmt.Sprint(h.Weekday, h.Clock) {
						t.Errorf("%s is in the hour %d of weekday %d", local, h.Clock, h.Weekday)
					}
				}
			}
			if !at.Equal(to) {
				t.Errorf("they end at %s, want %s", at, to)
			}
			for clock, want := range c.clocks {
				if lasted[clock] != want {
					t.Errorf("hour %d lasted %s, want %s", clock, lasted[clock], want)
				}
			}
		})
	}
}
