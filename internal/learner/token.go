// Package learner is the people who learn on Promptcademy, as far as the run
// endpoint needs them: whose access token it is, and whether they may run.
package learner

import (
	"cmp"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/golang-jwt/jwt/v5"
	"github.com/google/uuid"
	lru "github.com/hashicorp/golang-lru/v2"

	"github.com/promptcademy/promptops/internal/fault"
)

const (
	maxToken      = 16 << 10 // bytes; Supabase's are one or two KiB
	leeway        = 30 * time.Second
	audience      = "authenticated"
	roleOfLearner = "authenticated"

	// A good token is not verified again for this long: a learner sends the same
	// one for an hour.
	rememberFor  = time.Minute
	mostVerified = 10_000 // tokens, of some 200 bytes each
)

// Options say which tokens to accept. At least one of SupabaseURL and JWTSecret
// has to be set; with both, either kind is accepted.
type Options struct {
	SupabaseURL    string       // project address: its JWKS verifies ES256 and RS256 tokens, and it names the issuer of every token
	JWTSecret      string       // verifies HS256 tokens, its bytes as they are
	Issuer         string       // the only issuer to accept; default SupabaseURL's, and without one any: only who knows JWTSecret can sign
	AllowAnonymous bool         // let anonymous sign-ins run
	HTTPClient     *http.Client // reads the JWKS; nil: one that follows no redirects
}

// Claims is what a verified token says.
type Claims struct {
	LearnerID uuid.UUID
	Anonymous bool
}

// Verifier verifies Supabase access tokens. It is safe for concurrent use.
type Verifier struct {
	secret         []byte  // nil: no HS256
	keys           *keySet // nil: HS256 only
	allowAnonymous bool
	parser         *jwt.Parser // looks at the signature only
	rules          []jwt.ParserOption
	verified       *lru.Cache[[sha256.Size]byte, verified] // by the token's hash: no token is kept
}

// verified is what a good token says. It holds between two moments and while the
// project's keys are the same.
type verified struct {
	claims      Claims
	from, until time.Time
	keys        *keySetState
}

