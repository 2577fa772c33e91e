package seal_test

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
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
		{Table: place.Table + ` "ciphertext"`, Row: "1"},
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
	if id, err := seal.KeyID(both.Seal(nil, place)); id != 2 || both.First() != 2 || err != nil {
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
	if first, again := ring.Fingerprint("a"), ring.Fingerprint("a"); first == ring.Fingerprint("b") || first != again {
		t.Error("fingerprints do not tell secrets apart")
	}
	if !strings.HasPrefix(ring.Fingerprint("a"), "1:") {
		t.Errorf("%q does not name its key", ring.Fingerprint("a"))
	}
	other := parse(t, "1:"+keyB).Fingerprint("a")
	if other == ring.Fingerprint("a") {
		t.Error("the fingerprint does not depend on the key")
	}
	rotated := parse(t, "2:"+keyB+",1:"+keyA)
	want := []string{rotated.Fingerprint("a"), ring.Fingerprint("a")}
	if got := rotated.Fingerprints("a"); !slices.Equal(got, want) {
		t.Errorf("fingerprints %q, want %q", got, want)
	}
}

func TestParseRingRefuses(t *testing.T) {
	tests := map[string]struct{ ring, want string }{
		"nothing":                {"", "entry 1"},
		"no id":                  {keyA, "entry 1"},
		"no key":                 {"1:", "key 1"},
		"id 0":                   {"0:" + keyA, "entry 1"},
		"negative id":            {"-1:" + keyA, "entry 1"},
		"id beyond 32 bits":      {"4294967296:" + keyA, "entry 1"},
		"trailing comma":         {"1:" + keyA + ",", "entry 2"},
		"id twice":               {"1:" + keyA + ",1:" + keyB, "key 1 stands twice"},
		"key twice":              {"2:" + keyA + ",1:" + keyA, "keys 2 and 1"},
		"too short":              {"2:" + keyA + ",1:c2hvcnQ=", "key 1"},
		"too long":               {"1:" + base64.StdEncoding.EncodeToString(make([]byte, 33)), "key 1"},
		"not base64":             {"1:" + keyA + "!", "key 1"},
		"key of the wrong entry": {keyA + ":1", "entry 1"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			_, err := seal.ParseRing(test.ring)
			if err == nil {
				t.Fatal("accepted")
			}
			if !strings.Contains(err.Error(), test.want) {
				t.Errorf("error %q does not say %q", err, test.want)
			}
			if strings.Contains(err.Error(), keyA[:8]) || strings.Contains(err.Error(), keyB[:8]) {
				t.Errorf("the error shows a key: %v", err)
			}
		})
	}
}

func TestNewRing(t *testing.T) {
	text, err := seal.NewRing()
	if err != nil {
		t.Fatal(err)
	}
	ring := parse(t, text)
	if opened, err := ring.Open(ring.Seal([]byte("sk-secret"), place), place); err != nil || string(opened) != "sk-secret" {
		t.Errorf("opened %q, %v", opened, err)
	}
	if again, _ := seal.NewRing(); again == text {
		t.Error("two rings are alike")
	}
}

func TestRingPrintsNothing(t *testing.T) {
	ring := parse(t, "1:"+keyA)
	var log strings.Builder
	slog.New(slog.NewJSONHandler(&log, nil)).Info("start", "ring", ring, "holder", map[string]any{"ring": ring})
	encoded, err := json.Marshal(map[string]any{"ring": ring, "value": *ring})
	if err != nil {
		t.Fatal(err)
	}
	for _, printed := range []string{
		fmt.Sprint(ring), fmt.Sprintf("%#v", ring), fmt.Sprintf("%+v", *ring), fmt.Sprintf("%x", ring), fmt.Sprintf("%d", *ring),
		fmt.Sprintf("%+v", struct{ Ring *seal.Ring }{ring}), string(encoded), log.String(),
	} {
		if !strings.Contains(printed, "[key ring]") {
			t.Errorf("printed %q", printed)
		}
		// What a master key would be printed as: text, hexadecimal, numbers.
		for _, leak := range []string{"aaaa", "6161", "97 97", keyA[:8]} {
			if strings.Contains(printed, leak) {
				t.Errorf("printed %q, which shows the key", printed)
			}
		}
	}
}

func FuzzOpen(f *testing.F) {
	ring, err := seal.ParseRing("2:" + keyB + ",1:" + keyA)
	if err != nil {
		f.Fatal(err)
	}
	f.Add([]byte{})
	f.Add([]byte{1, 0, 0, 0, 1})
	f.Add(make([]byte, 40))
	f.Fuzz(func(t *testing.T, ciphertext []byte) {
		if plaintext, err := ring.Open(ciphertext, place); err == nil {
			t.Errorf("opened %x as %q", ciphertext, plaintext)
		}
	})
}
