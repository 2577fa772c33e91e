package learner

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"
	"github.com/google/uuid"

	"github.com/promptcademy/promptops/internal/fault"
)

// A new signing key is fetched when the first token of it comes, and strangers
// cannot make us fetch again and again.
func TestKeyRotation(t *testing.T) {
	p := newProject(t)
	p.publish("ec")
	v := p.verifier(t, nil)
	id := uuid.New()
	old := sign(t, jwt.SigningMethodES256, p.ec, "ec", p.claims(id, nil), nil)
	next := sign(t, jwt.SigningMethodRS256, p.rsa, "rsa", p.claims(id, nil), nil)
	accepted(t, v, old, Claims{LearnerID: id})
	if n := p.asked.Load(); n != 1 {
		t.Errorf("the keys were read %d times before a token needed new ones", n)
	}

	p.publish("ec", "rsa")
	accepted(t, v, next, Claims{LearnerID: id})
	accepted(t, v, old, Claims{LearnerID: id})
	if n := p.asked.Load(); n != 2 {
		t.Errorf("the keys were read %d times, want 2", n)
	}

	stranger := newProject(t)
	for range 20 {
		refused(t, v, sign(t, jwt.SigningMethodES256, stranger.ec, uuid.NewString(), p.claims(id, nil), nil), fault.Unauthenticated)
	}
	if n := p.asked.Load(); n > 3 {
		t.Errorf("tokens of unknown keys made us read the keys %d times", n)
	}
}

// A key that was taken back opens nothing once that is known.
func TestKeyRevoked(t *testing.T) {
	p := newProject(t)
	p.publish("ec")
	v := p.verifier(t, nil)
	id := uuid.New()
	old := sign(t, jwt.SigningMethodES256, p.ec, "ec", p.claims(id, nil), nil)
	accepted(t, v, old, Claims{LearnerID: id})
	p.publish("rsa")
	accepted(t, v, sign(t, jwt.SigningMethodRS256, p.rsa, "rsa", p.claims(id, nil), nil), Claims{LearnerID: id})
	refused(t, v, old, fault.Unauthenticated)
}

// A project that signs with the shared secret has an empty JWKS.
func TestEmptyKeySet(t *testing.T) {
	p := newProject(t)
	p.publish()
	v := p.verifier(t, withSecret)
	id := uuid.New()
	accepted(t, v, sign(t, jwt.SigningMethodHS256, []byte(secret), "", p.claims(id, nil), nil), Claims{LearnerID: id})
	refused(t, v, sign(t, jwt.SigningMethodES256, p.ec, "ec", p.claims(id, nil), nil), fault.Unauthenticated)
	refused(t, v, sign(t, jwt.SigningMethodES256, p.ec, "", p.claims(id, nil), nil), fault.Unauthenticated)
}

// While the keys cannot be read nobody can say whether a token that names another
// one is good; those that were read go on being used.
func TestKeysAway(t *testing.T) {
	for _, outage := range []struct {
		name   string
		status int
		body   any
	}{
		{"server error", http.StatusInternalServerError, "oh no"},
		{"forbidden", http.StatusForbidden, `{"message":"no"}`},
		{"empty", http.StatusOK, ""},
		{"a page", http.StatusOK, "<html><title>Paused</title></html>"},
		{"something else", http.StatusOK, map[string]any{"message": "paused"}},
		{"keys are null", http.StatusOK, map[string]any{"keys": nil}},
		{"endless", http.StatusOK, `{"keys":[` + strings.Repeat(" ", 2<<20) + `]}`},
	} {
		t.Run(outage.name, func(t *testing.T) {
			p := newProject(t)
			p.answer(outage.status, outage.body)
			id := uuid.New()
			good := sign(t, jwt.SigningMethodES256, p.ec, "ec", p.claims(id, nil), nil)

			v := p.verifier(t, withSecret)
			if said := refused(t, v, good, fault.Unavailable); !strings.Contains(said, errKeysAway.Error()+": ") {
				t.Errorf("the log does not learn why: %s", said)
			}
			refused(t, v, good, fault.Unavailable)
			refused(t, v, sign(t, jwt.SigningMethodES256, p.ec, "", p.claims(id, nil), nil), fault.Unavailable)
			accepted(t, v, sign(t, jwt.SigningMethodHS256, []byte(secret), "", p.claims(id, nil), nil), Claims{LearnerID: id})
			refused(t, v, sign(t, jwt.SigningMethodHS256, []byte("wrong"), "", p.claims(id, nil), nil), fault.Unauthenticated)
			refused(t, v, "garbage", fault.Unauthenticated)

			// Back again, and away again.
			p.publish("ec")
			v = p.verifier(t, nil)
			accepted(t, v, good, Claims{LearnerID: id})
			p.answer(outage.status, outage.body)
			refused(t, v, sign(t, jwt.SigningMethodRS256, p.rsa, "rsa", p.claims(id, nil), nil), fault.Unavailable) // it may be new
			accepted(t, v, good, Claims{LearnerID: id})
		})
	}
}

