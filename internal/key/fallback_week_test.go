package key

import (
	"slices"
	"testing"
	"time"
)

func TestWeekMemory(t *testing.T) {
	var w weekMemory
	begin := time.Date(2026, 11, 17, 0, 0, 0, 0, time.UTC)
	at := func(minutes int) time.Time {
		return begin.AddDate(0, 0, spendDays).Add(time.Duration(minutes) * time.Minute)
	}
	days := func(all []daySpend) (days []int) {
		for _, s := range all {
			days = append(days, s.Day)
		}
		return days
	}
	finds := func(name string, begin, now time.Time, want []int, from int) []daySpend {
		t.Helper()
		spent, at := w.find(begin, now)
		if !slices.Equal(days(spent), want) || at != from {
			t.Errorf("%s: knows days %v and reads from %d; want %v and %d", name, days(spent), at, want, from)
		}
		return spent
	}
	finds("nothing known", begin, at(0), nil, 0)
	w.keep(begin, at(0), []daySpend{{Day: 1}, {Day: 6}, {Day: 7}}, true)
	finds("just read", begin, at(0), []int{1, 6, 7}, spendDays)
	known := finds("a minute later", begin, at(1), []int{1, 6}, spendDays-1)
	w.keep(begin, at(1), append(known, daySpend{Day: 7}), false)
	finds("read again", begin, at(1), []int{1, 6, 7}, spendDays)
	w.keep(begin, at(59), []daySpend{{Day: 1}, {Day: 6}, {Day: 7}}, false)
	finds("an hour later", begin, at(60), nil, 0)
	finds("the next day", begin.AddDate(0, 0, 1), at(2), nil, 0)
	finds("a clock that went back", begin, at(-1), nil, 0)
}
