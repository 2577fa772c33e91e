package account

import (
	"net/http"
	"time"

	lru "github.com/hashicorp/golang-lru/v2"
)

const (
	// SessionRemembered is how long a session that this process found in the
	// database is known without it.
	SessionRemembered = time.Hour

	maxSeen = 1000 // operators with a browser each; who is forgotten has to wait for the database
)

// seen is which sessions this process found lately, by the hash of their token.
// It is for one purpose only: to let people read what to do when the database is
// away.
type seen struct {
	sessions *lru.Cache[string, sighting]
}

type sighting struct {
	operator Operator
	at       time.Time
}

func newSeen() *seen {
	sessions, _ := lru.New[string, sighting](maxSeen) // fails for a size below one only
	return &seen{sessions}
}

func (s *seen) note(hash []byte, operator Operator, now time.Time) {
	s.sessions.Add(string(hash), sighting{operator, now})
}

func (s *seen) forget(hash []byte) { s.sessions.Remove(string(hash)) }

// Remembered returns whose session the request carries, if this process found it
// in the database within SessionRemembered and has not been told since that it
// ended. It does not ask the database: use it only where that is away, and only
// to let somebody read what they have seen before.
func (s *Sessions) Remembered(r *http.Request, now time.Time) (Operator, bool) {
	cookie, err := r.Cookie(s.name)
	if err != nil {
		return Operator{}, false
	}
	hash, ok := hashToken(cookie.Value)
	if !ok {
		return Operator{}, false
	}
	found, ok := s.seen.sessions.Get(string(hash))
	if !ok || now.Sub(found.at) > SessionRemembered || now.Before(found.at) {
		return Operator{}, false
	}
	return found.operator, true
}
