package notify

import (
	"encoding/json"
	"errors"
	"net/http"
	"net/netip"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"

	"github.com/promptcademy/promptops/internal/network"
)

const slackSecretPath = "/services/T0000/B0000/xoxsecretsecret"

func TestSlackText(t *testing.T) {
	for _, tt := range []struct{ subject, text, want string }{
		{"Key is *dead*", "a & b <!channel> <@U1> <https://evil.example|click>", "*Key is dead*\na &amp; b &lt;!channel&gt; &lt;@U1&gt; &lt;https://evil.example|click&gt;"},
		{"two\nlines", "one\r\ntwo", "*two lines*\none\ntwo"},
		{"", "Zoë 🔑", "Zoë 🔑"},
	} {
		if diff := cmp.Diff(tt.want, slackText(tt.subject, tt.text)); diff != "" {
			t.Errorf("-want +got:\n%s", diff)
		}
	}
	for _, text := range []string{strings.Repeat("&", 9000), strings.Repeat("ü", 9000), strings.Repeat("a<b>", 3000)} {
		got := slackText(strings.Repeat("&", 9000), text)
		if n := utf8.RuneCountInString(got); n > maxSlackText || n < maxSlackText-10 || !strings.HasSuffix(got, "…") {
			t.Errorf("%d characters that end with %q", n, got[len(got)-10:])
		}
		if whole := strings.NewReplacer("&amp;", "", "&lt;", "", "&gt;", "").Replace(got); strings.ContainsAny(whole, "&<>;") {
			t.Errorf("cut within an escape: %q", whole)
		}
	}
	exact := strings.Repeat("x", maxSlackText)
	if got := slackText("", exact); got != exact {
		t.Errorf("what fits was cut: %d", len(got))
	}
}

func TestSlackAnswers(t *testing.T) {
	for _, tt := range []struct {
		answer               func(http.ResponseWriter, *http.Request)
		want                 string // "" is sent
		permanent, everybody bool
		after                time.Duration
	}{
		{answer: ok},
		{answer: says(200, "not a webhook"), want: "(status 200): it said “not a webhook”", permanent: true, everybody: true},
		{answer: says(200, `{"ok":false,"error":"x"}`), want: "it said", permanent: true, everybody: true},
		{answer: says(429, "rate_limited", "Retry-After", "30"), want: "fewer messages", everybody: true, after: 30 * time.Second},
		{answer: says(429, ""), want: "fewer messages", everybody: true},
		{answer: says(404, "no_service"), want: "(status 404): the webhook is revoked or was never there", permanent: true, everybody: true},
		{answer: says(403, "action_prohibited"), want: "forbidden posting", permanent: true, everybody: true},
		{answer: says(403, "invalid_token"), want: "is revoked", permanent: true, everybody: true},
		{answer: says(410, "channel_is_archived"), want: "is archived", permanent: true, everybody: true},
		{answer: says(400, "invalid_payload"), want: "could not read", permanent: true},
		{answer: says(500, "rollup_error"), want: "(status 500): something went wrong at Slack", everybody: true},
		{answer: says(503, "<html>\n<b>"+slackSecretPath), want: "(status 503)", everybody: true},
		{answer: says(302, "", "Location", "https://example.org/"), want: "(status 302): it said nothing", permanent: true, everybody: true},
		{answer: func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }, want: "No answer from Slack in time", everybody: true},
		{answer: func(w http.ResponseWriter, _ *http.Request) { // hangs up
			c, _, _ := http.NewResponseController(w).Hijack()
			_ = c.Close()
		}, want: "No answer from Slack: ", everybody: true},
	} {
		double := newPoster(t, tt.answer)
		channel := newSlack(Setup{Channel: Slack, Address: Secret(double.URL + slackSecretPath)}, Options{})
		_, err := channel.Send(within(t, 500*time.Millisecond), Delivery{Message: Message{Subject: "S", Text: "<t>"}})
		if tt.want == "" {
			if err != nil || len(double.got()) != 1 || !strings.Contains(double.got()[0], `"text":"*S*\n\u0026lt;t\u0026gt;"`) {
				t.Errorf("got %v, %s", err, double.got())
			}
			continue
		}
		f, isFailure := errors.AsType[*Failure](err)
		if !isFailure || f.Permanent != tt.permanent || f.Everybody != tt.everybody || f.After != tt.after || !strings.Contains(f.Words, tt.want) {
			t.Errorf("%s: got %+v", tt.want, err)
			continue
		}
		if strings.Contains(f.Words, "xoxsecret") || strings.Contains(f.Words, "\n") {
			t.Errorf("the words are %q", f.Words)
		}
	}
}

// Whoever cannot be reached does not make the address show.
func TestWebFailuresHideTheAddress(t *testing.T) {
	for _, channel := range []Channel{
		newSlack(Setup{Channel: Slack, Address: "http://127.0.0.1:1" + slackSecretPath}, Options{}),
		newWebhook(Setup{Channel: Webhook, Address: "http://127.0.0.1:1" + slackSecretPath}, Options{AllowPrivate: true}),
		newWebhook(Setup{Channel: Webhook, Address: "https://name-that-is-not-there.invalid" + slackSecretPath}, Options{}),
		newWebhook(Setup{Channel: Webhook, Address: "http://\x7f/" + slackSecretPath}, Options{}),
	} {
		_, err := channel.Send(within(t, 5*time.Second), Delivery{})
		if f, ok := errors.AsType[*Failure](err); !ok || strings.Contains(f.Words, "xoxsecret") {
			t.Errorf("got %v", err)
		}
	}
}

