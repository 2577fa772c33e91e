package notify

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/mail"
	"net/textproto"
	"strings"
	"time"

	gomail "github.com/wneessen/go-mail"
)

const (
	mailTimeout = 15 * time.Second // of one connection, as long as the server says nothing
	maxSubject  = 200              // runes
	maxText     = 100_000
)

// mailer sends e-mail through one SMTP server. Mail servers usually stand in a
// private network, so that is where it may connect to.
type mailer struct {
	setup Setup
	opts  Options
}

func newMail(setup Setup, opts Options) Channel { return mailer{setup, opts} }

// Send hands the delivery to the mail server. When it refuses some recipients of
// several, the others get it.
func (m mailer) Send(ctx context.Context, d Delivery) (note string, err error) {
	to := m.setup.To
	if d.To != "" {
		to = []string{d.To}
	}
	if len(to) == 0 {
		return "", &Failure{Words: "Nobody is set down to get it: add an address to “To” on Settings → Channels.", Permanent: true}
	}
	err = m.post(ctx, d, to)
	if len(to) == 1 || !refusesRecipient(err) {
		return "", m.failure(err, to)
	}
	// One bad address must not keep a warning from everybody else. Nobody has got
	// anything yet, so it goes to each by themselves.
	var refused []string
	for _, one := range to {
		if problem := m.post(ctx, d, []string{one}); problem != nil {
			err = problem
			refused = append(refused, m.failure(problem, []string{one}).Error())
		}
	}
	if len(refused) == len(to) {
		return "", m.failure(err, to)
	}
	return strings.Join(refused, " "), nil
}

func (m mailer) post(ctx context.Context, d Delivery, to []string) error {
	message, err := m.compose(d, to)
	if err != nil {
		return err
	}
	client, err := m.client(ctx)
	if err != nil {
		return err
	}
	err = client.DialAndSendWithContext(ctx, message)
	if message.IsDelivered() {
		return nil // what the server said afterwards, to being thanked, changes nothing
	}
	return err
}

func (m mailer) compose(d Delivery, to []string) (*gomail.Msg, error) {
	message := gomail.NewMsg(gomail.WithNoDefaultUserAgent())
	from, err := mail.ParseAddress(m.setup.From)
	if err != nil {
		return nil, &Failure{Words: "“From” is not an e-mail address: change it on Settings → Channels.", Permanent: true, Everybody: true}
	}
	message.FromMailAddress(&mail.Address{Name: oneLine(from.Name), Address: from.Address})
	var recipients []*mail.Address
	for _, one := range to {
		address, err := mail.ParseAddress(one)
		if err != nil || strings.ContainsFunc(one, isControl) || address.Name != "" {
			return nil, &Failure{Words: fmt.Sprintf("%s is not an e-mail address.", quoted(one)), Permanent: true}
		}
		recipients = append(recipients, address)
	}
	message.ToMailAddress(recipients...)
	message.Subject(cut(oneLine(d.Subject), maxSubject))
	// The same on every attempt: whoever gets it twice can tell.
	message.SetMessageIDWithValue(d.ID.String() + from.Address[strings.LastIndexByte(from.Address, '@'):])
	message.SetDateWithValue(d.CreatedAt)
	message.SetGenHeader("Auto-Submitted", "auto-generated") // no out-of-office notes, please
	message.SetBodyString(gomail.TypeTextPlain, cut(strings.ReplaceAll(d.Text, "\r\n", "\n"), maxText))
	return message, nil
}

