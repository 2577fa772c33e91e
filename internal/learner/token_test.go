package learner

import (
	"context"
	"crypto/rand"
	"crypto/rsa"
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"
	"github.com/google/uuid"

	"github.com/promptcademy/promptops/internal/fault"
)

func TestVerifyAccepts(t *testing.T) {
	p := newProject(t)
	id := uuid.New()
	both := p.verifier(t, withSecret)
	onlySecret, err := NewVerifier(context.Background(), Options{JWTSecret: secret})
	if err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		name     string
		verifier *Verifier
		token    string
	}{
		{"HS256", both, sign(t, jwt.SigningMethodHS256, []byte(secret), "", p.claims(id, nil), nil)},
		{"HS256 with a kid", both, sign(t, jwt.SigningMethodHS256, []byte(secret), "legacy", p.claims(id, nil), nil)},
		{"HS256 of any issuer", onlySecret, sign(t, jwt.SigningMethodHS256, []byte(secret), "", p.claims(id, jwt.MapClaims{"iss": "elsewhere"}), nil)},
		{"ES256", both, sign(t, jwt.SigningMethodES256, p.ec, "ec", p.claims(id, nil), nil)},
		{"RS256", both, sign(t, jwt.SigningMethodRS256, p.rsa, "rsa", p.claims(id, nil), nil)},
		{"ES256 without a kid", both, sign(t, jwt.SigningMethodES256, p.ec, "", p.claims(id, nil), nil)},
		{"ES256 without a secret", p.verifier(t, nil), sign(t, jwt.SigningMethodES256, p.ec, "ec", p.claims(id, nil), nil)},
		{"several audiences", both, sign(t, jwt.SigningMethodES256, p.ec, "ec", p.claims(id, jwt.MapClaims{"aud": []string{"api", "authenticated"}}), nil)},
		{"just expired", both, sign(t, jwt.SigningMethodES256, p.ec, "ec", p.claims(id, jwt.MapClaims{"exp": noon.Add(-leeway + time.Second).Unix()}), nil)},
		{"valid in a moment", both, sign(t, jwt.SigningMethodES256, p.ec, "ec", p.claims(id, jwt.MapClaims{"nbf": noon.Add(leeway - time.Second).Unix()}), nil)},
		{"issued in the future", both, sign(t, jwt.SigningMethodES256, p.ec, "ec", p.claims(id, jwt.MapClaims{"iat": noon.Add(time.Hour).Unix()}), nil)},
		{"anonymity not mentioned", both, sign(t, jwt.SigningMethodES256, p.ec, "ec", p.claims(id, jwt.MapClaims{"is_anonymous": nil}), nil)},
		{"sub in capitals", both, sign(t, jwt.SigningMethodES256, p.ec, "ec", p.claims(id, jwt.MapClaims{"sub": strings.ToUpper(id.String())}), nil)},
	} {
		t.Run(test.name, func(t *testing.T) { accepted(t, test.verifier, test.token, Claims{LearnerID: id}) })
	}
}

