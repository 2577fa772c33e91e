package notify

import (
	"cmp"
	"fmt"
	"net"
	"net/mail"
	"net/netip"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/google/uuid"

	"github.com/promptcademy/promptops/internal/fault"
	"github.com/promptcademy/promptops/internal/network"
)

// How a mail server is spoken to.
const (
	StartTLS    = "starttls" // encrypted after a greeting; refused when the server cannot
	ImplicitTLS = "tls"      // encrypted from the first byte
	NoTLS       = "none"     // readable on the way
)

// Setup is how a channel is set up.
type Setup struct {
	Channel string
	Enabled bool

	// Of e-mail.
	Host     string
	Port     int
	Security string // StartTLS, ImplicitTLS or NoTLS
	Username string // empty: without signing in
	From     string // "Promptcademy Ops <ops@example.com>", or the address alone
	To       []string

	Address Secret // the URL of Slack and the webhook
	Secret  Secret // of e-mail the password, of the webhook the key that signs

	Revision  int        // 0: nothing is stored
	ChangedAt time.Time  // zero: never
	ChangedBy *uuid.UUID // the operator; nil: the configuration
	ChangedAs string     // the operator's name or address; empty: they are gone

	RestUntil  *time.Time // nothing is sent before
	LastSentAt *time.Time
	FailedAt   *time.Time // the last time that the channel as a whole failed
	Failure    string     // and why, in words

	sealedFor error // why what is sealed does not open here; nil: it does
}

// Name is what people call the channel.
func (s Setup) Name() string {
	switch s.Channel {
	case Email:
		return "E-mail"
	case Slack:
		return "Slack"
	}
	return "The webhook"
}

// Configured says whether enough is known to send.
func (s Setup) Configured() bool {
	if s.Channel == Email {
		return s.Host != "" && s.From != ""
	}
	return s.Address != ""
}

// Kept stands in a form for a secret that is stored and is not shown: sent back
// as it is, it stays.
const Kept = "••••••••"

// keeps says whether a secret was left as the form had it.
func keeps(typed string) bool { return strings.Contains(typed, Kept) }

// Values are the setup as ParseSetup reads it, secrets masked.
func (s Setup) Values() url.Values {
	v := url.Values{}
	if s.Enabled {
		v.Set("enabled", "on")
	}
	kept := ""
	if s.Secret != "" {
		kept = Kept
	}
	switch s.Channel {
	case Email:
		v.Set("host", s.Host)
		v.Set("port", "")
		if s.Port != 0 {
			v.Set("port", strconv.Itoa(s.Port))
		}
		v.Set("security", cmp.Or(s.Security, StartTLS))
		v.Set("username", s.Username)
		v.Set("password", kept)
		v.Set("from", s.From)
		v.Set("to", strings.Join(s.To, ", "))
	case Webhook:
		v.Set("key", kept)
		fallthrough
	default:
		v.Set("url", s.MaskedAddress())
	}
	return v
}

// MaskedAddress is where a URL leads, without what makes it a secret; empty where
// there is none.
func (s Setup) MaskedAddress() string {
	if s.Address == "" {
		return ""
	}
	u, err := url.Parse(string(s.Address))
	if err != nil {
		return Kept
	}
	masked := u.Scheme + "://" + u.Host + "/"
	if rest, ok := strings.CutPrefix(u.Path, "/services/"); ok && s.Channel == Slack {
		team, _, _ := strings.Cut(rest, "/")
		masked += "services/" + team + "/" // which workspace it is
	}
	return masked + Kept
}

// secrets are what must not be shown, also if somebody else says it.
func (s Setup) secrets() []Secret {
	all := []Secret{s.Address, s.Secret}
	if u, err := url.Parse(string(s.Address)); err == nil && len(u.Path) > 1 {
		all = append(all, Secret(u.RequestURI()), Secret(u.Path))
	}
	return all
}

// host is where a URL leads.
func (s Setup) host() string {
	u, err := url.Parse(string(s.Address))
	if err != nil {
		return ""
	}
	return u.Host
}

// ParseSetup reads a setup as it was typed: enabled, and of e-mail host, port,
// security, username, password, from and to, of Slack url, of the webhook url and
// key. A secret that holds Kept stays as it is stored. What can be told to be
// wrong by itself is fault.Invalid, with every bad field; Set tells the rest.
func ParseSetup(channel string, values url.Values) (Setup, error) {
	s := Setup{Channel: channel, Enabled: values.Get("enabled") != ""}
	typed := func(field string) string { return strings.TrimSpace(values.Get(field)) }
	switch channel {
	case Email:
		s.Host, s.Security, s.Username = typed("host"), typed("security"), typed("username")
		s.From, s.Secret = typed("from"), Secret(values.Get("password"))
		if port := typed("port"); port != "" {
			n, err := strconv.Atoi(port)
			if err != nil || n < 1 || n > 65535 {
				return s, fault.InvalidFields([]fault.Field{{Field: "port", Message: "must be a number from 1 to 65535; leave it empty for the usual one"}})
			}
			s.Port = n
		}
		for address := range strings.FieldsFuncSeq(typed("to"), func(r rune) bool { return r == ',' || r == ';' || r == '\n' || r == '\r' }) {
			if address = strings.TrimSpace(address); address != "" {
				s.To = append(s.To, address)
			}
		}
	case Slack, Webhook:
		s.Address, s.Secret = Secret(typed("url")), Secret(typed("key"))
	default:
		return s, fault.New(fault.NotFound, "There is no such channel.")
	}
	return s, nil
}

