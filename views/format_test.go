package views

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/shopspring/decimal"
)

func usd(s string) decimal.Decimal { return decimal.RequireFromString(s) }

func TestMoney(t *testing.T) {
	tests := []struct{ amount, short, exact string }{
		{"0", "$0.00", "$0.00"},
		{"0.5", "$0.50", "$0.50"},
		{"0.001934", "$0.001934", "$0.001934"},
		{"0.0000001234567", "$0.000000123457", "$0.0000001234567"},
		{"0.99999999", "$1.00", "$0.99999999"},
		{"1", "$1.00", "$1.00"},
		{"12.345678", "$12.35", "$12.345678"},
		{"1234.5", "$1,234.50", "$1,234.50"},
		{"9876543.211", "$9,876,543.21", "$9,876,543.211"},
		{"100e3", "$100,000.00", "$100,000.00"},
		{"-0.25", "−$0.25", "−$0.25"},
	}
	for _, tt := range tests {
		if got := Money(usd(tt.amount)); got != tt.short {
			t.Errorf("Money(%s) = %s, want %s", tt.amount, got, tt.short)
		}
		if got := MoneyExact(usd(tt.amount)); got != tt.exact {
			t.Errorf("MoneyExact(%s) = %s, want %s", tt.amount, got, tt.exact)
		}
	}
}

func TestMoneyPart(t *testing.T) {
	tests := []struct{ amount, whole, want string }{
		{"0.8095", "27", "$0.81"},
		{"0.004", "27", "<$0.01"},
		{"0", "27", "$0.00"},
		{"0.004", "0.5", "$0.004"},
	}
	for _, tt := range tests {
		if got := moneyPart(usd(tt.amount), usd(tt.whole)); got != tt.want {
			t.Errorf("moneyPart(%s, %s) = %s, want %s", tt.amount, tt.whole, got, tt.want)
		}
	}
}

func TestAmountsKeepThePointsInLine(t *testing.T) {
	a, b := usd("12.5"), usd("0.001934")
	want := []Amount{
		{Main: "$12.50", Rest: "", Pad: "0000"},
		{Pad: "0000"},
		{Main: "$0.00", Rest: "1934", Pad: ""},
	}
	if diff := cmp.Diff(want, Amounts([]*decimal.Decimal{&a, nil, &b})); diff != "" {
		t.Errorf("amounts (-want +got):\n%s", diff)
	}
}

func TestCounts(t *testing.T) {
	tests := []struct {
		n           int64
		full, short string
	}{
		{0, "0", "0"},
		{999, "999", "999"},
		{1000, "1,000", "1,000"},
		{9_999, "9,999", "9,999"},
		{12_345, "12,345", "12.3K"},
		{999_499, "999,499", "999K"},
		{999_500, "999,500", "1.00M"},
		{22_867_392, "22,867,392", "22.9M"},
		{1_250_000_000, "1,250,000,000", "1.25B"},
		{-1234, "−1,234", "−1,234"},
	}
	for _, tt := range tests {
		if got := Count(tt.n); got != tt.full {
			t.Errorf("Count(%d) = %s, want %s", tt.n, got, tt.full)
		}
		if got := CountShort(tt.n); got != tt.short {
			t.Errorf("CountShort(%d) = %s, want %s", tt.n, got, tt.short)
		}
	}
}

func TestPercent(t *testing.T) {
	tests := []struct {
		part, whole int64
		want        string
	}{
		{0, 0, "–"},
		{0, 10, "0%"},
		{1, 8, "12.5%"},
		{1, 1_000_000, "<0.1%"},
		{999_999, 1_000_000, ">99.9%"},
		{10, 10, "100%"},
	}
	for _, tt := range tests {
		if got := Percent(tt.part, tt.whole); got != tt.want {
			t.Errorf("Percent(%d, %d) = %s, want %s", tt.part, tt.whole, got, tt.want)
		}
	}
	if got := PercentOf(usd("0.5"), usd("4")); got != "12.5%" {
		t.Errorf("PercentOf(0.5, 4) = %s, want 12.5%%", got)
	}
	if got := PercentOf(usd("0"), usd("0")); got != "–" {
		t.Errorf("PercentOf(0, 0) = %s, want a dash", got)
	}
}

func TestMilliseconds(t *testing.T) {
	for ms, want := range map[int64]string{-1: "–", 0: "0 ms", 412: "412 ms", 1834: "1.83 s", 59_999: "60.00 s", 125_000: "2 min 5 s"} {
		if got := Milliseconds(ms); got != want {
			t.Errorf("Milliseconds(%d) = %s, want %s", ms, got, want)
		}
	}
}

func TestDayRange(t *testing.T) {
	day := func(s string) time.Time {
		d, err := time.Parse(time.DateOnly, s)
		if err != nil {
			t.Fatal(err)
		}
		return d
	}
	tests := []struct{ first, last, want string }{
		{"2026-11-23", "2026-11-23", "23 Nov 2026"},
		{"2026-11-17", "2026-11-23", "17 – 23 Nov 2026"},
		{"2026-10-25", "2026-11-23", "25 Oct – 23 Nov 2026"},
		{"2025-12-30", "2026-01-02", "30 Dec 2025 – 2 Jan 2026"},
	}
	for _, tt := range tests {
		if got := DayRange(day(tt.first), day(tt.last)); got != tt.want {
			t.Errorf("DayRange(%s, %s) = %s, want %s", tt.first, tt.last, got, tt.want)
		}
	}
}
