package account

import (
	"context"
	"fmt"
	"log/slog"
	"math"
	"strings"
	"time"

	"github.com/google/uuid"

	"github.com/promptcademy/promptops/internal/fault"
)

// SignIn returns the operator whose e-mail address and password these are. It
// counts and logs the attempt; ip is the caller's address.
//
// An unknown address, a wrong password and a disabled operator all give the
// same fault.Unauthenticated after the same work, so that nobody learns who
// has an account. After too many failures it is fault.RateLimited, with
// RetryAfter, whatever the password.
func (s *Store) SignIn(ctx context.Context, email, password, ip string, now time.Time) (Operator, error) {
	try := newAttempt(strings.ToLower(strings.TrimSpace(email)), ip)
	wait, err := s.admit(ctx, try, now)
	if err != nil {
		return Operator{}, err
	}
	if wait > 0 {
		s.logRefused(ctx, try, nil, "throttled")
		return Operator{}, fault.New(fault.RateLimited,
			"Too many attempts to sign in. Try again in %s.", inWords(wait)).After(wait)
	}

	found, err := s.credentials(ctx, normalEmail(email))
	if err != nil {
		return Operator{}, err
	}
	ok, outdated, err := s.hasher.verify(ctx, password, found.PasswordHash)
	if err != nil {
		return Operator{}, fmt.Errorf("verify password: %w", err)
	}
	if reason := found.refusal(ok); reason != "" {
		s.logRefused(ctx, try, found.ID, reason)
		return Operator{}, wrongCredentials()
	}

	rehashed := found.PasswordHash
	if outdated {
		if rehashed, err = s.hasher.hash(ctx, password); err != nil {
			return Operator{}, fmt.Errorf("hash password: %w", err)
		}
	}
	operator, err := s.signedIn(ctx, found, rehashed, try, now)
	if fault.KindOf(err) == fault.Unauthenticated {
		s.logRefused(ctx, try, found.ID, "changed_meanwhile")
	}
	if err != nil {
		return Operator{}, err
	}
	s.log.InfoContext(ctx, "operator_sign_in", "source", "account", "via", "password",
		"operatorId", operator.ID, "ip", ip)
	return operator, nil
}

// credentials are what SignIn compares with. The zero value is an unknown
// account.
type credentials struct {
	ID           *uuid.UUID
	PasswordHash string // empty: none
	Disabled     bool
}

// refusal says why c may not sign in, for the log; empty if it may.
func (c credentials) refusal(passwordFits bool) string {
	switch {
	case c.ID == nil:
		return "unknown_account"
	case c.PasswordHash == "":
		return "no_password"
	case !passwordFits:
		return "wrong_password"
	case c.Disabled:
		return "disabled"
	}
	return ""
}

func wrongCredentials() *fault.Error {
	return fault.New(fault.Unauthenticated, "The e-mail address or the password is not right.")
}

func (s *Store) logRefused(ctx context.Context, try attempt, id *uuid.UUID, reason string) {
	s.log.LogAttrs(ctx, slog.LevelWarn, "operator_sign_in_refused", slog.String("source", "account"),
		slog.String("reason", reason), slog.Any("operatorId", id),
		slog.String("accountHash", try.account), slog.String("ip", try.ip))
}

// inWords rounds up, so that trying again then does work.
func inWords(d time.Duration) string {
	seconds := int(math.Ceil(d.Seconds()))
	switch {
	case seconds == 1:
		return "1 second"
	case seconds < 120:
		return fmt.Sprintf("%d seconds", seconds)
	}
	return fmt.Sprintf("%d minutes", (seconds+59)/60)
}