func TestVerifyRefusesClaims(t *testing.T) {
	p := newProject(t)
	v := p.verifier(t, withSecret)
	for _, test := range []struct {
		name   string
		change jwt.MapClaims
		says   string
	}{
		{"expired", jwt.MapClaims{"exp": noon.Add(-leeway - time.Second).Unix()}, "has expired"},
		{"expires at the leeway", jwt.MapClaims{"exp": noon.Add(-leeway).Unix()}, "has expired"},
		{"no exp", jwt.MapClaims{"exp": nil}, "not one of this platform"},
		{"exp is text", jwt.MapClaims{"exp": "never"}, "not a JWT"},
		{"exp is huge", jwt.MapClaims{"exp": json.RawMessage("1e400")}, "not a JWT"},
		{"exp is before time began", jwt.MapClaims{"exp": json.RawMessage("-1e18")}, "has expired"},
		{"not valid yet", jwt.MapClaims{"nbf": noon.Add(leeway + time.Second).Unix()}, "not valid yet"},
		{"wrong audience", jwt.MapClaims{"aud": "somewhere"}, "not one of this platform"},
		{"wrong audiences", jwt.MapClaims{"aud": []string{"somewhere", "else"}}, "not one of this platform"},
		{"part of the audience", jwt.MapClaims{"aud": "authentic"}, "not one of this platform"},
		{"empty audience", jwt.MapClaims{"aud": ""}, "not one of this platform"},
		{"no audience in the list", jwt.MapClaims{"aud": []string{}}, "not one of this platform"},
		{"no audience", jwt.MapClaims{"aud": nil}, "not one of this platform"},
		{"audience is a number", jwt.MapClaims{"aud": 7}, "not a JWT"},
		{"wrong issuer", jwt.MapClaims{"iss": "https://other.supabase.co/auth/v1"}, "not one of this platform"},
		{"issuer is the bare project", jwt.MapClaims{"iss": p.URL}, "not one of this platform"},
		{"no issuer", jwt.MapClaims{"iss": nil}, "not one of this platform"},
		{"anon key", jwt.MapClaims{"role": "anon", "sub": nil, "aud": nil, "iss": "supabase"}, "project's API key"},
		{"service key", jwt.MapClaims{"role": "service_role", "sub": nil, "aud": nil, "iss": "supabase"}, "project's API key"},
		{"anon role with everything else", jwt.MapClaims{"role": "anon"}, "project's API key"},
		{"service role with everything else", jwt.MapClaims{"role": "service_role"}, "project's API key"},
		{"other role", jwt.MapClaims{"role": "postgres"}, "not a learner's"},
		{"no role", jwt.MapClaims{"role": nil}, "not a learner's"},
		{"no sub", jwt.MapClaims{"sub": nil}, "not a learner's"},
		{"empty sub", jwt.MapClaims{"sub": ""}, "not a learner's"},
		{"sub is no UUID", jwt.MapClaims{"sub": "' or true --"}, "not a learner's"},
		{"sub is a URN", jwt.MapClaims{"sub": "urn:uuid:" + uuid.NewString()}, "not a learner's"},
		{"sub in braces", jwt.MapClaims{"sub": "{" + uuid.NewString() + "}"}, "not a learner's"},
		{"sub without dashes", jwt.MapClaims{"sub": strings.ReplaceAll(uuid.NewString(), "-", "")}, "not a learner's"},
		{"sub is a number", jwt.MapClaims{"sub": 7}, "not a JWT"},
	} {
		for _, token := range []string{
			sign(t, jwt.SigningMethodES256, p.ec, "ec", p.claims(uuid.New(), test.change), nil),
			sign(t, jwt.SigningMethodHS256, []byte(secret), "", p.claims(uuid.New(), test.change), nil),
		} {
			t.Run(test.name, func(t *testing.T) {
				if said := refused(t, v, token, fault.Unauthenticated); !strings.Contains(said, test.says) {
					t.Errorf("says %q, want %q in it", said, test.says)
				}
			})
		}
	}
}

