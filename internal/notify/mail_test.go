package notify

import (
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"mime/quotedprintable"
	"net"
	"net/mail"
	"strings"
	"testing"
	"time"

	"github.com/emersion/go-smtp"
	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"
)

func delivery(to, subject, text string) Delivery {
	return Delivery{ID: uuid.MustParse("018f0000-0000-7000-8000-00000000abcd"), Message: Message{Channel: Email, To: to, Subject: subject, Text: text}, CreatedAt: noon}
}

// body is the text of a mail, decoded.
func (r received) body(t testing.TB) string {
	t.Helper()
	m, err := mail.ReadMessage(strings.NewReader(r.Raw))
	must(t, err)
	reader := m.Body
	switch m.Header.Get("Content-Transfer-Encoding") {
	case "quoted-printable":
		reader = quotedprintable.NewReader(reader)
	case "base64":
		reader = base64.NewDecoder(base64.StdEncoding, reader)
	}
	text, err := io.ReadAll(reader)
	must(t, err)
	return strings.TrimRight(strings.ReplaceAll(string(text), "\r\n", "\n"), "\n")
}

func TestMailArrives(t *testing.T) {
	for _, security := range []string{StartTLS, ImplicitTLS, NoTLS} {
		server := newMailServer(t, security)
		channel := newMail(server.setup(security), Options{TLS: server.roots})
		text := "Hello Zoë <b>&amp;\n\n.a line that begins with a dot\n" + strings.Repeat("ünïcode ", 500)
		note, err := channel.Send(within(t, 10*time.Second), delivery("zoe@example.org", "Your key – <b>&", text))
		if err != nil || note != "" {
			t.Fatalf("%s: %q, %v", security, note, err)
		}
		got := server.got()
		if len(got) != 1 {
			t.Fatalf("%s: %d mails", security, len(got))
		}
		one := got[0]
		headers := map[string]string{}
		for _, name := range []string{"Subject", "From", "To", "Message-Id", "Date", "Auto-Submitted", "Content-Type", "User-Agent", "X-Mailer"} {
			headers[name] = one.header(t, name)
		}
		if diff := cmp.Diff(map[string]string{
			"Subject": "Your key – <b>&", "From": `"Promptcademy Ops" <ops@example.org>`, "To": "<zoe@example.org>",
			"Message-Id": "<018f0000-0000-7000-8000-00000000abcd@example.org>", "Date": "Wed, 25 Nov 2026 12:00:00 +0000",
			"Auto-Submitted": "auto-generated", "Content-Type": "text/plain; charset=UTF-8", "User-Agent": "", "X-Mailer": "",
		}, headers); diff != "" {
			t.Errorf("%s: headers (-want +got):\n%s", security, diff)
		}
		if diff := cmp.Diff(strings.TrimSpace(text), strings.TrimSpace(one.body(t))); diff != "" {
			t.Errorf("%s: text (-want +got):\n%s", security, diff)
		}
		if one.From != "ops@example.org" || one.User != "ops" || one.TLS != (security != NoTLS) {
			t.Errorf("%s: the envelope is %+v", security, one)
		}
	}
}

// Nothing that is sent becomes a header of its own or another recipient.
func TestMailHeadersCannotBeInjected(t *testing.T) {
	server := newMailServer(t, NoTLS)
	channel := newMail(server.setup(NoTLS), Options{})
	subject := "Hello\r\nBcc: victim@example.org\r\n\r\n<script>\u2028\x00\x1b[31m" + strings.Repeat("x", 5000)
	if _, err := channel.Send(within(t, 10*time.Second), delivery("zoe@example.org", subject, "one\r\n.\r\nMAIL FROM:<x@example.org>\r\n")); err != nil {
		t.Fatal(err)
	}
	for _, to := range []string{
		"zoe@example.org\r\nBcc: victim@example.org", "zoe@example.org>\r\nRCPT TO:<victim@example.org", "zoe@example.org, victim@example.org",
		"Zoe\r\nBcc: victim@example.org <zoe@example.org>", "", "nobody", "a@b@c", "\"x\r\ny\"@example.org", "Zoe <zoe@example.org>",
	} {
		if to == "" {
			continue
		}
		_, err := channel.Send(within(t, 10*time.Second), delivery(to, "Hello", "text"))
		f, ok := errors.AsType[*Failure](err)
		if !ok || !f.Permanent || f.Everybody || !strings.Contains(f.Words, "is not an e-mail address") {
			t.Errorf("%q: %v", to, err)
		}
	}
	got := server.got()
	if len(got) != 1 {
		t.Fatalf("%d mails, want 1", len(got))
	}
	if diff := cmp.Diff([]string{"zoe@example.org"}, got[0].To); diff != "" {
		t.Errorf("recipients (-want +got):\n%s", diff)
	}
	read := got[0].header(t, "Subject")
	if got[0].header(t, "Bcc") != "" || !strings.HasPrefix(read, "Hello Bcc: victim@example.org <script> [31mxxx") || len([]rune(read)) != maxSubject {
		t.Errorf("the subject is %q", read)
	}
}