func TestWebhookIsSigned(t *testing.T) {
	const signingKey = "a-key-of-sixteen-or-more"
	double := newPoster(t, says(204, ""))
	channel := newWebhook(Setup{Channel: Webhook, Address: Secret(double.URL + "/hook"), Secret: signingKey}, Options{AllowPrivate: true})
	d := Delivery{ID: uuid.New(), Message: Message{Subject: "S\n<b>", Text: "T\n", Purpose: "key_alert"}, CreatedAt: noon}
	if _, err := channel.Send(within(t, 5*time.Second), d); err != nil {
		t.Fatal(err)
	}
	header := double.headers[0]
	if got := Sign(signingKey, header.Get("Promptops-Timestamp"), []byte(double.got()[0])); got != header.Get("Promptops-Signature") || len(got) != len("v1=")+64 {
		t.Errorf("the signature is %q", header.Get("Promptops-Signature"))
	}
	var body map[string]any
	must(t, json.Unmarshal([]byte(double.got()[0]), &body))
	want := map[string]any{"id": d.ID.String(), "purpose": "key_alert", "subject": "S <b>", "text": "T\n", "createdAt": "2026-11-25T12:00:00Z"}
	if diff := cmp.Diff(want, body); diff != "" || header.Get("Promptops-Delivery") != d.ID.String() {
		t.Errorf("body (-want +got):\n%s", diff)
	}
	// As printf '1700000000.{}' | openssl dgst -sha256 -hmac key has it.
	if got := Sign("key", "1700000000", []byte("{}")); got != "v1=9d713ed406bb7076d4123f0dc2c39d2df5c654ed4b0cd56b52c8b4c940bd63ae" {
		t.Errorf("the signature is %s", got)
	}

	for status, permanent := range map[int]bool{400: true, 401: true, 404: true, 410: true, 408: false, 429: false, 500: false, 503: false, 301: true, 307: true} {
		double.answers(says(status, "no "+signingKey, "Location", "http://127.0.0.1:1/", "Retry-After", "7"))
		_, err := channel.Send(within(t, 5*time.Second), d)
		f, ok := errors.AsType[*Failure](err)
		if !ok || f.Permanent != permanent || f.After != 7*time.Second || strings.Contains(f.Words, signingKey) {
			t.Errorf("%d: %+v", status, err)
		}
	}
}

// A webhook does not reach what is not on the internet, by whatever name.
func TestWebhookStaysOutside(t *testing.T) {
	double := newPoster(t, ok)
	port := double.URL[strings.LastIndexByte(double.URL, ':'):]
	for _, host := range []string{"127.0.0.1", "localhost", "[::1]", "[::ffff:127.0.0.1]", "0.0.0.0"} {
		_, err := newWebhook(Setup{Channel: Webhook, Address: Secret("http://" + host + port)}, Options{}).Send(within(t, 5*time.Second), Delivery{})
		f, ok := errors.AsType[*Failure](err)
		if !ok || !f.Permanent || !strings.Contains(f.Words, "not on the internet") {
			t.Errorf("%s: %v", host, err)
		}
	}
	if len(double.got()) > 0 {
		t.Error("it was reached")
	}
	for text, want := range map[string]bool{
		"8.8.8.8": true, "2606:4700::1111": true, "203.0.113.9": true,
		"10.0.0.1": false, "172.16.0.1": false, "192.168.1.1": false, "127.0.0.1": false, "169.254.169.254": false, "0.0.0.0": false, "100.64.0.1": false,
		"192.0.0.1": false, "198.18.0.1": false, "224.0.0.1": false, "240.0.0.1": false, "255.255.255.255": false, "::": false, "::1": false,
		"168.63.129.16": false, "2001::1": false, "::7f00:1": false, "fe80::1%eth0": false,
		"::ffff:10.0.0.1": false, "fc00::1": false, "fe80::1": false, "64:ff9b::a00:1": false, "2002:a00:1::": false, "ff02::1": false, "fd00:ec2::254": false,
	} {
		if got := !network.Closed(netip.MustParseAddr(text)); got != want {
			t.Errorf("%s: %v", text, got)
		}
	}
}

func TestRetryAfter(t *testing.T) {
	for value, want := range map[string]time.Duration{
		"": 0, "5": 5 * time.Second, " 5 ": 5 * time.Second, "-1": 0, "soon": 0, "99999999999": giveUpAfter, "999999": giveUpAfter,
		noon.Add(time.Minute).Format(http.TimeFormat): time.Minute, noon.Add(-time.Minute).Format(http.TimeFormat): 0,
	} {
		if got := retryAfter(value, noon); got != want {
			t.Errorf("%q: %v, want %v", value, got, want)
		}
	}
}
