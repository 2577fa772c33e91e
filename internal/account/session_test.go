package account

import (
	"context"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/gorilla/sessions"
	"github.com/jackc/pgx/v5"

	"github.com/promptcademy/promptops/internal/audit"
	"github.com/promptcademy/promptops/internal/fault"
	"github.com/promptcademy/promptops/internal/postgres/pgtest"
)

// browser keeps cookies as one does and makes requests with them.
type browser struct{ cookies []*http.Cookie }

func (b *browser) request() *http.Request {
	r := httptest.NewRequest("GET", "https://ops.example.org/", nil)
	r.RemoteAddr = "192.0.2.7:4711"
	r.Header.Set("User-Agent", "Test\xff/1.0 "+strings.Repeat("x", 400))
	for _, c := range b.cookies {
		r.AddCookie(&http.Cookie{Name: c.Name, Value: c.Value})
	}
	return r
}

func (b *browser) receive(w *httptest.ResponseRecorder) {
	for _, c := range w.Result().Cookies() {
		b.cookies = nil
		if c.MaxAge >= 0 {
			b.cookies = []*http.Cookie{c}
		}
	}
}

func (b *browser) start(t *testing.T, s *Sessions, operator Operator, now time.Time) {
	t.Helper()
	w := httptest.NewRecorder()
	if err := s.Start(w, b.request(), operator, now); err != nil {
		t.Fatal(err)
	}
	b.receive(w)
}

func newSessions(t *testing.T) (*Sessions, *Store, pgx.Tx) {
	tx := pgtest.Tx(t)
	store, _ := newStore(tx)
	return NewSessions(tx, SessionOptions{Secure: true, Now: func() time.Time { return noon }}), store, tx
}

func TestSession(t *testing.T) {
	s, store, tx := newSessions(t)
	ada := makeAdmin(t, store, "ada@example.org")
	var b browser

	_, err := s.Operator(b.request(), noon)
	wantKind(t, err, fault.Unauthenticated)

	b.start(t, s, ada, noon)
	cookie := b.cookies[0]
	if cookie.Name != "__Host-promptops" || !cookie.Secure || !cookie.HttpOnly || cookie.Path != "/" || cookie.Domain != "" ||
		cookie.SameSite != http.SameSiteLaxMode || cookie.MaxAge != 7*24*3600 || len(cookie.Value) != 43 {
		t.Errorf("cookie is %+v", cookie)
	}
	got, err := s.Operator(b.request(), noon)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(ada, got); diff != "" {
		t.Errorf("operator (-want +got):\n%s", diff)
	}

	var row, ip, agent string
	err = tx.QueryRow(context.Background(), `select s::text, ip, user_agent from ops.sessions s`).Scan(&row, &ip, &agent)
	if err != nil {
		t.Fatal(err)
	}
	if strings.Contains(row, cookie.Value) {
		t.Error("the cookie's value is in the database")
	}
	if ip != "192.0.2.7" || !strings.HasPrefix(agent, "Test/1.0 xxx") || len(agent) > 300 {
		t.Errorf("stored ip %q, user agent %q", ip, agent)
	}

	// Signing out ends the session on the server, too: a copy of the cookie is
	// worth nothing.
	stolen := b
	r, w := b.request(), httptest.NewRecorder()
	if err := s.End(w, r); err != nil {
		t.Fatal(err)
	}
	_, err = s.Operator(r, noon)
	wantKind(t, err, fault.Unauthenticated)
	b.receive(w)
	if len(b.cookies) != 0 || count(t, tx, "ops.sessions") != 0 {
		t.Errorf("after signing out there are %d cookies and %d sessions", len(b.cookies), count(t, tx, "ops.sessions"))
	}
	_, err = s.Operator(stolen.request(), noon)
	wantKind(t, err, fault.Unauthenticated)
	if err := s.End(httptest.NewRecorder(), b.request()); err != nil {
		t.Errorf("signing out twice: %v", err)
	}
}

