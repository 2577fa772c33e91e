package config_test

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/promptcademy/promptops/internal/config"
)

func TestMailServer(t *testing.T) {
	for url, want := range map[string]config.MailServer{
		"smtp://ops:hunter%402@smtp.example.com:2525":       {Host: "smtp.example.com", Port: 2525, Security: "starttls", Username: "ops", Password: "hunter@2"},
		"smtp://smtp.example.com":                           {Host: "smtp.example.com", Security: "starttls"},
		" smtp://smtp.example.com:25?tls=none ":             {Host: "smtp.example.com", Port: 25, Security: "none"},
		"smtp://ops:x@smtp.example.com/?tls=starttls":       {Host: "smtp.example.com", Security: "starttls", Username: "ops", Password: "x"},
		"smtps://ops:x@smtp.example.com":                    {Host: "smtp.example.com", Security: "tls", Username: "ops", Password: "x"},
		"smtp://127.0.0.1:1025":                             {Host: "127.0.0.1", Port: 1025, Security: "none"},
		"smtp://ops:x@localhost:1025?tls=starttls":          {Host: "localhost", Port: 1025, Security: "starttls", Username: "ops", Password: "x"},
		"smtp://ops%40example.com:x@[2001:db8::1]:587?tls=": {Host: "2001:db8::1", Port: 587, Security: "starttls", Username: "ops@example.com", Password: "x"},
	} {
		c, err := config.Load([]string{"SMTP_URL=" + url, "PROMPTOPS_MAIL_FROM=Ops <ops@example.com>", "PROMPTOPS_MAIL_TO=a@example.com,b@example.com"})
		if err != nil {
			t.Errorf("%s: %v", url, err)
			continue
		}
		got, ok := c.MailServer()
		if diff := cmp.Diff(want, got); diff != "" || !ok {
			t.Errorf("%s (-want +got):\n%s", url, diff)
		}
	}
	if _, ok := (config.Config{}).MailServer(); ok {
		t.Error("there is none")
	}
}

func TestChannelsAreChecked(t *testing.T) {
	for line, says := range map[string]string{
		"SMTP_URL=hunter2": "SMTP_URL: must look like",
		"SMTP_URL=http://ops:hunter2@smtp.example.com":              "SMTP_URL: must look like",
		"SMTP_URL=smtp://ops:hunter2@smtp.example.com:0":            "SMTP_URL: must look like",
		"SMTP_URL=smtp://ops:hunter2@smtp.example.com:x":            "SMTP_URL: must look like",
		"SMTP_URL=smtp://ops@smtp.example.com":                      "SMTP_URL: must have a user name and a password",
		"SMTP_URL=smtp://ops:hunter2@smtp.example.com?tls=none":     "SMTP_URL: must not have tls=none",
		"SMTP_URL=smtp://ops:hunter2@smtp.example.com?tls=maybe":    "SMTP_URL: tls must be",
		"SMTP_URL=smtp://ops:hunter2@smtp.example.com?auth=hunter2": "SMTP_URL: takes nothing",
		"SMTP_URL=smtps://ops:hunter2@smtp.example.com?tls=none":    "SMTP_URL: takes nothing",
		"SMTP_URL=smtp://smtp.example.com":                          "PROMPTOPS_MAIL_FROM: is required with SMTP_URL",
		"PROMPTOPS_MAIL_FROM=ops":                                   "PROMPTOPS_MAIL_FROM: \"ops\" is not",
		"PROMPTOPS_MAIL_TO=a@example.com,nobody":                    "PROMPTOPS_MAIL_TO: \"nobody\" is not",
		"SLACK_WEBHOOK_URL=https://example.com/services/hunter2":    "SLACK_WEBHOOK_URL: must be an incoming webhook",
		"SLACK_WEBHOOK_URL=https://hooks.slack.com/x/hunter2":       "SLACK_WEBHOOK_URL: must be an incoming webhook",
	} {
		if _, err := config.Load([]string{line}); err == nil || !strings.Contains(err.Error(), says) || strings.Contains(err.Error(), "hunter2") {
			t.Errorf("%s: %v", line, err)
		}
	}
	c, err := config.Load([]string{
		"SLACK_WEBHOOK_URL=https://hooks.slack.com/services/T/B/hunter2", "SMTP_URL=smtp://ops:hunter2@smtp.example.com:587",
		"PROMPTOPS_MAIL_FROM=ops@example.com", "PROMPTOPS_MAIL_TO=a@example.com,b@example.com",
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, line := range []string{"SLACK_WEBHOOK_URL=[redacted]", "SMTP_URL=smtp://ops@smtp.example.com:587", "PROMPTOPS_MAIL_FROM=ops@example.com", "PROMPTOPS_MAIL_TO=a@example.com,b@example.com"} {
		if !strings.Contains(c.String(), line+"\n") {
			t.Errorf("%s is not among the settings:\n%s", line, c)
		}
	}
	if strings.Contains(c.String(), "hunter2") {
		t.Error("the settings show a password")
	}
}
