package notify

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"io"
	"log/slog"
	"math/big"
	"mime"
	"net"
	"net/http"
	"net/http/httptest"
	"net/mail"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/emersion/go-sasl"
	"github.com/emersion/go-smtp"
	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/promptcademy/promptops/internal/audit"
	"github.com/promptcademy/promptops/internal/postgres"
	"github.com/promptcademy/promptops/internal/seal"
)

const (
	oldKey   = "1:AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8="
	newKey   = "2:Hx4dHBsaGRgXFhUUExIREA8ODQwLCgkIBwYFBAMCAQA="
	password = "s3cret-of-the-mail-server"
)

var (
	noon = time.Date(2026, 11, 25, 12, 0, 0, 0, time.UTC)
	ada  = audit.Operator(uuid.MustParse("018f0000-0000-7000-8000-000000000001"), "ada@example.org")
)

func ring(t testing.TB, s string) *seal.Ring {
	t.Helper()
	r, err := seal.ParseRing(s)
	must(t, err)
	return r
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// logged is a log that can be read while it is written.
type logged struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (l *logged) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.Write(p)
}

func (l *logged) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.String()
}

func (l *logged) logger() *slog.Logger { return slog.New(slog.NewJSONHandler(l, nil)) }

// add puts messages into the outbox at a moment.
func add(t testing.TB, db postgres.DB, at time.Time, messages ...Message) (ids []uuid.UUID) {
	t.Helper()
	must(t, postgres.InTx(t.Context(), db, func(tx pgx.Tx) error {
		for _, m := range messages {
			id, _, err := Add(t.Context(), tx, m, at)
			if err != nil {
				return err
			}
			ids = append(ids, id)
		}
		return nil
	}))
	return ids
}

func find(t testing.TB, s *Store, id uuid.UUID) Delivery {
	t.Helper()
	found, err := s.Find(t.Context(), []uuid.UUID{id})
	must(t, err)
	d, ok := found[id]
	if !ok {
		t.Fatalf("there is no delivery %s", id)
	}
	return d
}

// set sets a channel up, over whatever holds.
func set(t testing.TB, s *Store, setup Setup) {
	t.Helper()
	old, err := s.Setup(t.Context(), setup.Channel)
	must(t, err)
	_, err = s.Set(t.Context(), setup, old.Revision, ada, noon)
	must(t, err)
}

// poster is a server that Slack and webhooks are played by.
type poster struct {
	*httptest.Server
	mu      sync.Mutex
	bodies  []string
	headers []http.Header
	answer  func(w http.ResponseWriter, r *http.Request)
}

func newPoster(t testing.TB, answer func(http.ResponseWriter, *http.Request)) *poster {
	t.Helper()
	p := &poster{answer: answer}
	p.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		p.mu.Lock()
		p.bodies = append(p.bodies, string(body))
		p.headers = append(p.headers, r.Header)
		answer := p.answer
		p.mu.Unlock()
		answer(w, r)
	}))
	t.Cleanup(p.Close)
	return p
}

func (p *poster) answers(answer func(http.ResponseWriter, *http.Request)) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.answer = answer
}

func (p *poster) got() []string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return append([]string(nil), p.bodies...)
}

// says answers with a status and a body; header is "Name", "value", …
func says(status int, body string, header ...string) func(http.ResponseWriter, *http.Request) {
	return func(w http.ResponseWriter, _ *http.Request) {
		for i := 0; i < len(header); i += 2 {
			w.Header().Set(header[i], header[i+1])
		}
		w.WriteHeader(status)
		_, _ = io.WriteString(w, body)
	}
}

var ok = says(http.StatusOK, "ok")

// received is a mail that the server has taken.
type received struct {
	From string
	To   []string
	Raw  string
	User string
	TLS  bool
}

