package account

import (
	"context"
	"errors"
	"strings"
	"testing"
	"unicode/utf8"
)

func TestCheckPassword(t *testing.T) {
	tests := []struct {
		name, password string
		ok             bool
	}{
		{"plain words", goodPassword, true},
		{"eight letters", "xkvqtzbw", true},
		{"seven letters", "xkvqtzb", false},
		{"eight characters of several bytes", "żółćęśąń", true},
		{"seven characters of several bytes", "żółćęśą", false},
		{"longest", strings.Repeat("ab ", 85) + "c", true},
		{"too long", strings.Repeat("ab ", 85) + "cd", false},
		{"common", "password123", false},
		{"common in capitals", "PassWord123", false},
		{"a number", "1234567890", false},
		{"contains the local part", "My-Lovelace-1", false},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			bad := checkPassword(test.password, "lovelace@example.org")
			if (len(bad) == 0) != test.ok {
				t.Errorf("problems: %v", bad)
			}
			for _, f := range bad {
				if f.Field != "password" || strings.Contains(f.Message, test.password) {
					t.Errorf("problem %+v", f)
				}
			}
		})
	}
	if bad := checkPassword("xkvqtzbw", "kv@example.org"); bad != nil {
		t.Errorf("a local part of two letters rules out a password: %v", bad)
	}
}

// Lines that other rules catch, or that cannot match, would be dead weight.
func TestCommonPasswordsCanMatch(t *testing.T) {
	seen := map[string]bool{}
	for line := range strings.Lines(commonPasswords) {
		line = strings.TrimSuffix(line, "\n")
		if utf8.RuneCountInString(line) < MinPassword || line != strings.ToLower(strings.TrimSpace(line)) || seen[line] {
			t.Errorf("useless line %q", line)
		}
		seen[line] = true
	}
	if len(seen) < 500 {
		t.Errorf("only %d passwords", len(seen))
	}
}

func TestPasswordHash(t *testing.T) {
	ctx := context.Background()
	h := newHasher()
	first, err := h.hash(ctx, goodPassword)
	if err != nil {
		t.Fatal(err)
	}
	second, err := h.hash(ctx, goodPassword)
	if err != nil {
		t.Fatal(err)
	}
	if first == second {
		t.Error("two hashes have the same salt")
	}
	if !strings.HasPrefix(first, "$argon2id$v=19$m=19456,t=2,p=1$") {
		t.Errorf("hash %s has other parameters", first)
	}
	// Made by another implementation, with another cost.
	const foreign = "$argon2id$v=19$m=256,t=3,p=2$c29tZXNhbHRzb21lc2FsdA$2TPQ4xRac7pirRrVxHao8xbKfZsXwmb4"

	tests := []struct {
		name, password, phc string
		ok, outdated        bool
	}{
		{"right", goodPassword, first, true, false},
		{"wrong", goodPassword + " ", first, false, false},
		{"empty", "", first, false, false},
		{"no hash", goodPassword, "", false, false},
		{"nothing at all", "", "", false, false},
		{"another cost", goodPassword, foreign, true, true},
		{"another cost, wrong", "seven", foreign, false, false},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			ok, outdated, err := h.verify(ctx, test.password, test.phc)
			if ok != test.ok || outdated != test.outdated || err != nil {
				t.Errorf("verify = %v, %v, %v", ok, outdated, err)
			}
		})
	}
}

func TestParsePasswordHashRefuses(t *testing.T) {
	const salt, sum = "c29tZXNhbHRzb21lc2FsdA", "2TPQ4xRac7pirRrVxHao8xbKfZsXwmb4"
	for _, phc := range []string{
		"",
		"plain",
		"$2a$10$abcdefghijklmnopqrstuv",
		"$argon2i$v=19$m=256,t=3,p=2$" + salt + "$" + sum,
		"$argon2id$v=16$m=256,t=3,p=2$" + salt + "$" + sum,
		"$argon2id$v=19$m=256,t=0,p=2$" + salt + "$" + sum,
		"$argon2id$v=19$m=256,t=3,p=0$" + salt + "$" + sum,
		"$argon2id$v=19$m=-1,t=3,p=2$" + salt + "$" + sum,
		"$argon2id$v=19$m=256,t=3$" + salt + "$" + sum,
		"$argon2id$v=19$m=256,t=3,p=2$!" + salt + "$" + sum,
		"$argon2id$v=19$m=256,t=3,p=2$" + salt + "$",
		"$argon2id$v=19$m=256,t=3,p=2$" + salt + "$" + sum + "$",
	} {
		if h, err := parsePasswordHash(phc); err == nil {
			t.Errorf("%q is taken for %+v", phc, h)
		}
	}
}

// Hashes are computed a few at a time; who has to wait can give up.
func TestHasherWaits(t *testing.T) {
	h := newHasher()
	for range cap(h.slots) {
		h.slots <- struct{}{}
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if _, err := h.hash(ctx, goodPassword); !errors.Is(err, context.Canceled) {
		t.Errorf("hash with all slots taken: %v", err)
	}
	<-h.slots
	if _, err := h.hash(context.Background(), goodPassword); err != nil {
		t.Errorf("hash with a free slot: %v", err)
	}
	if len(h.slots) != cap(h.slots)-1 {
		t.Errorf("%d slots are taken, want %d", len(h.slots), cap(h.slots)-1)
	}
}
