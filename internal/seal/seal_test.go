package seal_test

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/promptcademy/promptops/internal/seal"
)

var (
	keyA  = base64.StdEncoding.EncodeToString([]byte(strings.Repeat("a", 32)))
	keyB  = base64.RawURLEncoding.EncodeToString([]byte(strings.Repeat("\xfb", 32)))
	place = seal.Place{Table: "ops.fallback_keys", Column: "ciphertext", Row: "1"}
)

func parse(t *testing.T, s string) *seal.Ring {
	t.Helper()
	ring, err := seal.ParseRing(s)
	if err != nil {
		t.Fatal(err)
	}
	return ring
}

func TestSealOpens(t *testing.T) {
	ring := parse(t, "1:"+keyA)
	sealed := ring.Seal([]byte("sk-secret"), place)
	if strings.Contains(string(sealed), "sk-secret") {
		t.Fatal("the ciphertext shows the secret")
	}
	if again := ring.Seal([]byte("sk-secret"), place); string(again) == string(sealed) {
		t.Error("two ciphertexts of one secret are alike")
	}
	opened, err := ring.Open(sealed, place)
	if err != nil || string(opened) != "sk-secret" {
		t.Errorf("opened %q, %v", opened, err)
	}
}

func TestCiphertextOpensNowhereElse(t *testing.T) {
	ring := parse(t, "1:"+keyA)
	sealed := ring.Seal([]byte("sk-secret"), place)
	for _, other := range []seal.Place{
		{Table: place.Table, Column: place.Column, Row: "2"},
		{Table: place.Table, Column: "other", Row: "1"},
		{Table: "public.user_api_keys", Column: place.Column, Row: "1"},
		{},
	} {
		if _, err := ring.Open(sealed, other); err == nil {
			t.Errorf("opened at %v", other)
		}
	}
	for i := range sealed {
		changed := slices.Clone(sealed)
		changed[i] ^= 1
		if _, err := ring.Open(changed, place); err == nil {
			t.Errorf("opened with byte %d changed", i)
		}
	}
	for n := range len(sealed) {
		if _, err := ring.Open(sealed[:n], place); err == nil {
			t.Errorf("opened %d of %d bytes", n, len(sealed))
		}
	}
}

func TestRotation(t *testing.T) {
	old := parse(t, "1:"+keyA)
	sealed := old.Seal([]byte("sk-secret"), place)
	both := parse(t, "2:"+keyB+", 1:"+keyA)
	if opened, err := both.Open(sealed, place); err != nil || string(opened) != "sk-secret" {
		t.Errorf("opened %q, %v", opened, err)
	}
	if id, err := seal.KeyID(both.Seal(nil, place)); id != 2 || err != nil {
		t.Errorf("seals with key %d, %v", id, err)
	}
	if !slices.Contains(both.Fingerprints("sk-secret"), old.Fingerprint("sk-secret")) {
		t.Error("the old fingerprint is not recognised")
	}
	renewed := parse(t, "2:"+keyB)
	if _, err := renewed.Open(sealed, place); !errors.Is(err, seal.ErrUnknownKey) || !strings.Contains(err.Error(), "key 1") {
		t.Errorf("error %v", err)
	}
}

func TestFingerprint(t *testing.T) {
	ring := parse(t, "1:"+keyA)
	if ring.Fingerprint("a") == ring.Fingerprint("b") || ring.Fingerprint("a") != ring.Fingerprint("a") {
		t.Error("fingerprints do not tell secrets apart")
	}
	if parse(t, "1:"+keyB).Fingerprint("a") == ring.Fingerprint("a") {
		t.Error("the fingerprint does not depend on the key")
	}
}

func TestParseRingRefuses(t *testing.T) {
	for _, s := range []string{"", "x", "1:", "0:" + keyA, "1:" + keyA + ",", "1:" + keyA + ",1:" + keyB, "1:c2hvcnQ=", "-1:" + keyA, "1:" + keyA + "!"} {
		_, err := seal.ParseRing(s)
		if err == nil {
			t.Errorf("accepted %q", s)
		} else if strings.Contains(err.Error(), keyA) {
			t.Errorf("the error shows a key: %v", err)
		}
	}
}

func TestRingPrintsNothing(t *testing.T) {
	text, err := seal.NewRing()
	if err != nil {
		t.Fatal(err)
	}
	ring := parse(t, text)
	encoded, err := json.Marshal(map[string]any{"ring": ring})
	if err != nil {
		t.Fatal(err)
	}
	for _, printed := range []string{fmt.Sprint(ring), fmt.Sprintf("%#v %+v", ring, ring), string(encoded)} {
		if !strings.Contains(printed, "[key ring]") || len(printed) > 60 {
			t.Errorf("printed %q", printed)
		}
	}
}