// merge fills in the secrets that were left as they were. The password is not
// handed to another server, nor the signing key to another address, than whoever
// typed it meant: then it has to be typed again.
func (s *Setup) merge(old Setup) (problems []fault.Field) {
	if keeps(string(s.Address)) {
		s.Address = old.Address
	}
	if !keeps(string(s.Secret)) {
		return nil
	}
	s.Secret = old.Secret
	switch {
	case old.Secret == "":
	case s.Channel == Email && (s.Host != old.Host || s.Port != old.Port || s.Security != old.Security || s.Username != old.Username):
		problems = append(problems, fault.Field{Field: "password", Message: "has to be typed again, because the server, the port, the encryption or the user name has changed: it is not sent to where it was not meant for"})
	case s.Channel == Webhook && s.host() != old.host():
		problems = append(problems, fault.Field{Field: "key", Message: "has to be typed again, because the URL leads to another server"})
	}
	return problems
}

const (
	maxField      = 500
	maxRecipients = 20
	minSigningKey = 16
)

// normalise fills in what is left to us.
func (s *Setup) normalise() {
	if s.Channel != Email {
		return
	}
	if s.Host == "" {
		s.Port = 0
		return
	}
	s.Security = cmp.Or(s.Security, StartTLS)
	if s.Port == 0 {
		s.Port = map[string]int{StartTLS: 587, ImplicitTLS: 465, NoTLS: 25}[s.Security]
	}
}

// check refuses what cannot work or is not safe, every field of it.
func (s *Setup) check(opts Options) (problems []fault.Field) {
	refuse := func(field, format string, args ...any) {
		problems = append(problems, fault.Field{Field: field, Message: fmt.Sprintf(format, args...)})
	}
	if s.Channel == Email {
		s.checkMail(refuse)
		return problems
	}
	switch u, err := url.Parse(string(s.Address)); {
	case s.Address == "":
		if s.Enabled {
			refuse("url", "is needed to switch this on")
		}
	case len(s.Address) > maxField || err != nil || (u.Scheme != "https" && u.Scheme != "http") || u.Hostname() == "" || u.User != nil || u.Fragment != "":
		refuse("url", "must be a web address like https://hooks.example.com/…, without user name and without #, of at most %d characters", maxField)
	case opts.AllowPrivate && isLoopback(u.Hostname()):
	case s.Channel == Slack && (!slices.Contains(slackHosts, u.Host) || u.Scheme != "https" || !strings.HasPrefix(u.Path, "/services/")):
		refuse("url", "must be an incoming webhook of Slack: it begins with https://hooks.slack.com/services/")
	case u.Scheme != "https":
		refuse("url", "must begin with https://")
	default:
		if ip, err := netip.ParseAddr(u.Hostname()); err == nil && !opts.AllowPrivate && network.Closed(ip) {
			refuse("url", "leads to an address that is not on the internet")
		}
	}
	if s.Channel == Webhook && s.Address != "" && (len(s.Secret) < minSigningKey || len(s.Secret) > maxField) {
		refuse("key", "must have %d characters or more: the receiver checks with it that a notification is ours. Make one: openssl rand -hex 32", minSigningKey)
	}
	return problems
}

func (s *Setup) checkMail(refuse func(field, format string, args ...any)) {
	if s.Host == "" && s.From == "" && len(s.To) == 0 && s.Username == "" && s.Secret == "" && !s.Enabled {
		return // not set up, and not meant to be
	}
	_, notAnIP := netip.ParseAddr(s.Host)
	switch {
	case s.Host == "":
		refuse("host", "is needed: the name of the server that takes your mail, like smtp.example.com")
	case len(s.Host) > 253 || notAnIP != nil && strings.ContainsFunc(s.Host, notInName):
		refuse("host", "must be the name of a server, like smtp.example.com; the port has a field of its own")
	}
	if !slices.Contains([]string{StartTLS, ImplicitTLS, NoTLS}, s.Security) && s.Host != "" {
		refuse("security", "must be one of those offered")
	}
	if (s.Username == "") != (s.Secret == "") {
		refuse("password", "and user name belong together: fill in both, or neither")
	}
	if len(s.Username) > maxField || len(s.Secret) > maxField || strings.ContainsFunc(s.Username+string(s.Secret), isControl) {
		refuse("username", "and password must have at most %d characters, and none that does not show", maxField)
	}
	if s.Security == NoTLS && s.Username != "" && !isLoopback(s.Host) {
		refuse("security", "must not be none with a password, which everybody on the way could read")
	}
	from, err := mail.ParseAddress(s.From)
	switch {
	case s.From == "":
		refuse("from", "is needed: the address that notifications come from")
	case err != nil || len(s.From) > maxField || strings.ContainsFunc(s.From, isControl):
		refuse("from", "must be an e-mail address, like ops@example.com or Promptcademy Ops <ops@example.com>")
	case from.Name == "":
		s.From = from.Address
	}
	if len(s.To) > maxRecipients {
		refuse("to", "must be at most %d addresses; use a mailing list for more", maxRecipients)
		return
	}
	for i, to := range s.To {
		address, err := mail.ParseAddress(to)
		if err != nil || len(to) > maxField || strings.ContainsFunc(to, isControl) {
			refuse("to", "must be e-mail addresses with commas between them; %q is none", cut(to, 60))
			return
		}
		s.To[i] = address.Address
	}
}

func isControl(r rune) bool { return r < ' ' || r == 0x7f }

// notInName says what no name of a server has. What is more than that shows when
// it is looked up.
func notInName(r rune) bool {
	return r <= ' ' || strings.ContainsRune(`/:@?#[]<>"'\,;%`, r) || r == 0x7f
}

// isLoopback says whether a host is this very machine.
func isLoopback(host string) bool {
	if host == "localhost" {
		return true
	}
	ip := net.ParseIP(host)
	return ip != nil && ip.IsLoopback()
}
