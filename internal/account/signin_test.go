package account

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/promptcademy/promptops/internal/audit"
	"github.com/promptcademy/promptops/internal/fault"
	"github.com/promptcademy/promptops/internal/postgres/pgtest"
)

const here, elsewhere = "192.0.2.7", "198.51.100.1"

func TestSignIn(t *testing.T) {
	ctx := context.Background()
	tx := pgtest.Tx(t)
	s, logged := newStore(tx)
	ada := makeAdmin(t, s, "ada@example.org")

	got, err := s.SignIn(ctx, " Ada@Example.org", goodPassword, here, noon)
	if err != nil {
		t.Fatal(err)
	}
	if got.ID != ada.ID || got.LastSignInAt == nil || !got.LastSignInAt.Equal(noon) {
		t.Errorf("signed in %+v", got)
	}
	if !strings.Contains(logged.String(), "msg=operator_sign_in source=account via=password operatorId="+ada.ID.String()+" ip="+here) {
		t.Errorf("logged %s", logged)
	}
}

// Nobody can tell an account that exists from one that does not: the error is
// the same, and so is the work.
func TestSignInRefusalsAreAlike(t *testing.T) {
	ctx := context.Background()
	s, logged := newStore(pgtest.Tx(t))
	makeAdmin(t, s, "ada@example.org")
	disabled := makeAdmin(t, s, "disabled@example.org")
	if err := s.Disable(ctx, audit.CommandLine, disabled.ID, noon); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Create(ctx, audit.CommandLine, NewOperator{Email: "new@example.org", Role: RoleAdmin}, noon); err != nil {
		t.Fatal(err)
	}
	tests := []struct{ reason, email, password string }{
		{"wrong_password", "ada@example.org", "seven loud lighthouses"},
		{"wrong_password", "disabled@example.org", "seven loud lighthouses"},
		{"disabled", "disabled@example.org", goodPassword},
		{"no_password", "new@example.org", goodPassword},
		{"no_password", "new@example.org", ""},
		{"unknown_account", "nobody@example.org", goodPassword},
		{"unknown_account", "no address\x00\xff", goodPassword},
		{"unknown_account", "", "\x00\xff"},
	}
	for i, test := range tests {
		t.Run(test.reason, func(t *testing.T) {
			logged.Reset()
			ip := fmt.Sprintf("192.0.2.%d", i)
			var before, after runtime.MemStats
			runtime.ReadMemStats(&before)
			_, err := s.SignIn(ctx, test.email, test.password, ip, noon)
			runtime.ReadMemStats(&after)

			wantKind(t, err, fault.Unauthenticated)
			if err.Error() != wrongCredentials().Error() {
				t.Errorf("error %v differs from the others", err)
			}
			// Argon2id fills its memory: whoever skips it allocates far less.
			if used := (after.TotalAlloc - before.TotalAlloc) / 1024; used < uint64(currentCost.memoryKiB) {
				t.Errorf("only %d KiB were used: no hash was computed", used)
			}
			for _, want := range []string{"operator_sign_in_refused", "reason=" + test.reason, "ip=" + ip} {
				if !strings.Contains(logged.String(), want) {
					t.Errorf("log lacks %s: %s", want, logged)
				}
			}
			for _, secret := range []string{test.email, test.password} {
				if secret != "" && strings.Contains(logged.String(), secret) {
					t.Errorf("log holds %q: %s", secret, logged)
				}
			}
		})
	}
}

func TestSignInIsThrottled(t *testing.T) {
	ctx := context.Background()
	tx := pgtest.Tx(t)
	s, logged := newStore(tx)
	makeAdmin(t, s, "ada@example.org")
	try := func(password, ip string, now time.Time) error {
		_, err := s.SignIn(ctx, "ada@example.org", password, ip, now)
		return err
	}

	for range freeFailuresAccount + 1 {
		wantKind(t, try("wrong", here, noon), fault.Unauthenticated)
	}
	err := try(goodPassword, here, noon)
	wantKind(t, err, fault.RateLimited)
	if limited, _ := errors.AsType[*fault.Error](err); limited.RetryAfter != 2*time.Second || !strings.Contains(limited.Message, "2 seconds") {
		t.Errorf("error is %v, to be retried after %v", limited, limited.RetryAfter)
	}
	if !strings.Contains(logged.String(), "reason=throttled") {
		t.Errorf("not logged: %s", logged)
	}

	// The owner gets in from another address, and here after the wait.
	if err := try(goodPassword, elsewhere, noon); err != nil {
		t.Errorf("locked out from another address: %v", err)
	}
	if err := try(goodPassword, here, noon.Add(2*time.Second)); err != nil {
		t.Errorf("after the wait: %v", err)
	}
	// Which gives this address all its free attempts back.
	for range freeFailuresAccount {
		wantKind(t, try("wrong", here, noon.Add(3*time.Second)), fault.Unauthenticated)
	}
	if err := try(goodPassword, here, noon.Add(3*time.Second)); err != nil {
		t.Errorf("after a correct sign-in: %v", err)
	}
}

