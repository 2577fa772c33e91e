// Package learner is the people who learn on Promptcademy, as far as the run
// endpoint needs them: whose access token it is, and whether they may run.
package learner

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/MicahParks/keyfunc/v3"
	"github.com/golang-jwt/jwt/v5"
	"github.com/google/uuid"
	"golang.org/x/time/rate"

	"github.com/promptcademy/promptops/internal/fault"
)

const (
	maxToken      = 8 << 10 // bytes; Supabase's are about one KiB
	leeway        = 30 * time.Second
	jwksTimeout   = 5 * time.Second
	jwksRefresh   = 10 * time.Minute // Supabase asks not to keep keys longer
	jwksUnknown   = 30 * time.Second // between two looks for a key we do not know
	audience      = "authenticated"
	roleOfLearner = "authenticated"
)

// Options say which tokens to accept. At least one of SupabaseURL and JWTSecret
// has to be set; with both, either kind is accepted.
type Options struct {
	SupabaseURL    string // project address: its JWKS verifies ES256 and RS256 tokens, and it names the issuer
	JWTSecret      string // verifies HS256 tokens; without SupabaseURL their issuer is not looked at
	AllowAnonymous bool   // let anonymous sign-ins run
}

// Claims is what a verified token says.
type Claims struct {
	LearnerID uuid.UUID
	Anonymous bool
}

// Verifier verifies Supabase access tokens. It is safe for concurrent use.
type Verifier struct {
	options Options
	parser  *jwt.Parser // checks the signature only
	rules   []jwt.ParserOption
	jwks    keyfunc.Keyfunc // nil: HS256 only
	fetched *atomic.Bool    // was the JWKS ever read?
}

// NewVerifier returns a Verifier. It reads the project's JWKS in the background
// until ctx is done; one that cannot be read now is asked for again when a token
// needs it.
func NewVerifier(ctx context.Context, options Options) (*Verifier, error) {
	v := &Verifier{options: options, fetched: &atomic.Bool{}}
	var methods []string
	if options.JWTSecret != "" {
		methods = append(methods, jwt.SigningMethodHS256.Alg())
	}
	v.rules = []jwt.ParserOption{jwt.WithLeeway(leeway), jwt.WithExpirationRequired(), jwt.WithAudience(audience)}
	if options.SupabaseURL != "" {
		issuer := options.SupabaseURL + "/auth/v1"
		v.rules = append(v.rules, jwt.WithIssuer(issuer))
		methods = append(methods, jwt.SigningMethodES256.Alg(), jwt.SigningMethodRS256.Alg())
		var err error
		v.jwks, err = keyfunc.NewDefaultOverrideCtx(ctx, []string{issuer + "/.well-known/jwks.json"}, keyfunc.Override{
			Client:            &http.Client{Transport: noteSuccess{v.fetched}, Timeout: jwksTimeout},
			HTTPTimeout:       jwksTimeout,
			RateLimitWaitMax:  jwksTimeout,
			RefreshInterval:   jwksRefresh,
			RefreshUnknownKID: rate.NewLimiter(rate.Every(jwksUnknown), 1),
			// What it means for a caller is said when a token needs the keys.
			RefreshErrorHandlerFunc: func(string) func(context.Context, error) { return func(context.Context, error) {} },
		})
		if err != nil {
			return nil, fmt.Errorf("SUPABASE_URL: %w", err)
		}
	}
	if len(methods) == 0 {
		return nil, errors.New("set SUPABASE_URL or SUPABASE_JWT_SECRET, to verify learners' tokens")
	}
	v.parser = jwt.NewParser(jwt.WithoutClaimsValidation(), jwt.WithValidMethods(methods))
	return v, nil
}

// noteSuccess remembers whether a request was ever answered with 200.
type noteSuccess struct{ seen *atomic.Bool }

func (n noteSuccess) RoundTrip(r *http.Request) (*http.Response, error) {
	response, err := http.DefaultTransport.RoundTrip(r)
	if err == nil && response.StatusCode == http.StatusOK {
		n.seen.Store(true)
	}
	return response, err
}

// tokenClaims are the claims of Supabase Auth that matter here.
type tokenClaims struct {
	jwt.RegisteredClaims
	Role      string `json:"role"`
	Anonymous bool   `json:"is_anonymous"`
}

