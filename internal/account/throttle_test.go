package account

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func TestThrottle(t *testing.T) {
	ago := func(d time.Duration) time.Time { return noon.Add(-d) }
	tests := []struct {
		name  string
		state failures
		next  failures
		wait  time.Duration
	}{
		{"first attempt ever", failures{}, failures{Count: 1, LastAt: noon}, 0},
		{"last free one", failures{Count: 4, LastAt: ago(time.Second)}, failures{Count: 5, LastAt: noon}, 0},
		{"first that blocks", failures{Count: 5, LastAt: ago(time.Second)},
			failures{Count: 6, LastAt: noon, BlockedUntil: ptr(noon.Add(2 * time.Second))}, 0},
		{"twice as long", failures{Count: 6, LastAt: ago(3 * time.Second), BlockedUntil: ptr(ago(time.Second))},
			failures{Count: 7, LastAt: noon, BlockedUntil: ptr(noon.Add(4 * time.Second))}, 0},
		{"blocked", failures{Count: 7, LastAt: ago(time.Second), BlockedUntil: ptr(noon.Add(3 * time.Second))},
			failures{Count: 7, LastAt: ago(time.Second), BlockedUntil: ptr(noon.Add(3 * time.Second))}, 3 * time.Second},
		{"block just over", failures{Count: 7, LastAt: ago(4 * time.Second), BlockedUntil: ptr(noon)},
			failures{Count: 8, LastAt: noon, BlockedUntil: ptr(noon.Add(8 * time.Second))}, 0},
		{"never longer than the maximum", failures{Count: 1_000_000, LastAt: ago(time.Hour)},
			failures{Count: 1_000_001, LastAt: noon, BlockedUntil: ptr(noon.Add(throttleMax))}, 0},
		{"remembered for a day", failures{Count: 9, LastAt: ago(throttleForget - time.Second)},
			failures{Count: 10, LastAt: noon, BlockedUntil: ptr(noon.Add(32 * time.Second))}, 0},
		{"forgotten after it", failures{Count: 9, LastAt: ago(throttleForget)}, failures{Count: 1, LastAt: noon}, 0},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			next, wait := throttle(test.state, 5, noon)
			if diff := cmp.Diff(test.next, next); diff != "" || wait != test.wait {
				t.Errorf("wait %v, want %v; next (-want +got):\n%s", wait, test.wait, diff)
			}
		})
	}
}

// Somebody who tries as often as allowed gets fewer than 130 tries in a day.
func TestThrottleBoundsGuessing(t *testing.T) {
	var state failures
	tries := 0
	for now := noon; now.Before(noon.Add(24 * time.Hour)); {
		next, wait := throttle(state, freeFailuresAccount, now)
		if wait == 0 {
			tries++
		}
		state, now = next, now.Add(max(wait, time.Millisecond))
	}
	if tries < 100 || tries > 130 {
		t.Errorf("%d tries in a day", tries)
	}
}

func TestSubjects(t *testing.T) {
	tests := []struct{ ip, want string }{
		{"192.0.2.7", "ip:192.0.2.7"},
		{"::ffff:192.0.2.7", "ip:192.0.2.7"},
		{"2001:db8:1:2:3:4:5:6", "ip:2001:db8:1:2::/64"},
		{"2001:db8:1:2:ffff::1", "ip:2001:db8:1:2::/64"},
		{"fe80::1%eth0", "ip:fe80::/64"},
		{"", "ip:"},
	}
	for _, test := range tests {
		account, address := newAttempt("ada@example.org", test.ip).subjects()
		if address != test.want {
			t.Errorf("%q counts as %q, want %q", test.ip, address, test.want)
		}
		other, _ := newAttempt("bob@example.org", test.ip).subjects()
		elsewhere, _ := newAttempt("ada@example.org", "198.51.100.1").subjects()
		if account == other || account == elsewhere {
			t.Errorf("subject %q is shared", account)
		}
	}
}