func (m mailer) client(ctx context.Context) (*gomail.Client, error) {
	config := &tls.Config{MinVersion: tls.VersionTLS12}
	if m.opts.TLS != nil {
		config = m.opts.TLS.Clone()
	}
	config.ServerName = m.setup.Host
	patience := mailTimeout // the library heeds ctx only until it is connected
	if end, ends := ctx.Deadline(); ends {
		patience = max(min(patience, time.Until(end)), time.Millisecond)
	}
	options := []gomail.Option{
		gomail.WithPort(m.setup.Port), gomail.WithTimeout(patience), gomail.WithTLSConfig(config),
		gomail.WithHELO(m.greeting()), gomail.WithoutNoop(),
	}
	switch m.setup.Security {
	case ImplicitTLS:
		options = append(options, gomail.WithSSL())
	case NoTLS:
		options = append(options, gomail.WithTLSPolicy(gomail.NoTLS))
	default:
		options = append(options, gomail.WithTLSPolicy(gomail.TLSMandatory))
	}
	if m.setup.Username != "" {
		auth := gomail.SMTPAuthAutoDiscover
		if m.setup.Security == NoTLS && isLoopback(m.setup.Host) {
			auth = gomail.SMTPAuthPlainNoEnc // it does not leave this machine
		}
		options = append(options, gomail.WithSMTPAuth(auth), gomail.WithUsername(m.setup.Username), gomail.WithPassword(string(m.setup.Secret)))
	}
	client, err := gomail.NewClient(m.setup.Host, options...)
	if err != nil {
		return nil, &Failure{Words: "The mail server cannot be used as it is set up: " + quoted(err.Error(), m.setup.secrets()...) + ".", Permanent: true, Everybody: true}
	}
	return client, nil
}

// greeting is who we say we are: the domain that mail comes from, as our own
// name is nobody's business.
func (m mailer) greeting() string {
	domain := m.setup.From[strings.LastIndexByte(m.setup.From, '@')+1:]
	return strings.TrimSuffix(domain, ">")
}

func refusesRecipient(err error) bool {
	refused, ok := errors.AsType[*gomail.SendError](err)
	return ok && refused.Reason == gomail.ErrSMTPRcptTo
}

// failure says in words what the mail server has against it. Replies that begin
// with 5 are final, RFC 5321 4.2.1; 4 means later.
func (m mailer) failure(err error, to []string) error {
	if err == nil {
		return nil
	}
	if f, ok := errors.AsType[*Failure](err); ok {
		return f
	}
	server := net.JoinHostPort(m.setup.Host, fmt.Sprint(m.setup.Port))
	said := func(err error) string {
		if reply, ok := errors.AsType[*textproto.Error](err); ok {
			return quoted(reply.Error(), m.setup.secrets()...)
		}
		return quoted(err.Error(), m.setup.secrets()...)
	}
	code := 0
	if reply, ok := errors.AsType[*textproto.Error](err); ok {
		code = reply.Code
	}
	if refused, ok := errors.AsType[*gomail.SendError](err); ok {
		code = refused.ErrorCode()
		reply, _, _ := strings.Cut(strings.TrimPrefix(refused.Error(), refused.Reason.String()+":"), ", affected")
		words := quoted(strings.ReplaceAll(reply, `"`, ""), m.setup.secrets()...)
		switch refused.Reason {
		case gomail.ErrSMTPRcptTo:
			return &Failure{Words: fmt.Sprintf("The mail server does not take %s: %s.", strings.Join(to, ", "), words), Permanent: code >= 500}
		case gomail.ErrSMTPMailFrom:
			return &Failure{Words: fmt.Sprintf("The mail server does not take the sender: %s.", words), Permanent: code >= 500, Everybody: true}
		case gomail.ErrSMTPData, gomail.ErrSMTPDataClose:
			return &Failure{Words: fmt.Sprintf("The mail server did not take the message: %s.", words), Permanent: code >= 500, Everybody: code < 500}
		}
	}
	var unknown x509Errors
	switch {
	case unknown.in(err):
		return &Failure{Words: fmt.Sprintf("The certificate of the mail server %s is not to be trusted: %s.", server, said(err)), Everybody: true}
	case code == 535 || code == 534 || strings.Contains(err.Error(), "SMTP AUTH failed"):
		return &Failure{Words: fmt.Sprintf("The mail server %s does not take the user name and password: %s.", server, said(err)), Permanent: code >= 500, Everybody: true}
	case strings.Contains(err.Error(), "STARTTLS"):
		return &Failure{Words: fmt.Sprintf("The mail server %s does not offer encryption (STARTTLS), so nothing was sent to it.", server), Everybody: true}
	case code != 0:
		return &Failure{Words: fmt.Sprintf("The mail server %s said no: %s.", server, said(err)), Permanent: code >= 500, Everybody: true}
	case isTimeout(err):
		return &Failure{Words: fmt.Sprintf("The mail server %s did not answer in time.", server), Everybody: true}
	}
	return &Failure{Words: fmt.Sprintf("The mail server %s cannot be spoken to: %s.", server, said(err)), Everybody: true}
}