func TestSessionPlainHTTP(t *testing.T) {
	_, store, tx := newSessions(t)
	s := NewSessions(tx, SessionOptions{ClientIP: func(*http.Request) string { return elsewhere }})
	var b browser
	b.start(t, s, makeAdmin(t, store, "ada@example.org"), noon)
	if c := b.cookies[0]; c.Name != "promptops" || c.Secure || !c.HttpOnly {
		t.Errorf("cookie is %+v", c)
	}
	var ip string
	if err := tx.QueryRow(context.Background(), `select ip from ops.sessions`).Scan(&ip); err != nil || ip != elsewhere {
		t.Errorf("stored ip %q (%v), want what ClientIP says", ip, err)
	}
}

func TestSessionIsNewAtSignIn(t *testing.T) {
	s, store, tx := newSessions(t)
	ada, bob := makeAdmin(t, store, "ada@example.org"), makeAdmin(t, store, "bob@example.org")

	// Ada's session is planted in a browser before Bob signs in there.
	var b browser
	b.start(t, s, ada, noon)
	planted := b
	b.start(t, s, bob, noon)
	if planted.cookies[0].Value == b.cookies[0].Value {
		t.Fatal("the id did not change")
	}
	_, err := s.Operator(planted.request(), noon)
	wantKind(t, err, fault.Unauthenticated)
	if got, err := s.Operator(b.request(), noon); err != nil || got.ID != bob.ID {
		t.Errorf("signed in as %v, %v", got.Email, err)
	}
	if n := count(t, tx, "ops.sessions"); n != 1 {
		t.Errorf("%d sessions, want 1", n)
	}

	// An id that an attacker made up is never taken on.
	made, _ := newToken()
	b = browser{cookies: []*http.Cookie{{Name: s.CookieName(), Value: made}}}
	b.start(t, s, bob, noon)
	if b.cookies[0].Value == made {
		t.Error("the made-up id became a session")
	}
}

func TestSessionEndsByTime(t *testing.T) {
	s, store, _ := newSessions(t)
	ada := makeAdmin(t, store, "ada@example.org")

	var idle browser
	idle.start(t, s, ada, noon)
	if _, err := s.Operator(idle.request(), noon.Add(SessionIdle-time.Second)); err != nil {
		t.Errorf("just before the idle timeout: %v", err)
	}
	// That was a sign of life; from there the same again.
	now := noon.Add(SessionIdle - time.Second)
	_, err := s.Operator(idle.request(), now.Add(SessionIdle))
	wantKind(t, err, fault.Unauthenticated)

	var busy browser
	busy.start(t, s, ada, noon)
	for now := noon; now.Before(noon.Add(SessionMax)); now = now.Add(SessionIdle / 2) {
		if _, err := s.Operator(busy.request(), now); err != nil {
			t.Fatalf("in use, at %v: %v", now, err)
		}
	}
	_, err = s.Operator(busy.request(), noon.Add(SessionMax))
	wantKind(t, err, fault.Unauthenticated)
}

func TestSessionTouch(t *testing.T) {
	s, store, tx := newSessions(t)
	var b browser
	b.start(t, s, makeAdmin(t, store, "ada@example.org"), noon)
	for _, step := range []struct{ at, want time.Duration }{
		{59 * time.Second, 0},
		{60 * time.Second, 60 * time.Second},
		{90 * time.Second, 60 * time.Second},
	} {
		if _, err := s.Operator(b.request(), noon.Add(step.at)); err != nil {
			t.Fatal(err)
		}
		var seen time.Time
		if err := tx.QueryRow(context.Background(), `select last_seen_at from ops.sessions`).Scan(&seen); err != nil {
			t.Fatal(err)
		}
		if got := seen.Sub(noon); got != step.want {
			t.Errorf("seen after %v, last_seen_at is %v later, want %v", step.at, got, step.want)
		}
	}
}