// Whoever knows the public keys must not be able to make a token of them.
func TestVerifyRefusesConfusion(t *testing.T) {
	p := newProject(t)
	both, onlyKeys := p.verifier(t, withSecret), p.verifier(t, nil)
	onlySecret, err := NewVerifier(context.Background(), Options{JWTSecret: secret})
	if err != nil {
		t.Fatal(err)
	}
	noKeys := newProject(t)
	noKeys.publish()
	noSecretAndNoKeys := noKeys.verifier(t, nil)

	mallory := newProject(t)
	jwk, err := json.Marshal(p.public["rsa"])
	if err != nil {
		t.Fatal(err)
	}
	good := p.claims(uuid.New(), nil)
	unsigned := sign(t, jwt.SigningMethodNone, jwt.UnsafeAllowNoneSignatureType, "", good, nil)
	signed := sign(t, jwt.SigningMethodES256, p.ec, "ec", good, nil)
	weak, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		name  string
		token string
	}{
		{"none", unsigned},
		{"None", encode([]byte(`{"alg":"None","typ":"JWT"}`)) + "." + strings.Split(unsigned, ".")[1] + "."},
		{"no alg", encode([]byte(`{"typ":"JWT","kid":"ec"}`)) + "." + strings.Split(unsigned, ".")[1] + "."},
		{"none with a kid", sign(t, jwt.SigningMethodNone, jwt.UnsafeAllowNoneSignatureType, "ec", good, nil)},
		{"signature cut off", signed[:strings.LastIndex(signed, ".")+1]},
		{"signature of another token", signed[:strings.LastIndex(signed, ".")+1] + strings.Split(sign(t, jwt.SigningMethodES256, p.ec, "ec", p.claims(uuid.New(), nil), nil), ".")[2]},
		{"signature of zeros", signed[:strings.LastIndex(signed, ".")+1] + encode(make([]byte, 64))},
		{"HS256 with the RSA key's PEM", sign(t, jwt.SigningMethodHS256, pemOf(t, p.rsa.Public()), "rsa", good, nil)},
		{"HS256 with the EC key's PEM", sign(t, jwt.SigningMethodHS256, pemOf(t, p.ec.Public()), "ec", good, nil)},
		{"HS256 with the JWK", sign(t, jwt.SigningMethodHS256, jwk, "rsa", good, nil)},
		{"HS256 with the modulus", sign(t, jwt.SigningMethodHS256, p.rsa.N.Bytes(), "rsa", good, nil)},
		{"HS256 with no secret", sign(t, jwt.SigningMethodHS256, []byte{}, "", good, nil)},
		{"HS256 with another secret", sign(t, jwt.SigningMethodHS256, []byte(secret+"!"), "", good, nil)},
		{"HS384 with the secret", sign(t, jwt.SigningMethodHS384, []byte(secret), "", good, nil)},
		{"HS512 with the secret", sign(t, jwt.SigningMethodHS512, []byte(secret), "", good, nil)},
		{"RS384", sign(t, jwt.SigningMethodRS384, p.rsa, "rsa", good, nil)},
		{"PS256", sign(t, jwt.SigningMethodPS256, p.rsa, "rsa", good, nil)},
		{"EdDSA with a key of the project", sign(t, jwt.SigningMethodEdDSA, p.ed, "ed", good, nil)},
		{"RS256 of another key", sign(t, jwt.SigningMethodRS256, weak, "rsa", good, nil)},
		{"ES256 of another project", sign(t, jwt.SigningMethodES256, mallory.ec, "ec", good, nil)},
		{"ES256 that names the RSA key", sign(t, jwt.SigningMethodES256, p.ec, "rsa", good, nil)},
		{"RS256 that names the EC key", sign(t, jwt.SigningMethodRS256, p.rsa, "ec", good, nil)},
		{"jku", sign(t, jwt.SigningMethodRS256, mallory.rsa, "rsa", good, map[string]any{"jku": mallory.URL + "/auth/v1/.well-known/jwks.json"})},
		{"jku alone", sign(t, jwt.SigningMethodRS256, mallory.rsa, "", good, map[string]any{"jku": mallory.URL + "/auth/v1/.well-known/jwks.json"})},
		{"jwk", sign(t, jwt.SigningMethodRS256, mallory.rsa, "", good, map[string]any{"jwk": mallory.public["rsa"]})},
		{"x5u", sign(t, jwt.SigningMethodRS256, mallory.rsa, "", good, map[string]any{"x5u": mallory.URL})},
		{"x5c", sign(t, jwt.SigningMethodRS256, mallory.rsa, "", good, map[string]any{"x5c": []string{encode(pemOf(t, mallory.rsa.Public()))}})},
		{"crit", sign(t, jwt.SigningMethodES256, p.ec, "ec", good, map[string]any{"crit": []string{"exp"}})},
		{"kid is a path", sign(t, jwt.SigningMethodHS256, []byte{}, "../../../../dev/null", good, nil)},
		{"kid is a number", sign(t, jwt.SigningMethodES256, p.ec, "", good, map[string]any{"kid": 7})},
	} {
		t.Run(test.name, func(t *testing.T) {
			for _, v := range []*Verifier{both, onlyKeys, onlySecret, noSecretAndNoKeys} {
				refused(t, v, test.token, fault.Unauthenticated)
			}
		})
	}
	if n := mallory.asked.Load(); n != 0 {
		t.Errorf("a header sent us to another server %d times", n)
	}

	// What is good for one is not good for another.
	for name, token := range map[string]string{
		"RS256": sign(t, jwt.SigningMethodRS256, p.rsa, "rsa", good, nil),
		"ES256": signed,
	} {
		t.Run(name+" where there is only a secret", func(t *testing.T) { refused(t, onlySecret, token, fault.Unauthenticated) })
	}
	t.Run("HS256 where there are only keys", func(t *testing.T) {
		refused(t, onlyKeys, sign(t, jwt.SigningMethodHS256, []byte(secret), "", good, nil), fault.Unauthenticated)
	})
}

func TestVerifyRefusesWhatIsNoToken(t *testing.T) {
	p := newProject(t)
	v := p.verifier(t, withSecret)
	good := sign(t, jwt.SigningMethodHS256, []byte(secret), "", p.claims(uuid.New(), nil), nil)
	megabyte := sign(t, jwt.SigningMethodHS256, []byte(secret), "", p.claims(uuid.New(), jwt.MapClaims{"more": strings.Repeat("m", 1<<20)}), nil)
	for _, test := range []struct{ name, token, says string }{
		{"nothing", "", "not a JWT"},
		{"a word", "token", "not a JWT"},
		{"dots", "..", "not a JWT"},
		{"many dots", strings.Repeat(".", 5000), "not a JWT"},
		{"with its scheme", "Bearer " + good, "not a JWT"},
		{"quoted", `"` + good + `"`, "not a JWT"},
		{"with a line break", good[:40] + "\n" + good[40:], "could not be verified"},
		{"NUL and high bytes", "\x00\xff.\xff\x00.\xfe", "not a JWT"},
		{"JSON null", encode([]byte("null")) + "." + encode([]byte("null")) + ".", "The access token"},
		{"claims are a list", strings.Split(good, ".")[0] + "." + encode([]byte("[]")) + "." + strings.Split(good, ".")[2], "not a JWT"},
		{"four parts", good + ".x", "not a JWT"},
		{"publishable key", "sb_publishable_abcdefghijklmnop_12345678", "project's API key"},
		{"secret key", "sb_secret_abcdefghijklmnop_12345678", "project's API key"},
		{"a megabyte", megabyte, "too long"},
	} {
		t.Run(test.name, func(t *testing.T) {
			if said := refused(t, v, test.token, fault.Unauthenticated); !strings.Contains(said, test.says) {
				t.Errorf("says %q, want %q in it", said, test.says)
			}
		})
	}
}