// Verify returns what a valid access token says. Every other token is
// fault.Unauthenticated, an anonymous sign-in fault.Forbidden unless allowed,
// and fault.Unavailable means that the project's keys could not be read yet. No
// error holds the token.
func (v *Verifier) Verify(ctx context.Context, token string, now time.Time) (Claims, error) {
	refuse := func(message string, cause error) (Claims, error) {
		return Claims{}, fault.New(fault.Unauthenticated, "%s", message).Because(cause)
	}
	switch {
	case strings.HasPrefix(token, "sb_publishable_") || strings.HasPrefix(token, "sb_secret_"):
		return refuse("This is a project's API key. Send the learner's access token.", nil)
	case len(token) > maxToken:
		return refuse("The access token is too long to be one.", nil)
	}
	var claims tokenClaims
	_, err := v.parser.ParseWithClaims(token, &claims, func(t *jwt.Token) (any, error) { return v.key(ctx, t) })
	if errors.Is(err, errKeysAway) {
		return Claims{}, fault.New(fault.Unavailable, "Tokens cannot be verified right now. Try again in a moment.").After(jwksUnknown).Because(err)
	}
	if err == nil {
		rules := append(slices.Clone(v.rules), jwt.WithTimeFunc(func() time.Time { return now }))
		err = jwt.NewValidator(rules...).Validate(claims)
	}
	if claims.Role == "anon" || claims.Role == "service_role" {
		return refuse("This is a project's API key. Send the learner's access token.", err)
	}
	if err != nil {
		return refuse(reason(err), scrubbed(err))
	}
	id, err := uuid.Parse(claims.Subject)
	if err != nil || len(claims.Subject) != 36 || claims.Role != roleOfLearner {
		return refuse("This access token is not a learner's.", nil)
	}
	if claims.Anonymous && !v.options.AllowAnonymous {
		return Claims{}, fault.New(fault.Forbidden, "Anonymous sign-ins may not run prompts. Sign up first.")
	}
	return Claims{LearnerID: id, Anonymous: claims.Anonymous}, nil
}

var errKeysAway = errors.New("the project's keys could not be read")

// key returns the key for a token's kind of signature: the secret only ever for
// HS256, the project's public keys only ever for ES256 and RS256.
func (v *Verifier) key(ctx context.Context, t *jwt.Token) (any, error) {
	if t.Method == jwt.SigningMethodHS256 {
		return []byte(v.options.JWTSecret), nil
	}
	key, err := v.jwks.KeyfuncCtx(ctx)(t)
	if err != nil && !v.fetched.Load() {
		return nil, fmt.Errorf("%w: %w", errKeysAway, err)
	}
	return key, err
}

func reason(err error) string {
	switch {
	case errors.Is(err, jwt.ErrTokenMalformed):
		return "The access token is not a JWT."
	case errors.Is(err, jwt.ErrTokenExpired):
		return "The access token has expired. Refresh the session and try again."
	case errors.Is(err, jwt.ErrTokenNotValidYet), errors.Is(err, jwt.ErrTokenUsedBeforeIssued):
		return "The access token is not valid yet. Check the clock of the device."
	case errors.Is(err, jwt.ErrTokenInvalidAudience), errors.Is(err, jwt.ErrTokenInvalidIssuer), errors.Is(err, jwt.ErrTokenRequiredClaimMissing):
		return "The access token is not one of this platform."
	default:
		return "The access token could not be verified."
	}
}

// scrubbed is err without what it quotes of the token.
func scrubbed(err error) error {
	for _, known := range []error{
		jwt.ErrTokenMalformed, jwt.ErrTokenExpired, jwt.ErrTokenNotValidYet, jwt.ErrTokenInvalidAudience,
		jwt.ErrTokenInvalidIssuer, jwt.ErrTokenRequiredClaimMissing, jwt.ErrTokenSignatureInvalid, jwt.ErrTokenUnverifiable,
	} {
		if errors.Is(err, known) {
			return known
		}
	}
	return errors.New("token refused")
}

// Mint makes an HS256 access token for trying the endpoint. issuer may be empty.
func Mint(secret, issuer string, who Learner, ttl time.Duration, now time.Time) (string, error) {
	if secret == "" {
		return "", errors.New("tokens can be made only with SUPABASE_JWT_SECRET (or the embedded database's own secret)")
	}
	return jwt.NewWithClaims(jwt.SigningMethodHS256, jwt.MapClaims{
		"iss": issuer, "sub": who.ID.String(), "aud": audience, "role": roleOfLearner, "email": who.Email,
		"is_anonymous": who.Anonymous, "iat": now.Unix(), "exp": now.Add(ttl).Unix(),
	}).SignedString([]byte(secret))
}

// Issuer is who issues the tokens of a Supabase project.
func Issuer(supabaseURL string) string {
	if supabaseURL == "" {
		return "promptops"
	}
	return supabaseURL + "/auth/v1"
}
