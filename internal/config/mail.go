package config

import (
	"net"
	"net/mail"
	"net/url"
	"slices"
	"strconv"
	"strings"
)

// MailServer is what SMTP_URL says.
type MailServer struct {
	Host     string
	Port     int    // 0: the usual one
	Security string // "starttls", "tls" or "none"
	Username string
	Password string
}

// MailServer is the SMTP server, if there is one. Load has checked it.
func (c Config) MailServer() (server MailServer, ok bool) {
	if c.SMTP == "" {
		return MailServer{}, false
	}
	server, problem := parseSMTP(c.SMTP)
	return server, problem == ""
}

// parseSMTP reads smtp://user:password@host:587?tls=starttls or smtps://…; a
// problem never shows what was written.
func parseSMTP(raw string) (server MailServer, problem string) {
	const like = "must look like smtp://user:password@smtp.example.com:587 or smtps://…, with special characters of the password percent-encoded"
	u, err := url.Parse(raw)
	if err != nil || (u.Scheme != "smtp" && u.Scheme != "smtps") || u.Hostname() == "" || strings.Trim(u.Path, "/") != "" || u.Fragment != "" {
		return server, like
	}
	server = MailServer{Host: u.Hostname(), Security: "starttls", Username: u.User.Username()}
	server.Password, _ = u.User.Password()
	if (server.Username == "") != (server.Password == "") {
		return server, "must have a user name and a password, or neither"
	}
	if text := u.Port(); text != "" {
		if server.Port, err = strconv.Atoi(text); err != nil || server.Port < 1 || server.Port > 65535 {
			return server, like
		}
	}
	query := u.Query()
	chosen := query.Get("tls")
	query.Del("tls")
	loopback := loopbackHost(server.Host)
	switch {
	case len(query) > 0 || u.Scheme == "smtps" && chosen != "":
		return server, "takes nothing after ? but tls=starttls or tls=none, and that with smtp:// only"
	case u.Scheme == "smtps":
		server.Security = "tls"
	case chosen == "none", chosen == "" && loopback:
		server.Security = "none"
	case chosen != "" && chosen != "starttls":
		return server, "tls must be starttls or none; smtps:// encrypts from the first byte"
	}
	if server.Security == "none" && server.Password != "" && !loopback {
		return server, "must not have tls=none with a password, which everybody on the way could read"
	}
	return server, ""
}

// loopbackHost says whether a host is this very machine.
func loopbackHost(host string) bool {
	ip := net.ParseIP(host)
	return host == "localhost" || ip != nil && ip.IsLoopback()
}

// checkChannels names what is wrong with where notifications go.
func (c Config) checkChannels(bad func(name, format string, args ...any)) {
	if c.SMTP != "" {
		if _, problem := parseSMTP(c.SMTP); problem != "" {
			bad("SMTP_URL", "%s", problem)
		}
		if c.MailFrom == "" {
			bad("PROMPTOPS_MAIL_FROM", "is required with SMTP_URL: the address that notifications come from, like ops@example.com")
		}
	}
	if c.MailFrom != "" {
		if _, err := mail.ParseAddress(c.MailFrom); err != nil {
			bad("PROMPTOPS_MAIL_FROM", "%q is not an e-mail address; write it like ops@example.com or Promptcademy Ops <ops@example.com>", c.MailFrom)
		}
	}
	for _, to := range c.MailTo {
		if _, err := mail.ParseAddress(strings.TrimSpace(to)); err != nil {
			bad("PROMPTOPS_MAIL_TO", "%q is not an e-mail address; write them with commas between", to)
		}
	}
	if c.SlackWebhook != "" {
		u, err := url.Parse(c.SlackWebhook)
		real := err == nil && u.Scheme == "https" && slices.Contains([]string{"hooks.slack.com", "hooks.slack-gov.com"}, u.Host) && strings.HasPrefix(u.Path, "/services/")
		if double := err == nil && loopbackHost(u.Hostname()); !real && !double {
			bad("SLACK_WEBHOOK_URL", "must be an incoming webhook of Slack: it begins with https://hooks.slack.com/services/")
		}
	}
}
