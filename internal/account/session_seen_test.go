package account

import (
	"net/http/httptest"
	"testing"
	"time"

	"github.com/google/uuid"
)

func TestRemembered(t *testing.T) {
	s, store, tx := newSessions(t)
	ada := makeAdmin(t, store, "ada@example.org")
	var b, other browser
	remembers := func(now time.Time) bool {
		t.Helper()
		operator, ok := s.Remembered(b.request(), now)
		if ok && operator.ID != ada.ID {
			t.Errorf("remembered as %s", operator.Email)
		}
		return ok
	}
	b.start(t, s, ada, noon)
	if remembers(noon) {
		t.Error("remembered before it was found in the database")
	}
	find := func(now time.Time) {
		t.Helper()
		if _, err := s.Operator(b.request(), now); err != nil {
			t.Fatal(err)
		}
	}
	find(noon)
	if !remembers(noon) || !remembers(noon.Add(SessionRemembered)) || remembers(noon.Add(SessionRemembered+time.Second)) || remembers(noon.Add(-time.Second)) {
		t.Error("not remembered for an hour exactly")
	}
	if _, ok := s.Remembered(other.request(), noon); ok {
		t.Error("somebody without a session is remembered")
	}
	forged := httptest.NewRequest("GET", "/", nil)
	forged.AddCookie(b.cookies[0])
	forged.Header.Set("Cookie", forged.Header.Get("Cookie")[:30])
	if _, ok := s.Remembered(forged, noon); ok {
		t.Error("a part of the token is enough")
	}

	// What ends here is forgotten here.
	other.start(t, s, ada, noon)
	if _, err := s.EndOthers(other.request(), ada, noon); err != nil {
		t.Fatal(err)
	}
	if remembers(noon) {
		t.Error("remembered after it was ended from another browser")
	}
	b.start(t, s, ada, noon)
	find(noon)
	if err := s.End(httptest.NewRecorder(), b.request()); err != nil || remembers(noon) {
		t.Errorf("remembered after signing out, %v", err)
	}
	// What was ended elsewhere is forgotten with the next look.
	b.start(t, s, ada, noon)
	find(noon)
	if _, err := tx.Exec(t.Context(), `delete from ops.sessions`); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Operator(b.request(), noon); err == nil || remembers(noon) {
		t.Errorf("remembered after it was found to be gone, %v", err)
	}
	// It does not grow without bound.
	for range 3 * maxSeen {
		id := uuid.New()
		s.seen.note(id[:], ada, noon)
	}
	if got := s.seen.sessions.Len(); got > maxSeen {
		t.Errorf("%d are remembered", got)
	}
}
