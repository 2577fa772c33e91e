package learner

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"
	"github.com/google/uuid"

	"github.com/promptcademy/promptops/internal/fault"
)

// remembered says whether a token would not be looked at again.
func remembered(t *testing.T, v *Verifier, token string, now time.Time) bool {
	t.Helper()
	// The parser stands for all that is done with a token.
	parser := v.parser
	defer func() { v.parser = parser }()
	v.parser = jwt.NewParser(jwt.WithValidMethods([]string{"none"}))
	_, err := v.Verify(context.Background(), token, now)
	return err == nil
}

// withKeys returns a verifier that has read the project's keys: what is verified
// before that is not remembered.
func withKeys(t *testing.T, p *project) *Verifier {
	t.Helper()
	v := p.verifier(t, withSecret)
	if err := verify(t, v, sign(t, jwt.SigningMethodES256, p.ec, "ec", p.claims(uuid.New(), nil), nil), noon); err != nil {
		t.Fatal(err)
	}
	v.verified.Purge()
	return v
}

func verify(t *testing.T, v *Verifier, token string, now time.Time) error {
	t.Helper()
	_, err := v.Verify(context.Background(), token, now)
	return err
}

func TestGoodTokensAreRemembered(t *testing.T) {
	p := newProject(t)
	v := withKeys(t, p)
	for name, token := range map[string]string{
		"HS256": sign(t, jwt.SigningMethodHS256, []byte(secret), "", p.claims(uuid.New(), nil), nil),
		"ES256": sign(t, jwt.SigningMethodES256, p.ec, "ec", p.claims(uuid.New(), nil), nil),
		"RS256": sign(t, jwt.SigningMethodRS256, p.rsa, "rsa", p.claims(uuid.New(), nil), nil),
	} {
		if err := verify(t, v, token, noon); err != nil {
			t.Fatal(name, err)
		}
		for after, want := range map[time.Duration]bool{-time.Second: false, 0: true, rememberFor - 1: true, rememberFor: false} {
			if got := remembered(t, v, token, noon.Add(after)); got != want {
				t.Errorf("%s: remembered %s later: %v", name, after, got)
			}
		}
	}
}

// Another token is never taken for one that is remembered, however alike.
func TestTamperedTokensAreNotRemembered(t *testing.T) {
	p := newProject(t)
	v := withKeys(t, p)
	good := sign(t, jwt.SigningMethodHS256, []byte(secret), "", p.claims(uuid.New(), nil), nil)
	accepted(t, v, good, claimsOf(t, v, good))
	other := sign(t, jwt.SigningMethodHS256, []byte(secret), "", p.claims(uuid.New(), nil), nil)
	parts, others := strings.Split(good, "."), strings.Split(other, ".")
	for i := range parts {
		mixed := strings.Split(good, ".")
		if mixed[i] = others[i]; mixed[i] != parts[i] {
			refused(t, v, strings.Join(mixed, "."), fault.Unauthenticated)
		}
	}
	for i := range good { // every bit of every character would be as good
		tampered := []byte(good)
		tampered[i] ^= 1
		if remembered(t, v, string(tampered), noon) {
			t.Errorf("character %d does not matter", i)
		}
	}
	if remembered(t, v, good+"=", noon) || remembered(t, v, good[:len(good)-1], noon) {
		t.Error("the length does not matter")
	}
}

func claimsOf(t *testing.T, v *Verifier, token string) Claims {
	t.Helper()
	claims, err := v.Verify(context.Background(), token, noon)
	if err != nil {
		t.Fatal(err)
	}
	return claims
}

func TestBadTokensAreNotRemembered(t *testing.T) {
	p := newProject(t)
	v := withKeys(t, p)
	for range 2 {
		refused(t, v, sign(t, jwt.SigningMethodHS256, []byte("wrong"), "", p.claims(uuid.New(), nil), nil), fault.Unauthenticated)
		refused(t, v, sign(t, jwt.SigningMethodHS256, []byte(secret), "", p.claims(uuid.New(), map[string]any{"is_anonymous": true}), nil), fault.Forbidden)
	}
	if n := v.verified.Len(); n != 0 {
		t.Errorf("%d are remembered", n)
	}
}