// header is a header of the mail, decoded.
func (r received) header(t testing.TB, name string) string {
	t.Helper()
	m, err := mail.ReadMessage(strings.NewReader(r.Raw))
	must(t, err)
	text, err := new(mime.WordDecoder).DecodeHeader(m.Header.Get(name))
	must(t, err)
	return text
}

// mailServer is a real SMTP server.
type mailServer struct {
	*smtp.Server
	host  string
	port  int
	roots *tls.Config // what a client needs to trust it

	mu    sync.Mutex
	mails []received
	rcpt  func(to string) error
	data  func() error
}

// newMailServer starts one that speaks TLS as given: StartTLS, ImplicitTLS, NoTLS.
func newMailServer(t testing.TB, security string) *mailServer {
	t.Helper()
	certificate, roots := certificate(t)
	m := &mailServer{roots: roots}
	m.Server = smtp.NewServer(m)
	m.Domain, m.ErrorLog = "mail.example.org", quiet{}
	m.EnableSMTPUTF8 = true
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	m.host, m.port = "127.0.0.1", listener.Addr().(*net.TCPAddr).Port
	switch security {
	case StartTLS:
		m.TLSConfig = certificate
	case ImplicitTLS:
		listener = tls.NewListener(listener, certificate)
	case NoTLS:
		m.AllowInsecureAuth = true
	}
	go func() { _ = m.Serve(listener) }()
	t.Cleanup(func() { _ = m.Close() })
	return m
}

func (m *mailServer) setup(security string) Setup {
	return Setup{
		Channel: Email, Enabled: true, Host: m.host, Port: m.port, Security: security, Username: "ops", Secret: password,
		From: "Promptcademy Ops <ops@example.org>", To: []string{"team@example.org"},
	}
}

func (m *mailServer) got() []received {
	m.mu.Lock()
	defer m.mu.Unlock()
	return append([]received(nil), m.mails...)
}

// NewSession is for the server.
func (m *mailServer) NewSession(c *smtp.Conn) (smtp.Session, error) {
	_, encrypted := c.TLSConnectionState()
	return &session{server: m, received: received{TLS: encrypted}}, nil
}

type session struct {
	server *mailServer
	received
}

func (s *session) AuthMechanisms() []string { return []string{sasl.Plain} }

func (s *session) Auth(string) (sasl.Server, error) {
	return sasl.NewPlainServer(func(_, user, pass string) error {
		if user != "ops" || pass != password {
			return smtp.ErrAuthFailed
		}
		s.User = user
		return nil
	}), nil
}

func (s *session) Mail(from string, _ *smtp.MailOptions) error { s.From = from; return nil }

func (s *session) Rcpt(to string, _ *smtp.RcptOptions) error {
	if s.server.rcpt != nil {
		if err := s.server.rcpt(to); err != nil {
			return err
		}
	}
	s.To = append(s.To, to)
	return nil
}

func (s *session) Data(r io.Reader) error {
	raw, err := io.ReadAll(r)
	if err != nil {
		return err
	}
	if s.server.data != nil {
		if err := s.server.data(); err != nil {
			return err
		}
	}
	s.Raw = string(raw)
	s.server.mu.Lock()
	defer s.server.mu.Unlock()
	s.server.mails = append(s.server.mails, s.received)
	return nil
}

func (s *session) Reset()        { s.received = received{User: s.User, TLS: s.TLS} }
func (s *session) Logout() error { return nil }

type quiet struct{}

func (quiet) Printf(string, ...any) {}
func (quiet) Println(...any)        {}

// certificate makes one for 127.0.0.1, and what trusts it.
func certificate(t testing.TB) (server, client *tls.Config) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	must(t, err)
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "tests"}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	must(t, err)
	parsed, err := x509.ParseCertificate(der)
	must(t, err)
	pool := x509.NewCertPool()
	pool.AddCert(parsed)
	return &tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}}}, &tls.Config{RootCAs: pool}
}

// within is a context of a few seconds.
func within(t testing.TB, d time.Duration) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), d)
	t.Cleanup(cancel)
	return ctx
}
