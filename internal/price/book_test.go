package price_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/promptcademy/promptops/internal/price"
)

func instant(t testing.TB, s string) time.Time {
	t.Helper()
	at, err := time.Parse(time.RFC3339Nano, s)
	if err != nil {
		t.Fatal(err)
	}
	return at
}

func TestFind(t *testing.T) {
	day := func(s string) *time.Time { at := instant(t, s); return &at }
	hours := func(h time.Duration) *time.Duration { d := h * time.Hour; return &d }
	book := price.NewBook([]price.Price{
		{ID: 1, Provider: "a", Model: "changed", EffectiveTo: day("2026-01-01T00:00:00Z")},
		{ID: 3, Provider: "a", Model: "changed", EffectiveFrom: day("2026-03-01T00:00:00Z")},
		{ID: 2, Provider: "a", Model: "changed", EffectiveFrom: day("2026-01-01T00:00:00Z")}, // without an end

		{ID: 4, Provider: "a", Model: "ended", EffectiveTo: day("2026-01-01T00:00:00Z")},
		{ID: 5, Provider: "a", Model: "ended-2025-08-07", EffectiveFrom: day("2026-01-01T00:00:00Z")},

		{ID: 6, Provider: "a", Model: "night"},
		{ID: 7, Provider: "a", Model: "night", DailyFrom: hours(22), DailyTo: hours(2)},
		{ID: 8, Provider: "a", Model: "night", EffectiveFrom: day("2026-01-01T00:00:00Z")},

		{ID: 9, Provider: "a", Model: "evening", DailyFrom: hours(20), DailyTo: hours(24)},
		{ID: 10, Provider: "a", Model: "always", DailyFrom: hours(5), DailyTo: hours(5)},
	})
	for _, c := range []struct {
		model, at string
		want      int64 // id; 0: no price
	}{
		{"changed", "2000-01-01T00:00:00Z", 1},
		{"changed", "2025-12-31T23:59:59.999999999Z", 1},
		{"changed", "2026-01-01T00:00:00Z", 2},
		{"changed", "2026-01-01T00:30:00+01:00", 1}, // the same instant as 23:30 UTC
		{"changed", "2026-02-28T23:59:59Z", 2},
		{"changed", "2026-03-01T00:00:00Z", 3},

		{"ended", "2026-01-01T00:00:00Z", 0},
		{"ended-2025-08-07", "2025-12-31T00:00:00Z", 4}, // its own price does not apply yet
		{"ended-2025-08-07", "2026-01-01T00:00:00Z", 5},

		{"night", "2025-06-01T21:59:59.9Z", 6},
		{"night", "2025-06-01T22:00:00Z", 7},
		{"night", "2025-06-02T00:00:00Z", 7},
		{"night", "2025-06-02T01:59:59.9Z", 7},
		{"night", "2025-06-02T02:00:00Z", 6},
		{"night", "2026-06-02T02:00:00Z", 8},
		{"night", "2026-06-02T01:00:00Z", 7}, // certain hours come before a newer price of the whole day
		{"night", "2025-06-02T01:00:00+02:00", 7},

		{"evening", "2026-06-01T23:59:59.9Z", 9},
		{"evening", "2026-06-01T00:00:00Z", 0},
		{"always", "2026-06-01T05:00:00Z", 10},
		{"always", "2026-06-01T04:59:59Z", 10},

		{"night-2025-08-07", "2025-06-01T12:00:00Z", 6},
		{"night-20250807", "2025-06-01T12:00:00Z", 6},
		{"night-20251345", "2025-06-01T12:00:00Z", 0}, // no such day
		{"night-2025-8-7", "2025-06-01T12:00:00Z", 0},
		{"night-latest", "2025-06-01T12:00:00Z", 0},
		{"night-2025-08-07-2025-08-07", "2025-06-01T12:00:00Z", 0},
		{"-20250807", "2025-06-01T12:00:00Z", 0},
		{"Night", "2025-06-01T12:00:00Z", 0},
		{"", "2025-06-01T12:00:00Z", 0},
	} {
		got, ok := book.Find("a", c.model, instant(t, c.at))
		if got.ID != c.want || ok != (c.want != 0) {
			t.Errorf("%s at %s: price %d (%v), want %d", c.model, c.at, got.ID, ok, c.want)
		}
	}
	if got, ok := book.Find("b", "night", instant(t, "2025-06-01T12:00:00Z")); ok {
		t.Errorf("another provider's model has price %d", got.ID)
	}
}

func TestCurrent(t *testing.T) {
	later := instant(t, "2026-07-30T00:00:00Z")
	book := price.NewBook([]price.Price{
		{ID: 1, Provider: "openai", Model: "b", EffectiveTo: &later},
		{ID: 2, Provider: "openai", Model: "b", EffectiveFrom: &later},
		{ID: 3, Provider: "openai", Model: "a", EffectiveFrom: &later},
		{ID: 4, Provider: "anthropic", Model: "c"},
	})
	for _, test := range []struct {
		at   string
		want string
	}{
		{"2026-07-29T00:00:00Z", "[4 1]"},
		{"2026-07-30T00:00:00Z", "[4 3 2]"},
	} {
		ids := []int64{}
		for _, p := range book.Current(instant(t, test.at)) {
			ids = append(ids, p.ID)
		}
		if got := fmt.Sprint(ids); got != test.want {
			t.Errorf("at %s: %s, want %s", test.at, got, test.want)
		}
	}
}