func TestSignInIsThrottledByAddress(t *testing.T) {
	ctx := context.Background()
	tx := pgtest.Tx(t)
	s, _ := newStore(tx)
	makeAdmin(t, s, "ada@example.org")
	spray := func(i int) error {
		_, err := s.SignIn(ctx, fmt.Sprintf("user%d@example.org", i), "wrong", here, noon)
		return err
	}

	for i := range freeFailuresAddress {
		wantKind(t, spray(i), fault.Unauthenticated)
		if i%5 == 0 { // own, correct sign-ins in between do not help
			if _, err := s.SignIn(ctx, "ada@example.org", goodPassword, here, noon); err != nil {
				t.Fatal(err)
			}
		}
	}
	wantKind(t, spray(freeFailuresAddress), fault.Unauthenticated)
	before := count(t, tx, "ops.sign_in_failures")
	wantKind(t, spray(freeFailuresAddress+1), fault.RateLimited)
	if after := count(t, tx, "ops.sign_in_failures"); after != before {
		t.Error("an attempt that has to wait counts as a failure of the account")
	}
	if _, err := s.SignIn(ctx, "ada@example.org", goodPassword, elsewhere, noon); err != nil {
		t.Errorf("from another address: %v", err)
	}
}

// Attempts at the same moment, on several nodes, are not all the first.
func TestSignInIsThrottledAtOnce(t *testing.T) {
	ctx := context.Background()
	pool := pgtest.Database(t)
	var checked, limited atomic.Int32
	var nodes sync.WaitGroup
	for range 3 {
		s, _ := newStore(pool)
		for range freeFailuresAccount + 1 {
			nodes.Go(func() {
				switch _, err := s.SignIn(ctx, "ada@example.org", "wrong", here, noon); fault.KindOf(err) {
				case fault.Unauthenticated:
					checked.Add(1)
				case fault.RateLimited:
					limited.Add(1)
				default:
					t.Error(err)
				}
			})
		}
	}
	nodes.Wait()
	if checked.Load() != freeFailuresAccount+1 || limited.Load() != 2*(freeFailuresAccount+1) {
		t.Errorf("%d passwords were checked and %d attempts refused", checked.Load(), limited.Load())
	}
}

// The password changes while the old one is being checked.
func TestSignInWithAPasswordOfYesterday(t *testing.T) {
	ctx := context.Background()
	s, _ := newStore(pgtest.Tx(t))
	ada := makeAdmin(t, s, "ada@example.org")
	old, err := s.credentials(ctx, ada.Email)
	if err != nil {
		t.Fatal(err)
	}
	if err := s.SetPassword(ctx, audit.CommandLine, ada.ID, goodPassword+"!", noon); err != nil {
		t.Fatal(err)
	}
	_, err = s.signedIn(ctx, old, old.PasswordHash, newAttempt(ada.Email, here), noon)
	wantKind(t, err, fault.Unauthenticated)
	if now, err := s.credentials(ctx, ada.Email); err != nil || now.PasswordHash == old.PasswordHash {
		t.Errorf("the old password is back (%v)", err)
	}
}

func TestSignInRenewsTheHash(t *testing.T) {
	ctx := context.Background()
	tx := pgtest.Tx(t)
	s, _ := newStore(tx)
	ada := makeAdmin(t, s, "ada@example.org")
	const cheap = "$argon2id$v=19$m=256,t=3,p=2$c29tZXNhbHRzb21lc2FsdA$2TPQ4xRac7pirRrVxHao8xbKfZsXwmb4"
	if _, err := tx.Exec(ctx, `update ops.operators set password_hash = $2 where id = $1`, ada.ID, cheap); err != nil {
		t.Fatal(err)
	}
	stored := func() (phc string) {
		if err := tx.QueryRow(ctx, `select password_hash from ops.operators where id = $1`, ada.ID).Scan(&phc); err != nil {
			t.Fatal(err)
		}
		return phc
	}

	if _, err := s.SignIn(ctx, ada.Email, "wrong", here, noon); err == nil || stored() != cheap {
		t.Errorf("a wrong password changed the hash to %s (%v)", stored(), err)
	}
	if _, err := s.SignIn(ctx, ada.Email, goodPassword, here, noon); err != nil {
		t.Fatal(err)
	}
	renewed := stored()
	if !strings.HasPrefix(renewed, "$argon2id$v=19$m=19456,t=2,p=1$") {
		t.Errorf("hash is %s", renewed)
	}
	if _, err := s.SignIn(ctx, ada.Email, goodPassword, here, noon); err != nil || stored() != renewed {
		t.Errorf("with the new hash: %v; it is now %s", err, stored())
	}
}

func TestInWords(t *testing.T) {
	for d, want := range map[time.Duration]string{
		time.Millisecond:               "1 second",
		time.Second:                    "1 second",
		1001 * time.Millisecond:        "2 seconds",
		119 * time.Second:              "119 seconds",
		2 * time.Minute:                "2 minutes",
		2*time.Minute + 1:              "3 minutes",
		15 * time.Minute:               "15 minutes",
		14*time.Minute + 1*time.Second: "15 minutes",
	} {
		if got := inWords(d); got != want {
			t.Errorf("%v is %q, want %q", d, got, want)
		}
	}
}
