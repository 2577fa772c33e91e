package learner

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"maps"
	"math/big"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"
	"github.com/google/uuid"

	"github.com/promptcademy/promptops/internal/fault"
)

var noon = time.Date(2026, 11, 24, 12, 0, 0, 0, time.UTC)

const secret = "a secret of thirty-two characters"

// project is a Supabase project, as far as tokens go: a server of its JWKS, and
// the private keys.
type project struct {
	URL   string
	asked atomic.Int32

	jwks   atomic.Pointer[http.HandlerFunc]
	ec     *ecdsa.PrivateKey
	rsa    *rsa.PrivateKey
	ed     ed25519.PrivateKey
	public map[string]map[string]any // by kid
}

func newProject(t testing.TB) *project {
	t.Helper()
	p := &project{}
	var err error
	if p.ec, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader); err != nil {
		t.Fatal(err)
	}
	if p.rsa, err = rsa.GenerateKey(rand.Reader, 2048); err != nil {
		t.Fatal(err)
	}
	if _, p.ed, err = ed25519.GenerateKey(rand.Reader); err != nil {
		t.Fatal(err)
	}
	p.public = map[string]map[string]any{"ec": ecJWK(t, "ec", p.ec), "rsa": rsaJWK("rsa", p.rsa), "ed": {
		"kty": "OKP", "crv": "Ed25519", "kid": "ed", "alg": "EdDSA", "use": "sig", "x": encode(p.ed.Public().(ed25519.PublicKey)),
	}}
	p.publish("ec", "rsa", "ed")
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		p.asked.Add(1)
		if r.URL.Path != "/auth/v1/.well-known/jwks.json" {
			http.NotFound(w, r)
			return
		}
		(*p.jwks.Load())(w, r)
	}))
	t.Cleanup(server.Close)
	p.URL = server.URL
	return p
}

// publish makes these keys the JWKS.
func (p *project) publish(kids ...string) {
	keys := []map[string]any{}
	for _, kid := range kids {
		keys = append(keys, p.public[kid])
	}
	p.answer(http.StatusOK, map[string]any{"keys": keys})
}

// answer makes this the answer to whoever asks for the JWKS.
func (p *project) answer(status int, body any) {
	handler := http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(status)
		if text, ok := body.(string); ok {
			_, _ = w.Write([]byte(text))
			return
		}
		_ = json.NewEncoder(w).Encode(body)
	})
	p.jwks.Store(&handler)
}

// verifier returns one for this project; change may be nil.
func (p *project) verifier(t testing.TB, change func(*Options)) *Verifier {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	t.Cleanup(cancel)
	options := Options{SupabaseURL: p.URL}
	if change != nil {
		change(&options)
	}
	v, err := NewVerifier(ctx, options)
	if err != nil {
		t.Fatal(err)
	}
	return v
}

func withSecret(o *Options) { o.JWTSecret = secret }

// claims are those of a good token, with changes; nil takes a claim away.
func (p *project) claims(id uuid.UUID, changes jwt.MapClaims) jwt.MapClaims {
	claims := jwt.MapClaims{
		"iss": Issuer(p.URL), "sub": id.String(), "aud": "authenticated", "role": "authenticated", "email": "ada@example.org",
		"is_anonymous": false, "aal": "aal1", "session_id": uuid.NewString(),
		"iat": noon.Unix(), "exp": noon.Add(time.Hour).Unix(),
	}
	maps.Copy(claims, changes)
	maps.DeleteFunc(claims, func(_ string, value any) bool { return value == nil })
	return claims
}

// sign makes a token; more are further fields of its header.
func sign(t testing.TB, method jwt.SigningMethod, key any, kid string, claims jwt.Claims, more map[string]any) string {
	t.Helper()
	token := jwt.NewWithClaims(method, claims)
	if kid != "" {
		token.Header["kid"] = kid
	}
	maps.Copy(token.Header, more)
	signed, err := token.SignedString(key)
	if err != nil {
		t.Fatal(err)
	}
	return signed
}

func ecJWK(t testing.TB, kid string, key *ecdsa.PrivateKey) map[string]any {
	t.Helper()
	point, err := key.PublicKey.Bytes() // 4, x, y
	if err != nil {
		t.Fatal(err)
	}
	return map[string]any{"kty": "EC", "crv": "P-256", "kid": kid, "alg": "ES256", "use": "sig", "x": encode(point[1:33]), "y": encode(point[33:])}
}

func rsaJWK(kid string, key *rsa.PrivateKey) map[string]any {
	return map[string]any{"kty": "RSA", "kid": kid, "alg": "RS256", "use": "sig",
		"n": encode(key.N.Bytes()), "e": encode(big.NewInt(int64(key.E)).Bytes())}
}

func encode(b []byte) string { return base64.RawURLEncoding.EncodeToString(b) }

func pemOf(t testing.TB, key crypto.PublicKey) []byte {
	t.Helper()
	der, err := x509.MarshalPKIXPublicKey(key)
	if err != nil {
		t.Fatal(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der})
}

// refused checks that a token gets nobody in, with the right kind of error,
// which quotes nothing of the token.
func refused(t *testing.T, v *Verifier, token string, want fault.Kind) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	claims, err := v.Verify(ctx, token, noon)
	if err == nil {
		t.Fatalf("accepted as %+v", claims)
	}
	if claims != (Claims{}) {
		t.Errorf("claims %+v beside the error", claims)
	}
	if kind := fault.KindOf(err); kind != want {
		t.Errorf("got %v, want %s", err, want)
	}
	quotesNothing(t, err, token)
	return err.Error()
}

// quotesNothing checks that no part of the token stands in the error.
func quotesNothing(t *testing.T, err error, token string) {
	t.Helper()
	const long = 12 // shorter pieces are words
	said := strings.TrimPrefix(err.Error(), string(fault.KindOf(err)))
	for part := range strings.SplitSeq(token, ".") {
		decoded, _ := base64.RawURLEncoding.DecodeString(part)
		if fault.KindOf(err) == fault.Unavailable {
			decoded = nil // our own address, which the error names, is its issuer
		}
		for _, text := range []string{part, string(decoded)} {
			for i := 0; i+long <= len(text); i += long / 2 {
				if strings.Contains(said, text[i:i+long]) {
					t.Errorf("the error quotes %q of the token: %v", text[i:i+long], err)
				}
			}
		}
	}
}

// accepted checks that a token is the learner's.
func accepted(t *testing.T, v *Verifier, token string, want Claims) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	got, err := v.Verify(ctx, token, noon)
	if err != nil {
		t.Fatal(err)
	}
	if got != want {
		t.Errorf("got %+v, want %+v", got, want)
	}
}
