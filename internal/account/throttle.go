package account

import (
	"crypto/sha256"
	"encoding/hex"
	"net/netip"
	"time"
)

// Attempts to sign in are counted for an account as seen from one address, and
// for an address. An account is never blocked for everybody: whoever tries
// passwords elsewhere cannot lock its owner out.
//
// The first few failures cost nothing. Each further one blocks twice as long
// as the one before. After a quiet day all is forgotten.
const (
	throttleFirst  = 2 * time.Second
	throttleMax    = 15 * time.Minute
	throttleForget = 24 * time.Hour
)

// Failures that cost nothing. Many people can share one address.
const (
	freeFailuresAccount = 5
	freeFailuresAddress = 25
)

// failures is what is known about one subject: a row of ops.sign_in_failures.
type failures struct {
	Count        int
	LastAt       time.Time
	BlockedUntil *time.Time // nil: never was
}

// throttle decides on one more attempt. If it has to wait, wait says how long
// and next is state. Otherwise wait is 0, and next counts the attempt as a
// failure, to be taken back when it succeeds: counting before the password is
// checked keeps many attempts at once from all being the first.
func throttle(state failures, free int, now time.Time) (next failures, wait time.Duration) {
	if state.BlockedUntil != nil && state.BlockedUntil.After(now) {
		return state, state.BlockedUntil.Sub(now)
	}
	if now.Sub(state.LastAt) >= throttleForget {
		state.Count = 0
	}
	next = failures{Count: state.Count + 1, LastAt: now}
	if delay := throttleDelay(next.Count - free); delay > 0 {
		until := now.Add(delay)
		next.BlockedUntil = &until
	}
	return next, 0
}

// throttleDelay is how long the nth failure beyond the free ones blocks.
func throttleDelay(n int) time.Duration {
	if n < 1 {
		return 0
	}
	delay := throttleFirst
	for ; n > 1 && delay < throttleMax; n-- {
		delay *= 2
	}
	return min(delay, throttleMax)
}

// attempt is one attempt to sign in, as far as throttling and the log care.
type attempt struct {
	ip      string
	account string // a hash: people type their password into the wrong field
}

func newAttempt(email, ip string) attempt {
	sum := sha256.Sum256([]byte(email))
	return attempt{ip: ip, account: hex.EncodeToString(sum[:8])}
}

// subjects are the rows of ops.sign_in_failures that the attempt counts in.
func (a attempt) subjects() (account, address string) {
	network := a.ip
	if ip, err := netip.ParseAddr(a.ip); err == nil {
		ip = ip.Unmap().WithZone("")
		network = ip.String()
		if ip.Is6() {
			// One customer has a /64: single addresses are free for the taking.
			network = netip.PrefixFrom(ip, 64).Masked().String()
		}
	}
	return "account:" + a.account + "@" + network, "ip:" + network
}