// Without a project the issuer counts only when it is given.
func TestVerifyIssuer(t *testing.T) {
	v, err := NewVerifier(context.Background(), Options{JWTSecret: secret, Issuer: "https://auth.example.org"})
	if err != nil {
		t.Fatal(err)
	}
	id := uuid.New()
	p := newProject(t)
	for issuer, good := range map[string]bool{"https://auth.example.org": true, "promptops": false, "": false} {
		token := sign(t, jwt.SigningMethodHS256, []byte(secret), "", p.claims(id, jwt.MapClaims{"iss": issuer}), nil)
		if _, err := v.Verify(context.Background(), token, noon); (err == nil) != good {
			t.Errorf("issuer %q: %v", issuer, err)
		}
	}
}

func TestVerifyAnonymous(t *testing.T) {
	p := newProject(t)
	id := uuid.New()
	token := sign(t, jwt.SigningMethodES256, p.ec, "ec", p.claims(id, jwt.MapClaims{"is_anonymous": true, "email": ""}), nil)
	refused(t, p.verifier(t, nil), token, fault.Forbidden)
	accepted(t, p.verifier(t, func(o *Options) { o.AllowAnonymous = true }), token, Claims{LearnerID: id, Anonymous: true})
	forged := sign(t, jwt.SigningMethodES256, newProject(t).ec, "ec", p.claims(id, jwt.MapClaims{"is_anonymous": true}), nil)
	refused(t, p.verifier(t, nil), forged, fault.Unauthenticated)
}

func TestMint(t *testing.T) {
	p := newProject(t)
	v := p.verifier(t, withSecret)
	ada := Learner{ID: uuid.New(), Email: "ada@example.org"}
	token, err := Mint(secret, Issuer(p.URL), ada, time.Hour, noon)
	if err != nil {
		t.Fatal(err)
	}
	accepted(t, v, token, Claims{LearnerID: ada.ID})
	for after, want := range map[time.Duration]fault.Kind{
		-time.Hour:                    "",
		time.Hour + leeway/2:          "",
		time.Hour + leeway:            fault.Unauthenticated,
		365 * 24 * time.Hour:          fault.Unauthenticated,
		time.Hour + leeway - 1:        "",
		time.Hour + leeway + 1:        fault.Unauthenticated,
		time.Hour - leeway:            "",
		time.Hour + 2*leeway:          fault.Unauthenticated,
		time.Hour - 1*time.Nanosecond: "",
	} {
		_, err := v.Verify(context.Background(), token, noon.Add(after))
		if (err == nil) != (want == "") || err != nil && fault.KindOf(err) != want {
			t.Errorf("%s later: %v, want %q", after, err, want)
		}
	}
	if _, err := Mint("", "", ada, time.Hour, noon); err == nil {
		t.Error("made a token without a secret")
	}
	if _, err := NewVerifier(context.Background(), Options{}); err == nil {
		t.Error("made a verifier that can verify nothing")
	}
}

// No bytes may panic, get in, or come back in the error.
func FuzzVerify(f *testing.F) {
	p := newProject(f)
	v := p.verifier(f, withSecret)
	for _, token := range []string{
		"", "a.b.c", "sb_secret_x", "eyJhbGciOiJub25lIn0.e30.",
		sign(f, jwt.SigningMethodHS256, []byte("other"), "k", p.claims(uuid.New(), nil), nil),
		sign(f, jwt.SigningMethodES256, p.ec, "ec", p.claims(uuid.New(), jwt.MapClaims{"exp": 1}), nil),
		encode([]byte(`{"alg":"ES256","kid":"ec","crit":["b64"],"b64":false}`)) + "." + encode([]byte(`{"aud":{"a":1}}`)) + ".",
	} {
		f.Add(token)
	}
	f.Fuzz(func(t *testing.T, token string) {
		ctx, cancel := context.WithCancel(context.Background())
		cancel() // nobody waits for a JWKS here
		if claims, err := v.Verify(ctx, token, noon); err == nil {
			t.Errorf("%q is %+v", token, claims)
		} else {
			quotesNothing(t, err, token)
		}
	})
}
