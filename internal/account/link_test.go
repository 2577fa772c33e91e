package account

import (
	"bytes"
	"context"
	"encoding/base64"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/promptcademy/promptops/internal/audit"
	"github.com/promptcademy/promptops/internal/fault"
	"github.com/promptcademy/promptops/internal/postgres/pgtest"
)

func TestLink(t *testing.T) {
	ctx := context.Background()
	tx := pgtest.Tx(t)
	s, logged := newStore(tx)
	ada := makeAdmin(t, s, "ada@example.org")
	makeAdmin(t, s, "bob@example.org")
	link := func() string {
		token, err := s.CreateLink(ctx, audit.CommandLine, ada.ID, time.Hour, noon)
		if err != nil {
			t.Fatal(err)
		}
		return token
	}

	t.Run("signs in once", func(t *testing.T) {
		token := link()
		for range 2 { // looking changes nothing
			if got, err := s.PeekLink(ctx, token, noon); err != nil || got.ID != ada.ID {
				t.Fatalf("peek: %v, %v", got.Email, err)
			}
		}
		at := noon.Add(time.Hour - time.Microsecond)
		got, err := s.RedeemLink(ctx, token, at)
		if err != nil {
			t.Fatal(err)
		}
		if got.ID != ada.ID || got.LastSignInAt == nil || !got.LastSignInAt.Equal(at) {
			t.Errorf("signed in %+v", got)
		}
		_, err = s.RedeemLink(ctx, token, noon)
		wantKind(t, err, fault.NotFound)
		_, err = s.PeekLink(ctx, token, noon)
		wantKind(t, err, fault.NotFound)
		if !strings.Contains(logged.String(), "via=link operatorId="+ada.ID.String()) || !strings.Contains(logged.String(), "reason=dead_link") {
			t.Errorf("logged %s", logged)
		}
		if strings.Contains(logged.String(), token) {
			t.Error("the token is in the log")
		}
	})

	t.Run("only its hash is kept", func(t *testing.T) {
		token := link()
		bits, err := base64.RawURLEncoding.DecodeString(token)
		if err != nil || len(bits) != 32 {
			t.Fatalf("token %q: %v", token, err)
		}
		var row string
		if err := tx.QueryRow(ctx, `select string_agg(l::text, '') from ops.sign_in_links l`).Scan(&row); err != nil {
			t.Fatal(err)
		}
		if strings.Contains(row, token) || bytes.Contains([]byte(row), bits) {
			t.Error("the token is in the database")
		}
	})

	t.Run("expires", func(t *testing.T) {
		token := link()
		_, err := s.PeekLink(ctx, token, noon.Add(time.Hour))
		wantKind(t, err, fault.NotFound)
		_, err = s.RedeemLink(ctx, token, noon.Add(time.Hour))
		wantKind(t, err, fault.NotFound)
	})

	t.Run("is refused when it is no token", func(t *testing.T) {
		token := link()
		for _, wrong := range []string{"", "x", "\x00", token + "A", token[1:], token[:42] + "!", strings.Repeat("A", 43)} {
			_, err := s.RedeemLink(ctx, wrong, noon)
			wantKind(t, err, fault.NotFound)
			_, err = s.PeekLink(ctx, wrong, noon)
			wantKind(t, err, fault.NotFound)
		}
	})

	t.Run("ends with a new password", func(t *testing.T) {
		token := link()
		if err := s.SetPassword(ctx, audit.CommandLine, ada.ID, goodPassword+"!", noon); err != nil {
			t.Fatal(err)
		}
		_, err := s.RedeemLink(ctx, token, noon)
		wantKind(t, err, fault.NotFound)
	})

	t.Run("does nothing for a disabled operator", func(t *testing.T) {
		before := link()
		if err := s.Disable(ctx, audit.CommandLine, ada.ID, noon); err != nil {
			t.Fatal(err)
		}
		for _, token := range []string{before, link()} {
			_, err := s.RedeemLink(ctx, token, noon)
			wantKind(t, err, fault.NotFound)
			_, err = s.PeekLink(ctx, token, noon)
			wantKind(t, err, fault.NotFound)
		}
	})

	t.Run("needs an operator", func(t *testing.T) {
		_, err := s.CreateLink(ctx, audit.CommandLine, uuid.New(), time.Hour, noon)
		wantKind(t, err, fault.NotFound)
	})
}

func TestLinkRedeemedByManyAtOnce(t *testing.T) {
	ctx := context.Background()
	pool := pgtest.Database(t)
	s, _ := newStore(pool)
	ada := makeAdmin(t, s, "ada@example.org")
	token, err := s.CreateLink(ctx, audit.CommandLine, ada.ID, time.Hour, noon)
	if err != nil {
		t.Fatal(err)
	}
	var redeemed atomic.Int32
	var all sync.WaitGroup
	for range 8 {
		node := NewStore(pool, s.log)
		all.Go(func() {
			switch _, err := node.RedeemLink(ctx, token, noon); {
			case err == nil:
				redeemed.Add(1)
			case fault.KindOf(err) != fault.NotFound:
				t.Error(err)
			}
		})
	}
	all.Wait()
	if redeemed.Load() != 1 {
		t.Errorf("the link signed in %d times", redeemed.Load())
	}
}