func TestSessionOfDisabledOperator(t *testing.T) {
	ctx := context.Background()
	s, store, tx := newSessions(t)
	makeAdmin(t, store, "ada@example.org")
	bob := makeAdmin(t, store, "bob@example.org")
	var b browser
	b.start(t, s, bob, noon)

	if err := store.Disable(ctx, audit.CommandLine, bob.ID, noon); err != nil {
		t.Fatal(err)
	}
	_, err := s.Operator(b.request(), noon)
	wantKind(t, err, fault.Unauthenticated)
	wantKind(t, s.Start(httptest.NewRecorder(), b.request(), bob, noon), fault.Unauthenticated)

	// Being enabled again does not bring the session back.
	if err := store.Enable(ctx, audit.CommandLine, bob.ID, noon); err != nil {
		t.Fatal(err)
	}
	_, err = s.Operator(b.request(), noon)
	wantKind(t, err, fault.Unauthenticated)

	// Disabled behind the program's back: dead at the next request all the same.
	b.start(t, s, bob, noon)
	if _, err := tx.Exec(ctx, `update ops.operators set disabled_at = $2 where id = $1`, bob.ID, noon); err != nil {
		t.Fatal(err)
	}
	_, err = s.Operator(b.request(), noon)
	wantKind(t, err, fault.Unauthenticated)
}

func TestSetPasswordEndsSessions(t *testing.T) {
	ctx := context.Background()
	s, store, _ := newSessions(t)
	ada, bob := makeAdmin(t, store, "ada@example.org"), makeAdmin(t, store, "bob@example.org")
	var adas, bobs browser
	adas.start(t, s, ada, noon)
	bobs.start(t, s, bob, noon)

	wantKind(t, store.SetPassword(ctx, audit.CommandLine, ada.ID, "password123", noon), fault.Invalid)
	if _, err := s.Operator(adas.request(), noon); err != nil {
		t.Errorf("after a refused password: %v", err)
	}
	if err := store.SetPassword(ctx, audit.CommandLine, ada.ID, goodPassword+"!", noon); err != nil {
		t.Fatal(err)
	}
	_, err := s.Operator(adas.request(), noon)
	wantKind(t, err, fault.Unauthenticated)
	if _, err := s.Operator(bobs.request(), noon); err != nil {
		t.Errorf("somebody else's session: %v", err)
	}
	if _, err := store.SignIn(ctx, ada.Email, goodPassword+"!", here, noon); err != nil {
		t.Errorf("with the new password: %v", err)
	}
	_, err = store.SignIn(ctx, ada.Email, goodPassword, here, noon)
	wantKind(t, err, fault.Unauthenticated)
}

func TestSessionValues(t *testing.T) {
	ctx := context.Background()
	s, store, tx := newSessions(t)
	ada := makeAdmin(t, store, "ada@example.org")
	var b browser

	// A visitor has no session that could hold anything.
	r, w := b.request(), httptest.NewRecorder()
	visitor, err := s.Get(r, s.CookieName())
	if err != nil || !visitor.IsNew {
		t.Fatalf("visitor's session: new %v, %v", visitor.IsNew, err)
	}
	if err := sessions.Save(r, w); err != nil || len(w.Result().Cookies()) != 0 {
		t.Errorf("saving an empty one: %v, cookies %v", err, w.Result().Cookies())
	}
	visitor.AddFlash("hello")
	wantKind(t, visitor.Save(r, w), fault.Unauthenticated)

	b.start(t, s, ada, noon)
	r = b.request()
	session, err := s.Get(r, s.CookieName())
	if err != nil || session.IsNew {
		t.Fatalf("session: new %v, %v", session.IsNew, err)
	}
	session.AddFlash("Saved.")
	session.Values["page"] = 3
	if err := session.Save(r, httptest.NewRecorder()); err != nil {
		t.Fatal(err)
	}
	again, err := s.Get(b.request(), s.CookieName())
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]any{"Saved."}, again.Flashes()); diff != "" {
		t.Errorf("flashes (-want +got):\n%s", diff)
	}
	if again.Values["page"] != 3.0 {
		t.Errorf("page is %v", again.Values["page"])
	}

	// A new sign-in starts empty, and what ended stays so.
	b.start(t, s, ada, noon)
	fresh, err := s.Get(b.request(), s.CookieName())
	if err != nil || fresh.Values["page"] != nil {
		t.Errorf("page after signing in again: %v (%v)", fresh.Values["page"], err)
	}
	wantKind(t, session.Save(r, httptest.NewRecorder()), fault.Unauthenticated)
	if _, err := tx.Exec(ctx, `delete from ops.sessions`); err != nil {
		t.Fatal(err)
	}
	wantKind(t, fresh.Save(r, httptest.NewRecorder()), fault.Unauthenticated)
}