// NewVerifier returns a Verifier. It begins to read the project's keys, so that
// the first token need not wait for them, and does not wait itself. ctx is for
// that reading only.
func NewVerifier(ctx context.Context, options Options) (*Verifier, error) {
	if options.SupabaseURL == "" && options.JWTSecret == "" {
		return nil, errors.New("set SUPABASE_URL or SUPABASE_JWT_SECRET, to verify learners' tokens")
	}
	v := &Verifier{
		allowAnonymous: options.AllowAnonymous,
		parser: jwt.NewParser(jwt.WithoutClaimsValidation(), jwt.WithValidMethods([]string{
			jwt.SigningMethodHS256.Alg(), jwt.SigningMethodES256.Alg(), jwt.SigningMethodRS256.Alg(),
		})),
		rules: []jwt.ParserOption{jwt.WithLeeway(leeway), jwt.WithExpirationRequired(), jwt.WithAudience(audience)},
	}
	var err error
	if v.verified, err = lru.New[[sha256.Size]byte, verified](mostVerified); err != nil {
		return nil, err
	}
	if options.JWTSecret != "" {
		v.secret = []byte(options.JWTSecret)
	}
	issuer := options.Issuer
	if options.SupabaseURL != "" {
		if u, err := url.Parse(options.SupabaseURL); err != nil || u.Host == "" {
			return nil, errors.New("SUPABASE_URL must be the project's address, like https://abc.supabase.co")
		}
		issuer = cmp.Or(issuer, Issuer(options.SupabaseURL))
		client := options.HTTPClient
		if client == nil {
			client = &http.Client{CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
		}
		v.keys = newKeySet(Issuer(options.SupabaseURL)+"/.well-known/jwks.json", client)
		unread := v.keys.state.Load()
		go func() { _ = v.keys.refresh(ctx, unread, false) }() // how it went is seen when a token needs the keys
	}
	if issuer != "" {
		v.rules = append(v.rules, jwt.WithIssuer(issuer))
	}
	return v, nil
}

// tokenClaims are the claims of Supabase Auth that matter here.
type tokenClaims struct {
	jwt.RegisteredClaims
	Role      string `json:"role"`
	Anonymous bool   `json:"is_anonymous"`
}

const sendAccessToken = "This is a project's API key, not a learner's access token. Send the access token of the learner's session."

// Verify returns what a valid access token says. Every other token is
// fault.Unauthenticated, an anonymous sign-in fault.Forbidden unless allowed,
// and fault.Unavailable means that the project's keys could not be read. No
// error holds the token or a part of it.
func (v *Verifier) Verify(ctx context.Context, token string, now time.Time) (Claims, error) {
	hash := sha256.Sum256([]byte(token))
	keys, fresh := v.keys.known()
	if before, ok := v.verified.Get(hash); ok && fresh && before.keys == keys && !now.Before(before.from) && now.Before(before.until) {
		return before.claims, nil
	}
	claims, expires, err := v.verify(ctx, token, now)
	if err != nil {
		return Claims{}, err
	}
	until := now.Add(rememberFor)
	if expires.Before(until) {
		until = expires
	}
	// keys are those of before: if they changed meanwhile, this is no good.
	v.verified.Add(hash, verified{claims, now, until, keys})
	return claims, nil
}

// verify is Verify without a memory. It also returns when the token expires.
func (v *Verifier) verify(ctx context.Context, token string, now time.Time) (Claims, time.Time, error) {
	refuse := func(message string, cause error) (Claims, time.Time, error) {
		return Claims{}, time.Time{}, fault.New(fault.Unauthenticated, "%s", message).Because(cause)
	}
	switch {
	case strings.HasPrefix(token, "sb_publishable_") || strings.HasPrefix(token, "sb_secret_"):
		return refuse(sendAccessToken, nil)
	case len(token) > maxToken:
		return refuse("The access token is too long to be one.", fmt.Errorf("%d bytes", len(token)))
	}
	var claims tokenClaims
	_, err := v.parser.ParseWithClaims(token, &claims, func(t *jwt.Token) (any, error) { return v.key(ctx, t) })
	if errors.Is(err, errKeysAway) {
		return Claims{}, time.Time{}, fault.New(fault.Unavailable, "Access tokens cannot be verified right now. Try again in a moment.").After(jwksRetry).Because(err)
	}
	if claims.Role == "anon" || claims.Role == "service_role" {
		return refuse(sendAccessToken, err)
	}
	if err == nil {
		rules := append(slices.Clone(v.rules), jwt.WithTimeFunc(func() time.Time { return now }))
		err = jwt.NewValidator(rules...).Validate(claims)
	}
	if err != nil {
		return refuse(reason(err), err)
	}
	id, err := uuid.Parse(claims.Subject)
	if err != nil || len(claims.Subject) != len(uuid.Nil.String()) {
		return refuse("This access token is not a learner's.", errors.New("sub is not a UUID"))
	}
	if claims.Role != roleOfLearner {
		return refuse("This access token is not a learner's.", errors.New("role is not authenticated"))
	}
	if claims.Anonymous && !v.allowAnonymous {
		return Claims{}, time.Time{}, fault.New(fault.Forbidden, "Anonymous sign-ins may not run prompts. Sign up first.")
	}
	return Claims{LearnerID: id, Anonymous: claims.Anonymous}, claims.ExpiresAt.Time, nil
}

// key returns the key for a token's kind of signature: the secret only ever for
// HS256, a public key only ever for the algorithm that its own kind allows. Of
// the token's header nothing counts but alg and kid.
func (v *Verifier) key(ctx context.Context, t *jwt.Token) (any, error) {
	if _, ok := t.Header["crit"]; ok {
		return nil, errors.New("the header demands extensions (crit)")
	}
	alg := t.Method.Alg()
	if alg == jwt.SigningMethodHS256.Alg() {
		if v.secret == nil {
			return nil, errors.New("the token is signed with HS256, and SUPABASE_JWT_SECRET is not set")
		}
		return v.secret, nil
	}
	if v.keys == nil {
		return nil, fmt.Errorf("the token is signed with %s, and SUPABASE_URL is not set", alg)
	}
	id, ok := t.Header["kid"].(string)
	if _, given := t.Header["kid"]; given && !ok {
		return nil, errors.New("the header's kid is not text")
	}
	keys, err := v.keys.find(ctx, id, alg)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", alg, err)
	}
	return keys, nil
}

// reason words a refusal for whoever sent the token.
func reason(err error) string {
	switch {
	case errors.Is(err, errUnknownKey):
		return "The access token is signed with a key that is no longer in use. Sign in again."
	case errors.Is(err, jwt.ErrTokenMalformed):
		return "The access token is not a JWT. Send the access token of the learner's session."
	case errors.Is(err, jwt.ErrTokenSignatureInvalid), errors.Is(err, jwt.ErrTokenUnverifiable):
		return "The access token could not be verified."
	case errors.Is(err, jwt.ErrTokenExpired):
		return "The access token has expired. Refresh the session and try again."
	case errors.Is(err, jwt.ErrTokenNotValidYet):
		return "The access token is not valid yet."
	default: // issuer, audience, or no end
		return "The access token is not one of this platform."
	}
}

// Issuer is who issues the tokens of a Supabase project; without one, of this
// program.
func Issuer(supabaseURL string) string {
	if supabaseURL == "" {
		return "promptops"
	}
	return strings.TrimRight(supabaseURL, "/") + "/auth/v1"
}

// Mint makes a learner's HS256 access token that is valid for ttl, for trying
// the endpoint.
func Mint(secret, issuer string, who Learner, ttl time.Duration, now time.Time) (string, error) {
	if secret == "" {
		return "", errors.New("tokens can be made only with SUPABASE_JWT_SECRET, or with the secret of the embedded database")
	}
	return jwt.NewWithClaims(jwt.SigningMethodHS256, jwt.MapClaims{
		"iss": issuer, "sub": who.ID.String(), "aud": audience, "role": roleOfLearner, "email": who.Email,
		"is_anonymous": who.Anonymous, "iat": now.Unix(), "exp": now.Add(ttl).Unix(),
	}).SignedString([]byte(secret))
}