func TestExpiryIsNotForgotten(t *testing.T) {
	p := newProject(t)
	v := withKeys(t, p)
	token := sign(t, jwt.SigningMethodHS256, []byte(secret), "", p.claims(uuid.New(), jwt.MapClaims{"exp": noon.Add(10 * time.Second).Unix()}), nil)
	if err := verify(t, v, token, noon); err != nil {
		t.Fatal(err)
	}
	if !remembered(t, v, token, noon.Add(9*time.Second)) || remembered(t, v, token, noon.Add(10*time.Second)) {
		t.Error("remembered beyond its end, or not until then")
	}
	if err := verify(t, v, token, noon.Add(10*time.Second+leeway)); fault.KindOf(err) != fault.Unauthenticated {
		t.Errorf("expired: %v", err)
	}
	// Nor is the beginning, should the clock be set back.
	token = sign(t, jwt.SigningMethodHS256, []byte(secret), "", p.claims(uuid.New(), jwt.MapClaims{"nbf": noon.Unix()}), nil)
	if err := verify(t, v, token, noon); err != nil {
		t.Fatal(err)
	}
	if err := verify(t, v, token, noon.Add(-leeway-time.Second)); fault.KindOf(err) != fault.Unauthenticated {
		t.Errorf("not valid yet: %v", err)
	}
}

// A key that was taken back opens nothing from the moment on that the keys are
// read again, and they are read again as early as if nothing were remembered.
func TestRevokedKeysAreNotRemembered(t *testing.T) {
	p := newProject(t)
	p.publish("ec")
	v := withKeys(t, p)
	clock := time.Now()
	v.keys.now = func() time.Time { return clock }
	token := sign(t, jwt.SigningMethodES256, p.ec, "ec", p.claims(uuid.New(), nil), nil)
	if err := verify(t, v, token, noon); err != nil {
		t.Fatal(err)
	}
	p.publish("rsa")
	clock = clock.Add(jwksMaxAge - time.Minute)
	if !remembered(t, v, token, noon) {
		t.Error("forgotten although the keys are not due")
	}
	clock = clock.Add(time.Minute)
	refused(t, v, token, fault.Unauthenticated)
	refused(t, v, token, fault.Unauthenticated)
}

func TestFewTokensAreRemembered(t *testing.T) {
	p := newProject(t)
	v := withKeys(t, p)
	for i := range mostVerified + 100 {
		token := sign(t, jwt.SigningMethodHS256, []byte(secret), "", p.claims(uuid.New(), jwt.MapClaims{"n": fmt.Sprint(i)}), nil)
		if err := verify(t, v, token, noon); err != nil {
			t.Fatal(err)
		}
	}
	if n := v.verified.Len(); n != mostVerified {
		t.Errorf("%d tokens are remembered", n)
	}
}

func BenchmarkVerify(b *testing.B) {
	p := newProject(b)
	v := p.verifier(b, withSecret)
	token := sign(b, jwt.SigningMethodHS256, []byte(secret), "", p.claims(uuid.New(), nil), nil)
	signed := sign(b, jwt.SigningMethodES256, p.ec, "ec", p.claims(uuid.New(), nil), nil)
	for _, bench := range []struct {
		name, token string
		step        time.Duration // of the clock
	}{{"again", token, 0}, {"HS256 anew", token, -1}, {"ES256 anew", signed, -1}} {
		b.Run(bench.name, func(b *testing.B) {
			b.ReportAllocs()
			now := noon
			for b.Loop() {
				if _, err := v.Verify(b.Context(), bench.token, now); err != nil {
					b.Fatal(err)
				}
				now = now.Add(bench.step)
			}
		})
	}
}
