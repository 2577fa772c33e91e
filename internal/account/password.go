package account

import (
	"context"
	"crypto/rand"
	"crypto/subtle"
	_ "embed"
	"encoding/base64"
	"fmt"
	"runtime"
	"strings"
	"unicode/utf8"

	"golang.org/x/crypto/argon2"

	"github.com/promptcademy/promptops/internal/fault"
)

// How long a new password has to be, should be and may be, in characters.
const (
	MinPassword         = 8
	RecommendedPassword = 15
	MaxPassword         = 256
)

// commonPasswords are in lower case, one a line, each long enough to pass the
// other rules.
//
//go:embed common_passwords.txt
var commonPasswords string

// checkPassword returns what is wrong with a new password. There are no rules
// about kinds of characters: they make passwords harder to remember, not to guess.
func checkPassword(password, email string) []fault.Field {
	bad := func(message string) []fault.Field {
		return []fault.Field{{Field: "password", Message: message}}
	}
	switch length := utf8.RuneCountInString(password); {
	case length < MinPassword:
		return bad(fmt.Sprintf("must have at least %d characters; %d or more are better", MinPassword, RecommendedPassword))
	case length > MaxPassword:
		return bad(fmt.Sprintf("may have at most %d characters", MaxPassword))
	}
	lower := strings.ToLower(password)
	for common := range strings.Lines(commonPasswords) {
		if lower == strings.TrimSpace(common) {
			return bad("is one of the most common ones; choose another")
		}
	}
	// A local part of a letter or two would rule out nearly everything.
	local, _, _ := strings.Cut(normalEmail(email), "@")
	if len(local) >= 4 && strings.Contains(lower, local) {
		return bad("may not contain the e-mail address")
	}
	return nil
}

// argon2Cost says how expensive a hash is.
type argon2Cost struct {
	memoryKiB uint32
	passes    uint32
	lanes     uint8
}

// currentCost is what OWASP's password storage cheat sheet asks for at least.
var currentCost = argon2Cost{memoryKiB: 19 * 1024, passes: 2, lanes: 1}

const (
	saltLength = 16
	hashLength = 32
)

// passwordHash is an argon2id hash with all that is needed to compute it again.
type passwordHash struct {
	cost argon2Cost
	salt []byte
	sum  []byte
}

// String is the PHC format, as in ops.operators.password_hash.
func (h passwordHash) String() string {
	return fmt.Sprintf("$argon2id$v=%d$m=%d,t=%d,p=%d$%s$%s", argon2.Version,
		h.cost.memoryKiB, h.cost.passes, h.cost.lanes,
		base64.RawStdEncoding.EncodeToString(h.salt), base64.RawStdEncoding.EncodeToString(h.sum))
}

func parsePasswordHash(phc string) (h passwordHash, err error) {
	parts := strings.Split(phc, "$")
	if len(parts) != 6 || parts[0] != "" || parts[1] != "argon2id" || parts[2] != fmt.Sprintf("v=%d", argon2.Version) {
		return h, fmt.Errorf("password hash is not argon2id version %d", argon2.Version)
	}
	if _, err := fmt.Sscanf(parts[3], "m=%d,t=%d,p=%d", &h.cost.memoryKiB, &h.cost.passes, &h.cost.lanes); err != nil {
		return h, fmt.Errorf("password hash parameters: %w", err)
	}
	if h.cost.passes < 1 || h.cost.lanes < 1 {
		return h, fmt.Errorf("password hash parameters %q are out of range", parts[3])
	}
	if h.salt, err = base64.RawStdEncoding.Strict().DecodeString(parts[4]); err != nil {
		return h, fmt.Errorf("password hash salt: %w", err)
	}
	if h.sum, err = base64.RawStdEncoding.Strict().DecodeString(parts[5]); err != nil {
		return h, fmt.Errorf("password hash sum: %w", err)
	}
	if len(h.sum) < 16 {
		return h, fmt.Errorf("password hash of %d bytes is too short", len(h.sum))
	}
	return h, nil
}

// hasher computes at most a few hashes at once, since each takes 19 MiB and a
// core. Whoever comes later waits, or gives up with the context.
type hasher struct {
	slots chan struct{}
	cost  argon2Cost // of new hashes
}

func newHasher() hasher {
	return hasher{slots: make(chan struct{}, runtime.GOMAXPROCS(0)), cost: currentCost}
}

func (h hasher) sum(ctx context.Context, password string, cost argon2Cost, salt []byte, length int) ([]byte, error) {
	select {
	case h.slots <- struct{}{}:
		defer func() { <-h.slots }()
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	return argon2.IDKey([]byte(password), salt, cost.passes, cost.memoryKiB, cost.lanes, uint32(length)), nil
}

// hash returns password's hash in PHC format.
func (h hasher) hash(ctx context.Context, password string) (string, error) {
	made := passwordHash{cost: h.cost, salt: make([]byte, saltLength)}
	_, _ = rand.Read(made.salt) // never fails
	var err error
	if made.sum, err = h.sum(ctx, password, made.cost, made.salt, hashLength); err != nil {
		return "", err
	}
	return made.String(), nil
}

// verify says whether password is the one that phc was made from. An empty phc
// fits no password, and takes as long to find out. outdated asks to store a
// new hash, since today's cost is another.
func (h hasher) verify(ctx context.Context, password, phc string) (ok, outdated bool, err error) {
	stored := passwordHash{cost: h.cost, salt: make([]byte, saltLength), sum: make([]byte, hashLength)}
	if phc != "" {
		if stored, err = parsePasswordHash(phc); err != nil {
			return false, false, err
		}
	}
	sum, err := h.sum(ctx, password, stored.cost, stored.salt, len(stored.sum))
	if err != nil {
		return false, false, err
	}
	ok = subtle.ConstantTimeCompare(sum, stored.sum) == 1 && phc != ""
	return ok, ok && stored.cost != h.cost, nil
}
