// Package seal keeps secrets in the database unreadable without the master key
// ring: AES-256-GCM, each ciphertext bound to the one row and column it was made
// for.
package seal

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"strconv"
	"strings"
)

const (
	formatVersion = 1
	headerSize    = 1 + 4 // version, key id
	keySize       = 32    // AES-256
)

// Ring is the master keys: the first seals, all open. It prints as a redaction
// and is safe for concurrent use.
type Ring struct {
	first uint32
	order []uint32
	keys  map[uint32]masterKey
}

type masterKey struct {
	aead        cipher.AEAD
	fingerprint []byte // HMAC key, derived
}

// Place is where a ciphertext belongs. It does not open anywhere else.
type Place struct {
	Table, Column, Row string
}

// bytes are what the ciphertext is bound to: quoted, so that no two places read
// the same.
func (p Place) bytes() []byte {
	return fmt.Appendf(nil, "%q %q %q", p.Table, p.Column, p.Row)
}

// ParseRing reads a key ring like "2:base64,1:base64": ids are whole numbers
// from 1, keys 32 bytes. An error names the entry, never what is in it.
func ParseRing(s string) (*Ring, error) {
	ring := &Ring{keys: map[uint32]masterKey{}}
	idOf := map[string]uint64{} // by key
	for i, entry := range strings.Split(strings.TrimSpace(s), ",") {
		idText, encoded, ok := strings.Cut(strings.TrimSpace(entry), ":")
		id, err := strconv.ParseUint(idText, 10, 32)
		if !ok || err != nil || id == 0 {
			return nil, fmt.Errorf("entry %d of the key ring must look like 1:base64", i+1)
		}
		key, err := decodeBase64(encoded)
		if err != nil || len(key) != keySize {
			return nil, fmt.Errorf("key %d of the key ring must be %d bytes in base64; openssl rand -base64 %d makes one", id, keySize, keySize)
		}
		if _, twice := ring.keys[uint32(id)]; twice {
			return nil, fmt.Errorf("key %d stands twice in the key ring", id)
		}
		if other, twice := idOf[string(key)]; twice {
			return nil, fmt.Errorf("keys %d and %d of the key ring are the same; a new id needs a new key", other, id)
		}
		idOf[string(key)] = id
		master, err := newMasterKey(key)
		if err != nil {
			return nil, fmt.Errorf("key %d of the key ring: %w", id, err)
		}
		ring.keys[uint32(id)] = master
		ring.order = append(ring.order, uint32(id))
	}
	ring.first = ring.order[0]
	return ring, nil
}

func decodeBase64(s string) ([]byte, error) {
	s = strings.TrimRight(s, "=")
	if key, err := base64.RawStdEncoding.DecodeString(s); err == nil {
		return key, nil
	}
	return base64.RawURLEncoding.DecodeString(s)
}

func newMasterKey(key []byte) (masterKey, error) {
	block, err := aes.NewCipher(key)
	if err != nil {
		return masterKey{}, err
	}
	aead, err := cipher.NewGCMWithRandomNonce(block)
	if err != nil {
		return masterKey{}, err
	}
	fingerprint, err := hkdf.Key(sha256.New, key, nil, "promptops fingerprint", sha256.Size)
	return masterKey{aead, fingerprint}, err
}

// NewRing makes the text of a ring with one fresh key.
func NewRing() (string, error) {
	key := make([]byte, keySize)
	if _, err := rand.Read(key); err != nil {
		return "", err
	}
	return "1:" + base64.StdEncoding.EncodeToString(key), nil
}

// Seal encrypts plaintext for one place, under the ring's first key.
func (r *Ring) Seal(plaintext []byte, at Place) []byte {
	out := make([]byte, headerSize, headerSize+len(plaintext)+64)
	out[0] = formatVersion
	binary.BigEndian.PutUint32(out[1:], r.first)
	return r.keys[r.first].aead.Seal(out, nil, plaintext, at.bytes())
}

// ErrUnknownKey is why a ciphertext does not open whose master key is not in the
// ring.
var ErrUnknownKey = errors.New("its master key is not in the key ring")

// Open decrypts what Seal made for the same place. Anything else, be it one bit,
// another row or another column, is an error.
func (r *Ring) Open(ciphertext []byte, at Place) ([]byte, error) {
	id, err := KeyID(ciphertext)
	if err != nil {
		return nil, err
	}
	master, ok := r.keys[id]
	if !ok {
		return nil, fmt.Errorf("sealed with key %d: %w", id, ErrUnknownKey)
	}
	plaintext, err := master.aead.Open(nil, nil, ciphertext[headerSize:], at.bytes())
	if err != nil {
		return nil, errors.New("the ciphertext was changed, or belongs to another row or column")
	}
	return plaintext, nil
}

// KeyID returns which master key a ciphertext was sealed with.
func KeyID(ciphertext []byte) (uint32, error) {
	if len(ciphertext) < headerSize || ciphertext[0] != formatVersion {
		return 0, errors.New("not a ciphertext of this program")
	}
	return binary.BigEndian.Uint32(ciphertext[1:]), nil
}

// First returns the id of the master key that seals.
func (r *Ring) First() uint32 { return r.first }

// Has says whether the ring holds a master key.
func (r *Ring) Has(id uint32) bool {
	_, ok := r.keys[id]
	return ok
}

// Fingerprint is a keyed hash by which a secret is recognised without being
// opened: HMAC-SHA-256 under a key derived from the ring's first key, cut to 96
// bits, with that key's id in front.
//
// It must outlast a rotation. Hashing under one fixed key of the ring, say the
// lowest, would change every fingerprint on the day that key is dropped. So each
// one names its key, who looks for a secret asks for Fingerprints, and whoever
// seals a secret anew under the first key stores its fingerprint anew with it.
func (r *Ring) Fingerprint(secret string) string { return r.fingerprint(r.first, secret) }

// Fingerprints are the secret's fingerprints under every key of the ring: one of
// them is what was stored, whenever that was.
func (r *Ring) Fingerprints(secret string) []string {
	all := make([]string, len(r.order))
	for i, id := range r.order {
		all[i] = r.fingerprint(id, secret)
	}
	return all
}

func (r *Ring) fingerprint(id uint32, secret string) string {
	mac := hmac.New(sha256.New, r.keys[id].fingerprint)
	mac.Write([]byte(secret))
	return strconv.FormatUint(uint64(id), 10) + ":" + hex.EncodeToString(mac.Sum(nil)[:12])
}

const redacted = "[key ring]"

// Format redacts, for every verb.
func (Ring) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, redacted) }

// LogValue redacts.
func (Ring) LogValue() slog.Value { return slog.StringValue(redacted) }

// MarshalText redacts, in JSON too.
func (Ring) MarshalText() ([]byte, error) { return []byte(redacted), nil }
