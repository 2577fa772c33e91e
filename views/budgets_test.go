package views

import (
	"net/url"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func ptr[T any](v T) *T { return &v }

func TestLimitUse(t *testing.T) {
	for _, tt := range []struct {
		used, limit string
		want        LimitUse
	}{
		{"0", "", LimitUse{Used: "$0.00"}},
		{"1234.5678", "", LimitUse{Used: "$1,234.5678"}},
		{"0", "25", LimitUse{Used: "$0.00", Limit: "$25.00", Left: "$25.00", Percent: "0%"}},
		{"12.345678", "25", LimitUse{Used: "$12.345678", Limit: "$25.00", Left: "$12.654322", Percent: "49.4%", Bar: 0.49382712}},
		{"20", "25", LimitUse{Used: "$20.00", Limit: "$25.00", Left: "$5.00", Percent: "80.0%", Bar: 0.8}},
		{"20.000000001", "25", LimitUse{Used: "$20.000000001", Limit: "$25.00", Left: "$4.999999999", Percent: "80.0%", Bar: 0.80000000004, Says: "Over 80%", Kind: "warning"}},
		{"24.9999999", "25", LimitUse{Used: "$24.9999999", Limit: "$25.00", Left: "$0.0000001", Percent: ">99.9%", Bar: 0.999999996, Says: "Over 80%", Kind: "warning"}},
		{"25", "25", LimitUse{Used: "$25.00", Limit: "$25.00", Percent: "100%", Bar: 1, Says: "Used up", Kind: "error"}},
		{"26.5", "25", LimitUse{Used: "$26.50", Limit: "$25.00", Percent: "106.0%", Bar: 1, Over: "$1.50", Says: "Over 100%", Kind: "error"}},
		{"0", "0", LimitUse{Used: "$0.00", Limit: "$0.00", Percent: "–", Bar: 1, Says: "Nothing may be spent", Kind: "error"}},
		{"0.1", "0", LimitUse{Used: "$0.10", Limit: "$0.00", Percent: "–", Bar: 1, Over: "$0.10", Says: "Over 100%", Kind: "error"}},
	} {
		got := LimitUseOf(usd(tt.used), nil)
		if tt.limit != "" {
			got = LimitUseOf(usd(tt.used), ptr(usd(tt.limit)))
		}
		if diff := cmp.Diff(tt.want, got); diff != "" {
			t.Errorf("%s of %q (-want +got):\n%s", tt.used, tt.limit, diff)
		}
	}
}

func TestLimitChanges(t *testing.T) {
	for query, want := range map[string]string{
		"": "",
		"dailyUsd=25&dailyUsd=1000.5&runsPerMinute=&runsPerMinute=10":                     " Daily budget: $1,000.50, was $25.00. Runs per minute and learner: 10 runs, was no limit.",
		"learnerDailyUsd=0.5&learnerDailyUsd=&fallbackMaxTokens=4096&fallbackMaxTokens=1": " Learner’s daily allowance: no limit, was $0.50. Longest answer on a fallback key: 1 token, was 4,096 tokens.",
		"dailyUsd=<b>&dailyUsd=25&runsPerMinute=1&runsPerMinute=x&nothing=1&nothing=2":    "",
		"dailyUsd=1e999999999&dailyUsd=1&concurrentRuns=1":                                "",
	} {
		changes, err := url.ParseQuery(query)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(want, LimitChanges(changes)); diff != "" {
			t.Errorf("%s (-want +got):\n%s", query, diff)
		}
	}
}

func TestMoment(t *testing.T) {
	at := time.Date(2026, 11, 24, 23, 30, 15, 9, time.FixedZone("CET", 3600))
	want := Moment{Local: "25 Nov 2026, 04:15 +0545", UTC: "24 Nov 2026, 22:30:15 UTC", Machine: "2026-11-24T22:30:15Z"}
	kathmandu, err := time.LoadLocation("Asia/Kathmandu")
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, MomentOf(at, kathmandu)); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
}