func TestMailIsRefused(t *testing.T) {
	for name, tt := range map[string]struct {
		server    string // how it speaks
		change    func(*mailServer, *Setup, *Options)
		want      string
		permanent bool
		everybody bool
	}{
		"no STARTTLS":       {NoTLS, func(m *mailServer, s *Setup, _ *Options) { s.Security = StartTLS }, "does not offer encryption (STARTTLS), so nothing was sent", false, true},
		"a wrong password":  {StartTLS, func(_ *mailServer, s *Setup, _ *Options) { s.Secret = "wrong-password" }, "does not take the user name and password", true, true},
		"a certificate":     {StartTLS, func(_ *mailServer, _ *Setup, o *Options) { o.TLS = nil }, "certificate of the mail server 127.0.0.1:", false, true},
		"another server":    {ImplicitTLS, func(_ *mailServer, _ *Setup, o *Options) { o.TLS = nil }, "certificate of the mail server 127.0.0.1:", false, true},
		"nobody there":      {NoTLS, func(_ *mailServer, s *Setup, _ *Options) { s.Port = freePort() }, "cannot be spoken to", false, true},
		"no such recipient": {NoTLS, refusing(&smtp.SMTPError{Code: 550, EnhancedCode: smtp.EnhancedCode{5, 1, 1}, Message: "No such user " + password}), "does not take team@example.org: “550 5.1.1 No such user [redacted]”", true, false},
		"greylisting":       {NoTLS, refusing(&smtp.SMTPError{Code: 451, EnhancedCode: smtp.EnhancedCode{4, 7, 1}, Message: "Greylisted"}), "does not take team@example.org: “451", false, false},
		"spam": {NoTLS, func(m *mailServer, _ *Setup, _ *Options) {
			m.data = func() error { return &smtp.SMTPError{Code: 554, EnhancedCode: smtp.EnhancedCode{5, 7, 1}, Message: "Looks like spam"} }
		}, "did not take the message: “554", true, false},
		"a full disk": {NoTLS, func(m *mailServer, _ *Setup, _ *Options) {
			m.data = func() error { return &smtp.SMTPError{Code: 452, EnhancedCode: smtp.EnhancedCode{4, 3, 1}, Message: "Full"} }
		}, "did not take the message: “452", false, true},
		"nobody to send to": {NoTLS, func(_ *mailServer, s *Setup, _ *Options) { s.To = nil }, "Nobody is set down to get it", true, false},
	} {
		t.Run(name, func(t *testing.T) {
			server := newMailServer(t, tt.server)
			setup, options := server.setup(tt.server), Options{TLS: server.roots}
			tt.change(server, &setup, &options)
			_, err := newMail(setup, options).Send(within(t, 10*time.Second), delivery("", "Hello", "text"))
			f, ok := errors.AsType[*Failure](err)
			if !ok || f.Permanent != tt.permanent || f.Everybody != tt.everybody || !strings.Contains(f.Words, tt.want) {
				t.Errorf("got %+v", err)
			}
			if strings.Contains(fmt.Sprint(err), password) {
				t.Errorf("the password shows: %v", err)
			}
			if len(server.got()) > 0 {
				t.Error("it was sent")
			}
		})
	}
}

// freePort is one that nobody listens on.
func freePort() int {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return 1
	}
	defer listener.Close()
	return listener.Addr().(*net.TCPAddr).Port
}

func refusing(err error) func(*mailServer, *Setup, *Options) {
	return func(m *mailServer, _ *Setup, _ *Options) { m.rcpt = func(string) error { return err } }
}

// A server that says nothing is not waited for.
func TestMailServerHangs(t *testing.T) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	defer listener.Close()
	setup := Setup{Channel: Email, Host: "127.0.0.1", Port: listener.Addr().(*net.TCPAddr).Port, Security: NoTLS, From: "ops@example.org"}
	_, err = newMail(setup, Options{}).Send(within(t, 300*time.Millisecond), delivery("zoe@example.org", "Hello", "text"))
	f, ok := errors.AsType[*Failure](err)
	if !ok || f.Permanent || !f.Everybody || !strings.Contains(f.Words, "did not answer in time") {
		t.Errorf("got %v", err)
	}
}

// One address that is refused does not keep the others from getting it.
func TestMailToSeveral(t *testing.T) {
	server := newMailServer(t, NoTLS)
	server.rcpt = func(to string) error {
		if strings.HasPrefix(to, "gone") {
			return &smtp.SMTPError{Code: 550, EnhancedCode: smtp.EnhancedCode{5, 1, 1}, Message: "No such user"}
		}
		return nil
	}
	setup := server.setup(NoTLS)
	setup.To = []string{"one@example.org", "two@example.org"}
	note, err := newMail(setup, Options{}).Send(within(t, 10*time.Second), delivery("", "Hello", "text"))
	if err != nil || note != "" || len(server.got()) != 1 || len(server.got()[0].To) != 2 {
		t.Fatalf("%q, %v, %+v", note, err, server.got())
	}
	setup.To = []string{"one@example.org", "gone@example.org", "two@example.org"}
	note, err = newMail(setup, Options{}).Send(within(t, 10*time.Second), delivery("", "Hello", "text"))
	if err != nil || note != "The mail server does not take gone@example.org: “550 5.1.1 No such user”." || len(server.got()) != 3 {
		t.Errorf("%q, %v, %d mails", note, err, len(server.got()))
	}
	setup.To = []string{"gone@example.org", "gone2@example.org"}
	_, err = newMail(setup, Options{}).Send(within(t, 10*time.Second), delivery("", "Hello", "text"))
	if f, ok := errors.AsType[*Failure](err); !ok || !f.Permanent {
		t.Errorf("all refused: %v", err)
	}
}
