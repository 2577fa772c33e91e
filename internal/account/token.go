package account

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
)

// newToken makes 256 random bits: the token that its owner gets, and the hash
// that the database keeps. Whoever reads the database cannot make the token.
func newToken() (token string, hash []byte) {
	var bits [32]byte
	_, _ = rand.Read(bits[:]) // never fails
	sum := sha256.Sum256(bits[:])
	return base64.RawURLEncoding.EncodeToString(bits[:]), sum[:]
}

// hashToken returns the hash of a token that somebody presents; ok is false
// for what newToken cannot have made.
func hashToken(token string) (hash []byte, ok bool) {
	bits, err := base64.RawURLEncoding.Strict().DecodeString(token)
	if err != nil || len(bits) != 32 {
		return nil, false
	}
	sum := sha256.Sum256(bits)
	return sum[:], true
}
