package main

import (
	"encoding/json"
	"fmt"
	"io"
	"net"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/emersion/go-smtp"
	"github.com/jackc/pgx/v5"

	"github.com/promptcademy/promptops/internal/notify"
)

// mailbox is a real SMTP server that keeps what it gets.
type mailbox struct {
	mu    sync.Mutex
	mails []string
	hold  chan struct{} // not nil: no mail is taken until it is closed
}

func newMailbox(t *testing.T) (m *mailbox, address string) {
	t.Helper()
	m = &mailbox{}
	server := smtp.NewServer(smtp.BackendFunc(func(*smtp.Conn) (smtp.Session, error) { return &mailSession{m}, nil }))
	server.Domain = "localhost"
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	go func() { _ = server.Serve(listener) }()
	t.Cleanup(func() { _ = server.Close() })
	return m, listener.Addr().String()
}

func (m *mailbox) got() []string {
	m.mu.Lock()
	defer m.mu.Unlock()
	return append([]string(nil), m.mails...)
}

type mailSession struct{ *mailbox }

func (*mailSession) Mail(string, *smtp.MailOptions) error { return nil }
func (*mailSession) Rcpt(string, *smtp.RcptOptions) error { return nil }
func (*mailSession) Reset()                               {}
func (*mailSession) Logout() error                        { return nil }

func (s *mailSession) Data(r io.Reader) error {
	text, err := io.ReadAll(r)
	s.mu.Lock()
	hold := s.hold
	if hold == nil {
		s.mails = append(s.mails, string(text))
	}
	s.mu.Unlock()
	if hold != nil {
		<-hold
		return &smtp.SMTPError{Code: 451, Message: "Not now"}
	}
	return err
}

// Two nodes send each notification once; one that is killed while it sends loses
// nothing; and what is sealed of the channels moves to a new master key.
func TestNotifications(t *testing.T) {
	box, address := newMailbox(t)
	env := onDatabase(t)
	env["SMTP_URL"], env["PROMPTOPS_MAIL_FROM"], env["PROMPTOPS_MAIL_TO"] = "smtp://"+address, "Ops <ops@example.org>", "team@example.org"
	env["SLACK_WEBHOOK_URL"] = "https://hooks.slack.com/services/T0/B0/xoxsecret"
	promptops(t, env, "", "config").exits(t, 0).prints(t, "SMTP_URL=smtp://"+address, "SLACK_WEBHOOK_URL=[redacted]").hides(t, "xoxsecret")
	first, second := serveWith(t, env).ready(), serveWith(t, env).ready()

	conn, err := pgx.Connect(t.Context(), env["DATABASE_URL"])
	must(t, err)
	defer conn.Close(t.Context())
	add := func(subjects ...string) {
		t.Helper()
		must(t, pgx.BeginFunc(t.Context(), conn, func(tx pgx.Tx) error {
			for _, subject := range subjects {
				if _, _, err := notify.Add(t.Context(), tx, notify.Message{Channel: notify.Email, Subject: subject, Text: "Hello", Purpose: "key_alert"}, time.Now()); err != nil {
					return err
				}
			}
			return nil
		}))
	}
	states := func() string {
		return strings.Join(linesOf(t, env["DATABASE_URL"], `select concat_ws(' ', count(*), state, max(attempts)) from ops.deliveries group by state order by 1`), ", ")
	}
	var subjects []string
	for i := range 30 {
		subjects = append(subjects, fmt.Sprintf("number %d.", i))
	}
	add(subjects...)
	first.eventually("all are sent", func() bool { return states() == "30 sent 1" })
	all := strings.Join(box.got(), "\n")
	for _, subject := range subjects {
		if n := strings.Count(all, "Subject: "+subject); n != 1 {
			t.Errorf("%q was sent %d times", subject, n)
		}
	}
	second.end(syscall.SIGTERM, 0)

	// Killed while the mail server has not answered yet.
	box.mu.Lock()
	box.hold = make(chan struct{})
	box.mu.Unlock()
	add("held")
	first.eventually("it is being sent", func() bool {
		return len(linesOf(t, env["DATABASE_URL"], `select id::text from ops.deliveries where claim is not null`)) == 1
	})
	must(t, first.cmd.Process.Kill())
	<-first.ended
	box.mu.Lock()
	close(box.hold)
	box.hold = nil
	box.mu.Unlock()
	_, err = conn.Exec(t.Context(), `update ops.deliveries set due_at = now() where claim is not null`) // two minutes later
	must(t, err)
	third := serveWith(t, env).ready()
	third.eventually("it is sent again", func() bool { return states() == "31 sent 2" })
	if n := strings.Count(strings.Join(box.got(), "\n"), "Subject: held"); n != 1 {
		t.Errorf("it was taken %d times", n)
	}
	third.says("notification_sent_again")
	third.end(syscall.SIGTERM, 0)
	for _, node := range []*served{first, second, third} {
		hides(t, node, "xoxsecret")
	}

	// The Slack address moves to a new master key, and is refused without the old one.
	old := env["PROMPTOPS_MASTER_KEYS"]
	env["PROMPTOPS_MASTER_KEYS"] = "2:" + strings.TrimPrefix(newRing(t), "1:")
	promptops(t, env, "", "serve").exits(t, 1, "lacks master keys that notification channels were sealed with: 1 (address of slack)")
	env["PROMPTOPS_MASTER_KEYS"] += "," + old
	var result rewrapResult
	must(t, json.Unmarshal([]byte(promptops(t, env, "", "rewrap", "--json").exits(t, 0).stdout), &result))
	if result.Stored != 1 || result.Resealed != 1 || result.Left != 0 {
		t.Errorf("got %+v", result)
	}
}