// Whoever starts while the project is away is fine as soon as it is back.
func TestKeysComeBack(t *testing.T) {
	p := newProject(t)
	p.answer(http.StatusServiceUnavailable, "")
	v := p.verifier(t, nil)
	p.publish("ec")
	id := uuid.New()
	good := sign(t, jwt.SigningMethodES256, p.ec, "ec", p.claims(id, nil), nil)
	var all sync.WaitGroup
	for range 8 {
		all.Go(func() {
			ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
			defer cancel()
			claims, err := v.Verify(ctx, good, noon)
			if err == nil && claims.LearnerID != id || err != nil && fault.KindOf(err) != fault.Unavailable {
				t.Errorf("got %+v, %v", claims, err)
			}
		})
	}
	all.Wait()
	accepted(t, v, good, Claims{LearnerID: id})
}

// Nobody there at all is not the same as a forged token.
func TestNobodyAtTheAddress(t *testing.T) {
	gone := httptest.NewServer(http.NotFoundHandler())
	gone.Close()
	p := newProject(t)
	v := p.verifier(t, func(o *Options) { o.SupabaseURL = gone.URL })
	refused(t, v, sign(t, jwt.SigningMethodES256, p.ec, "ec", p.claims(uuid.New(), nil), nil), fault.Unavailable)
	if _, err := NewVerifier(context.Background(), Options{SupabaseURL: "://"}); err == nil {
		t.Error("made a verifier of an address that is none")
	}
}

// Keys are not believed for longer than ten minutes, unless they cannot be read.
func TestKeysGrowOld(t *testing.T) {
	p := newProject(t)
	p.publish("ec")
	v := p.verifier(t, nil)
	start := time.Now()
	at := func(after time.Duration) { v.keys.now = func() time.Time { return start.Add(after) } }
	id := uuid.New()
	token := sign(t, jwt.SigningMethodES256, p.ec, "ec", p.claims(id, nil), nil)
	accepted(t, v, token, Claims{LearnerID: id})

	p.answer(http.StatusBadGateway, "")
	at(jwksMaxAge - time.Minute)
	accepted(t, v, token, Claims{LearnerID: id})
	if n := p.asked.Load(); n != 1 {
		t.Errorf("the keys were read %d times before they were old", n)
	}
	at(jwksMaxAge + time.Minute)
	for range 5 {
		accepted(t, v, token, Claims{LearnerID: id})
	}
	if n := p.asked.Load(); n != 2 {
		t.Errorf("old keys that cannot be read were asked for %d times, want 2", n)
	}
	p.publish("rsa")
	at(jwksMaxAge + time.Minute + jwksRetry)
	refused(t, v, token, fault.Unauthenticated)
}

// Many tokens at once, signed with a key that has just been made, are all good
// after one look.
func TestRotationUnderLoad(t *testing.T) {
	p := newProject(t)
	p.publish("ec")
	v := p.verifier(t, nil)
	id := uuid.New()
	accepted(t, v, sign(t, jwt.SigningMethodES256, p.ec, "ec", p.claims(id, nil), nil), Claims{LearnerID: id})
	p.publish("ec", "rsa")
	token := sign(t, jwt.SigningMethodRS256, p.rsa, "rsa", p.claims(id, nil), nil)
	var all sync.WaitGroup
	for range 50 {
		all.Go(func() {
			if _, err := v.Verify(context.Background(), token, noon); err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
	if n := p.asked.Load(); n != 2 {
		t.Errorf("the keys were read %d times, want 2", n)
	}
}

// Keys of a kind that is not for signing tokens here, and broken ones, open
// nothing and do not keep the good ones away.
func TestKeysOfNoUse(t *testing.T) {
	p := newProject(t)
	p384, err := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	short, err := rsa.GenerateKey(rand.Reader, 1024)
	if err != nil {
		t.Fatal(err)
	}
	point, err := p384.PublicKey.Bytes()
	if err != nil {
		t.Fatal(err)
	}
	forEncryption, forPS256 := rsaJWK("enc", p.rsa), rsaJWK("ps", p.rsa)
	forEncryption["use"], forPS256["alg"] = "enc", "PS256"
	p.answer(http.StatusOK, map[string]any{"keys": []any{
		map[string]any{"kty": "EC", "crv": "P-256", "kid": "broken", "x": "AA", "y": "AA"},
		map[string]any{"kty": "oct", "kid": "oct", "alg": "HS256", "k": encode([]byte(secret))},
		map[string]any{"kty": "EC", "crv": "P-384", "kid": "p384", "x": encode(point[1:49]), "y": encode(point[49:])},
		rsaJWK("short", short), forEncryption, forPS256, "text", nil, p.public["ec"],
	}})
	v := p.verifier(t, nil)
	id := uuid.New()
	for name, token := range map[string]string{
		"oct":            sign(t, jwt.SigningMethodHS256, []byte(secret), "oct", p.claims(id, nil), nil),
		"short RSA":      sign(t, jwt.SigningMethodRS256, short, "short", p.claims(id, nil), nil),
		"for encryption": sign(t, jwt.SigningMethodRS256, p.rsa, "enc", p.claims(id, nil), nil),
		"for PS256":      sign(t, jwt.SigningMethodRS256, p.rsa, "ps", p.claims(id, nil), nil),
		"RSA, no kid":    sign(t, jwt.SigningMethodRS256, p.rsa, "", p.claims(id, nil), nil),
		"P-384":          sign(t, jwt.SigningMethodES384, p384, "p384", p.claims(id, nil), nil),
	} {
		t.Run(name, func(t *testing.T) { refused(t, v, token, fault.Unauthenticated) })
	}
	accepted(t, v, sign(t, jwt.SigningMethodES256, p.ec, "ec", p.claims(id, nil), nil), Claims{LearnerID: id})
}
