package learner

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rsa"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"sync/atomic"
	"time"

	"github.com/MicahParks/jwkset"
	"github.com/golang-jwt/jwt/v5"
	"golang.org/x/sync/singleflight"
)

const (
	jwksMaxAge  = 10 * time.Minute // a revoked key may be honoured this long
	jwksRetry   = 10 * time.Second // between two looks for a key that is not known
	jwksTimeout = 5 * time.Second
	jwksMaxSize = 1 << 20 // bytes
	minRSABits  = 2048
)

var (
	errKeysAway   = errors.New("the project's keys could not be read")
	errUnknownKey = errors.New("the project has no such key")
)

// keySet is a project's public keys. They are read again when they are ten
// minutes old and when a token names one that is not among them, once for all
// tokens that wait. While they cannot be read, those known stay good.
type keySet struct {
	url    string
	client *http.Client
	now    func() time.Time
	flight singleflight.Group
	state  atomic.Pointer[keySetState]
}

// keySetState is what is known at one moment; it never changes.
type keySetState struct {
	keys     []publicKey
	readAt   time.Time // zero: never
	triedAt  time.Time // to read them
	lookedAt time.Time // tried again because a token named a key that is not here
	err      error     // of the last try
}

// publicKey is a key with the one algorithm it is good for.
type publicKey struct {
	id  string
	alg string
	key crypto.PublicKey
}

func newKeySet(url string, client *http.Client) *keySet {
	s := &keySet{url: url, client: client, now: time.Now}
	s.state.Store(&keySetState{})
	return s
}

// find returns the keys that a token of this algorithm may be signed with: the
// one it names, or, when it names none (id is empty), all. It is errUnknownKey
// when the project has none, and errKeysAway when it could not be asked.
func (s *keySet) find(ctx context.Context, id, alg string) (jwt.VerificationKeySet, error) {
	known, now := s.state.Load(), s.now()
	found := known.find(id, alg)
	missing := len(found.Keys) == 0
	if missing && now.Sub(known.lookedAt) >= jwksRetry ||
		now.Sub(known.readAt) >= jwksMaxAge && now.Sub(known.triedAt) >= jwksRetry {
		if err := s.refresh(ctx, known, missing); err != nil {
			return found, fmt.Errorf("%w: %w", errKeysAway, err)
		}
		known = s.state.Load()
		found = known.find(id, alg)
	}
	switch {
	case len(found.Keys) > 0:
		return found, nil
	case known.err != nil:
		return found, fmt.Errorf("%w: %w", errKeysAway, known.err)
	default:
		return found, errUnknownKey
	}
}

// known returns the state, and whether the keys are young enough not to be read
// again. Without a project there are none that could change.
func (s *keySet) known() (state *keySetState, fresh bool) {
	if s == nil {
		return nil, true
	}
	state = s.state.Load()
	return state, s.now().Sub(state.readAt) < jwksMaxAge
}

func (k *keySetState) find(id, alg string) (found jwt.VerificationKeySet) {
	for _, key := range k.keys {
		if key.alg == alg && (key.id == id || id == "") {
			found.Keys = append(found.Keys, key.key)
		}
	}
	return found
}

// refresh reads the keys, unless they are no longer in the state in which they
// were seen. Whoever asks meanwhile waits for the same answer. The error is
// ctx's; how reading went is in the state.
func (s *keySet) refresh(ctx context.Context, seen *keySetState, missing bool) error {
	done := s.flight.DoChan("", func() (any, error) {
		if s.state.Load() != seen {
			return nil, nil
		}
		next := *seen
		next.triedAt = s.now()
		if missing && !seen.triedAt.IsZero() { // the first time is not for one token
			next.lookedAt = next.triedAt
		}
		// One caller who leaves must not take the answer from the others.
		keys, err := s.read(context.WithoutCancel(ctx))
		if next.err = err; err == nil {
			next.keys, next.readAt = keys, next.triedAt
		}
		s.state.Store(&next)
		return nil, nil
	})
	select {
	case <-done:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// read asks the project for its keys. One that is of no use here, or broken,
// does not keep the others away.
func (s *keySet) read(ctx context.Context) ([]publicKey, error) {
	ctx, cancel := context.WithTimeout(ctx, jwksTimeout)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, s.url, nil)
	if err != nil {
		return nil, err
	}
	response, err := s.client.Do(request)
	if err != nil {
		return nil, err
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("%s answered %s", s.url, response.Status)
	}
	var set struct {
		Keys []json.RawMessage `json:"keys"`
	}
	if err := json.NewDecoder(io.LimitReader(response.Body, jwksMaxSize)).Decode(&set); err != nil {
		return nil, fmt.Errorf("%s did not answer with a key set: %w", s.url, err)
	}
	if set.Keys == nil {
		return nil, fmt.Errorf("%s did not answer with a key set", s.url)
	}
	var keys []publicKey
	for _, raw := range set.Keys {
		jwk, err := jwkset.NewJWKFromRawJSON(raw, jwkset.JWKMarshalOptions{}, jwkset.JWKValidateOptions{})
		if err != nil {
			continue
		}
		described := jwk.Marshal()
		alg := algorithmOf(jwk.Key())
		if alg == "" || (described.ALG != "" && described.ALG.String() != alg) ||
			(described.USE != "" && described.USE != jwkset.UseSig) {
			continue
		}
		keys = append(keys, publicKey{described.KID, alg, jwk.Key()})
	}
	return keys, nil
}

// algorithmOf is the one algorithm that a key may verify, "" for none.
func algorithmOf(key any) string {
	switch key := key.(type) {
	case *ecdsa.PublicKey:
		if key.Curve == elliptic.P256() {
			return jwt.SigningMethodES256.Alg()
		}
	case *rsa.PublicKey:
		if key.N.BitLen() >= minRSABits {
			return jwt.SigningMethodRS256.Alg()
		}
	}
	return ""
}
