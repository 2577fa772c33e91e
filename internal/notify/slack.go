package notify

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"time"
	"unicode/utf8"
)

// slackHosts are where Slack's incoming webhooks are.
var slackHosts = []string{"hooks.slack.com", "hooks.slack-gov.com"}

// maxSlackText is what Slack recommends as the most, in characters as they are
// sent; it takes 40,000 and cuts the rest off.
const maxSlackText = 4000

// slack posts to an incoming webhook, which belongs to one channel of one
// workspace. https://docs.slack.dev/messaging/sending-messages-using-incoming-webhooks
type slack struct {
	setup Setup
	opts  Options
}

func newSlack(setup Setup, opts Options) Channel { return slack{setup, opts} }

func (s slack) Send(ctx context.Context, d Delivery) (note string, err error) {
	body, err := json.Marshal(map[string]any{"text": slackText(d.Subject, d.Text), "unfurl_links": false, "unfurl_media": false})
	if err != nil {
		return "", err
	}
	status, said, after, err := post(ctx, s.opts, "Slack", s.setup, body, nil)
	if err != nil {
		return "", err
	}
	if status == http.StatusOK && strings.TrimSpace(said) == "ok" {
		return "", nil
	}
	return "", s.failure(status, said, after)
}

// slackText is the subject in bold and the text below it, with nothing in them
// that Slack would take for a mention, a link or markup of ours.
func slackText(subject, text string) string {
	subject = strings.TrimSpace(strings.ReplaceAll(cut(oneLine(subject), maxSubject), "*", ""))
	if subject != "" {
		subject = "*" + slackEscape(subject, maxSlackText) + "*\n"
	}
	return subject + slackEscape(strings.ReplaceAll(text, "\r\n", "\n"), maxSlackText-utf8.RuneCountInString(subject))
}

// slackEscape writes & < > as Slack wants them, and cuts off what is more than
// limit characters then, never within one of them.
func slackEscape(s string, limit int) string {
	var b strings.Builder
	room := limit - 1 // for the sign that something is missing
	for i, r := range s {
		escaped := string(r)
		switch r {
		case '&':
			escaped = "&amp;"
		case '<':
			escaped = "&lt;"
		case '>':
			escaped = "&gt;"
		}
		n := utf8.RuneCountInString(escaped)
		if n > room && !(n == room+1 && i+utf8.RuneLen(r) == len(s)) {
			return b.String() + "…"
		}
		room -= n
		b.WriteString(escaped)
	}
	return b.String()
}

// slackSays are the error bodies that Slack documents, in words.
var slackSays = map[string]string{
	"invalid_payload":                   "Slack could not read the message",
	"no_text":                           "Slack found no text in the message",
	"user_not_found":                    "the person that the webhook posts to is not there any more",
	"channel_not_found":                 "the channel that the webhook posts to is not there any more: make a new webhook in Slack",
	"channel_is_archived":               "the channel that the webhook posts to is archived: make a new webhook in Slack",
	"action_prohibited":                 "an admin of the workspace has forbidden posting there",
	"posting_to_general_channel_denied": "the webhook may not post to the general channel: make one for another channel",
	"team_disabled":                     "the Slack workspace is disabled",
	"no_team":                           "the Slack workspace is not there any more",
	"no_service":                        "the webhook is revoked or was never there: make a new one in Slack",
	"no_service_id":                     "the webhook is revoked or was never there: make a new one in Slack",
	"no_active_hooks":                   "the webhook is disabled: make a new one in Slack",
	"invalid_token":                     "the webhook is revoked or was never there: make a new one in Slack",
	"rollup_error":                      "something went wrong at Slack",
}

// failure says what an answer other than ok means. Slack limits a webhook to
// about one message a second and answers more with 429 and Retry-After.
func (s slack) failure(status int, said string, after time.Duration) *Failure {
	said = strings.TrimSpace(said)
	words, known := slackSays[said]
	if !known {
		words = "it said " + quoted(said, s.setup.secrets()...)
	}
	words = fmt.Sprintf("Slack did not take it (status %d): %s.", status, words)
	switch {
	case status == http.StatusTooManyRequests:
		return &Failure{Words: "Slack wants fewer messages (status 429).", Everybody: true, After: after}
	case status >= 500 || status == http.StatusRequestTimeout:
		return &Failure{Words: words, Everybody: true, After: after}
	}
	ours := said == "invalid_payload" || said == "no_text" // this message's fault alone
	return &Failure{Words: words, Permanent: true, Everybody: !ours}
}
