package account

import (
	"errors"
	"net"
	"net/http"
	"time"

	"github.com/gorilla/sessions"
	"github.com/jackc/pgx/v5"

	"github.com/promptcademy/promptops/internal/fault"
	"github.com/promptcademy/promptops/internal/postgres"
)

// A session ends after SessionIdle without a request, and after SessionMax in
// any case.
const (
	SessionIdle = 24 * time.Hour
	SessionMax  = 7 * 24 * time.Hour
)

// sessionTouch is how old last_seen_at may get before it is written again.
const sessionTouch = time.Minute

// Sessions is a sessions.Store whose sessions are rows of ops.sessions: the
// cookie holds 256 random bits, the row their hash. Only operators have
// sessions, so there is none before sign-in that could be smuggled in.
//
// Handlers use Start, Operator and End. Get and Save, with CookieName, are for
// values and flashes of the session: keys are strings, values survive JSON.
type Sessions struct {
	db       postgres.DB
	name     string
	secure   bool
	now      func() time.Time
	clientIP func(*http.Request) string
	seen     *seen
}

// SessionOptions of NewSessions. The zero value is for plain HTTP.
type SessionOptions struct {
	Secure   bool                       // browsers reach us by HTTPS
	Now      func() time.Time           // nil: time.Now
	ClientIP func(*http.Request) string // behind proxies; nil: the connection's other end
}

// NewSessions returns Sessions on db.
func NewSessions(db postgres.DB, opts SessionOptions) *Sessions {
	s := &Sessions{db: db, name: "promptops", secure: opts.Secure, now: opts.Now, clientIP: opts.ClientIP, seen: newSeen()}
	if s.secure {
		s.name = "__Host-promptops" // browsers keep other hosts from setting it
	}
	if s.now == nil {
		s.now = time.Now
	}
	if s.clientIP == nil {
		s.clientIP = func(r *http.Request) string {
			host, _, _ := net.SplitHostPort(r.RemoteAddr)
			return host
		}
	}
	return s
}

var _ sessions.Store = (*Sessions)(nil)

// operatorKey is where a session's Values hold the Operator.
type operatorKey struct{}

// CookieName is the name of the session, for Get.
func (s *Sessions) CookieName() string { return s.name }

// Start signs the operator in on this browser: a new session with a new id.
// The session that the request came with, if any, is over. It is
// fault.Unauthenticated when the operator was disabled meanwhile.
func (s *Sessions) Start(w http.ResponseWriter, r *http.Request, operator Operator, now time.Time) error {
	s = s.at(now)
	session, err := s.Get(r, s.name)
	if err != nil {
		return err
	}
	if hash, ok := hashToken(session.ID); ok {
		if err := s.delete(r.Context(), hash); err != nil {
			return err
		}
	}
	session.ID, session.IsNew = "", true
	clear(session.Values)
	session.Values[operatorKey{}] = operator
	return s.Save(r, w, session)
}

// Operator returns who is signed in. It is fault.Unauthenticated for nobody:
// no session, an expired one, a disabled operator. However often it is called
// during a request, the database is asked once.
func (s *Sessions) Operator(r *http.Request, now time.Time) (Operator, error) {
	session, err := s.at(now).Get(r, s.name)
	if err != nil {
		return Operator{}, err
	}
	operator, ok := session.Values[operatorKey{}].(Operator)
	if !ok {
		return Operator{}, signedOut()
	}
	return operator, nil
}

// End signs out: the session is deleted, not only the cookie. Without a
// session it only clears the cookie.
func (s *Sessions) End(w http.ResponseWriter, r *http.Request) error {
	session, err := s.Get(r, s.name)
	if err != nil {
		return err
	}
	session.Options.MaxAge = -1
	return s.Save(r, w, session)
}

func signedOut() *fault.Error {
	return fault.New(fault.Unauthenticated, "You are not signed in, or your session has ended. Sign in to go on.")
}

// at returns s with the clock stopped: the methods of sessions.Store have no
// room for a time.
func (s *Sessions) at(now time.Time) *Sessions {
	stopped := *s
	stopped.now = func() time.Time { return now }
	return &stopped
}

// Get returns the request's session; see sessions.Store.
func (s *Sessions) Get(r *http.Request, name string) (*sessions.Session, error) {
	return sessions.GetRegistry(r).Get(s, name)
}

// New reads the request's session from the database; see sessions.Store.
func (s *Sessions) New(r *http.Request, name string) (*sessions.Session, error) {
	session := sessions.NewSession(s, name)
	session.IsNew = true
	session.Options = &sessions.Options{
		Path:     "/",
		MaxAge:   int(SessionMax / time.Second),
		Secure:   s.secure,
		HttpOnly: true,
		SameSite: http.SameSiteLaxMode,
	}
	cookie, err := r.Cookie(name)
	if err != nil {
		return session, nil // no cookie
	}
	hash, ok := hashToken(cookie.Value)
	if !ok {
		return session, nil
	}
	row, err := s.find(r.Context(), hash)
	if errors.Is(err, pgx.ErrNoRows) {
		s.seen.forget(hash)
		return session, nil
	}
	if err != nil {
		return session, err
	}
	s.seen.note(hash, row.Operator, s.now())
	session.ID, session.IsNew = cookie.Value, false
	session.Values[operatorKey{}] = row.Operator
	for key, value := range row.Data {
		session.Values[key] = value
	}
	return session, nil
}

// Save stores the session's values; see sessions.Store. It never brings a
// session back that ended meanwhile: that is fault.Unauthenticated.
func (s *Sessions) Save(r *http.Request, w http.ResponseWriter, session *sessions.Session) error {
	ctx := r.Context()
	hash, exists := hashToken(session.ID)
	if session.Options.MaxAge < 0 {
		if exists {
			if err := s.delete(ctx, hash); err != nil {
				return err
			}
		}
		session.ID = ""
		clear(session.Values)
		http.SetCookie(w, sessions.NewCookie(session.Name(), "", session.Options))
		return nil
	}

	operator, ok := session.Values[operatorKey{}].(Operator)
	if !ok {
		if len(session.Values) == 0 {
			return nil // a visitor's
		}
		return signedOut()
	}
	data := map[string]any{}
	for key, value := range session.Values {
		if name, ok := key.(string); ok {
			data[name] = value
		}
	}
	if exists {
		return s.update(ctx, hash, data)
	}
	token, hash := newToken()
	if err := s.insert(r, hash, operator.ID, data); err != nil {
		return err
	}
	session.ID = token
	http.SetCookie(w, sessions.NewCookie(session.Name(), token, session.Options))
	return nil
}
