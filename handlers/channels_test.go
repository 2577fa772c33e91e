package handlers_test

import (
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"golang.org/x/net/html"

	"github.com/promptcademy/promptops/internal/account"
	"github.com/promptcademy/promptops/internal/audit"
	"github.com/promptcademy/promptops/internal/notify"
	"github.com/promptcademy/promptops/internal/postgres"
)

const channelsPath = "/settings/channels"

// channelForm is the form of a channel on the page as it would be sent, with
// changes "name", "value", …; "" for enabled takes the tick away.
func channelForm(t *testing.T, page reply, channel string, changes ...string) string {
	t.Helper()
	values := url.Values{}
	document, err := html.Parse(strings.NewReader(page.Text))
	must(t, err)
	for form := range document.Descendants() {
		if form.Data != "form" || attribute(form, "action") != channelsPath+"/"+channel {
			continue
		}
		for node := range form.Descendants() {
			_, ticked := find(node, "checked")
			_, selected := find(node, "selected")
			switch {
			case node.Data == "input" && attribute(node, "type") == "checkbox" && ticked:
				values.Set(attribute(node, "name"), "on")
			case node.Data == "input" && attribute(node, "type") != "checkbox":
				values.Set(attribute(node, "name"), attribute(node, "value"))
			case node.Data == "option" && selected:
				values.Set(attribute(node.Parent, "name"), attribute(node, "value"))
			}
		}
	}
	if len(values) < 2 {
		t.Fatalf("the form of %s has %v", channel, values)
	}
	for i := 0; i < len(changes); i += 2 {
		values.Set(changes[i], changes[i+1])
	}
	return values.Encode()
}

func attribute(node *html.Node, name string) string {
	value, _ := find(node, name)
	return value
}

func find(node *html.Node, name string) (value string, found bool) {
	for _, a := range node.Attr {
		if a.Key == name {
			return a.Val, true
		}
	}
	return "", false
}

// slackDouble answers like Slack, with the status that is set.
func slackDouble(t *testing.T) (address string, status *atomic.Int64) {
	t.Helper()
	status = &atomic.Int64{}
	status.Store(http.StatusOK)
	double := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(int(status.Load()))
		body := map[int64]string{http.StatusOK: "ok", http.StatusNotFound: "no_service"}[status.Load()]
		_, _ = fmt.Fprint(w, body)
	}))
	t.Cleanup(double.Close)
	return double.URL + "/services/T0001/B0001/xoxsecret", status
}

func TestSlackIsSetUpAndTested(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	admin := s.visitor(s.session(named(s, "lena@example.org", "Lena Berg")))
	address, status := slackDouble(t)
	empty := admin.get(channelsPath).wants(t, http.StatusOK).shows(t, "Not set up", "Nothing has been sent yet", "Nobody has set it up yet", `href="/settings" aria-current="page"`)
	if strings.Contains(empty.Text, "Send a test") {
		t.Error("a channel that is not set up can be tested")
	}
	admin.post(channelsPath+"/slack", channelForm(t, empty, "slack", "url", address, "enabled", "on")).wants(t, http.StatusSeeOther)
	page := admin.get(channelsPath).shows(t, "Saved, for everything that is sent from now on", `tag-success">On`, "services/T0001/"+notify.Kept, "Last changed by Lena Berg")
	admin.post(channelsPath+"/slack", channelForm(t, page, "slack")).wants(t, http.StatusSeeOther)
	admin.get(channelsPath).shows(t, "Nothing was changed")

	admin.post(channelsPath+"/slack/test", "").wants(t, http.StatusSeeOther)
	admin.get(channelsPath).shows(t, "was taken by the other side", `tag-success">Sent`, "Test notification", "Last sent")
	status.Store(http.StatusNotFound)
	admin.post(channelsPath+"/slack/test", "").wants(t, http.StatusSeeOther)
	failed := admin.get(channelsPath).shows(t, "The test notification was not sent", `tag-error">Failed`, "the webhook is revoked or was never there: make a new one in Slack", "Last met")

	// Once it is mended it can be sent again.
	status.Store(http.StatusOK)
	_, rest, _ := strings.Cut(failed.Text, channelsPath+"/deliveries/")
	id, _, _ := strings.Cut(rest, "/")
	admin.post(channelsPath+"/deliveries/"+id+"/again", "").wants(t, http.StatusSeeOther)
	admin.get(channelsPath+"?state=queued").shows(t, "It is queued again", `tag-info">Queued`)
	must(t, s.Notifications.RunOnce(t.Context(), s.Clock.Now().Add(time.Minute)))
	admin.get(channelsPath+"?state=queued").shows(t, "There are none in this state")
	admin.post(channelsPath+"/deliveries/"+id+"/again", "").wants(t, http.StatusConflict).shows(t, "is sent already")

	everything := admin.get(channelsPath).Text + s.Events.Text()
	entries, err := audit.NewStore(s.DB).List(t.Context(), audit.Filter{}, 10)
	must(t, err)
	if everything += fmt.Sprint(entries); strings.Contains(everything, "xoxsecret") {
		t.Error("the webhook shows")
	}
	if len(entries) != 5 || entries[4].Action != "operator.create" || entries[3].Action != "channel.change" || entries[0].Action != "delivery.send_again" || entries[0].Actor.Name != "lena@example.org" {
		t.Errorf("the audit log has %v", entries)
	}
	admin.post(channelsPath+"/slack", channelForm(t, page, "slack", "url", "", "enabled", "")).wants(t, http.StatusSeeOther)
	admin.post(channelsPath+"/slack/test", "").wants(t, http.StatusSeeOther)
	admin.get(channelsPath).shows(t, `tag-warning">Skipped`, "Slack is not set up.")
}

func TestMailIsSetUp(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	admin := s.as(account.RoleAdmin)
	const secret = "hunter2-of-the-server"
	listener, err := net.Listen("tcp", "127.0.0.1:0") // takes connections and says nothing
	must(t, err)
	port := fmt.Sprint(listener.Addr().(*net.TCPAddr).Port)
	must(t, listener.Close()) // and now not even that
	form := func(page reply, changes ...string) string {
		return channelForm(t, page, "email", append([]string{
			"enabled", "on", "host", "127.0.0.1", "port", port, "security", "none", "username", "ops", "password", secret, "from", "ops@example.org", "to", "team@example.org",
		}, changes...)...)
	}
	page := admin.get(channelsPath)
	refused := admin.post(channelsPath+"/email", form(page, "port", "zero", "from", `"><b>x`)).wants(t, http.StatusUnprocessableEntity).shows(t,
		"Nothing was saved: what is marked below cannot be used", "must be a number from 1 to 65535", `value="zero"`, "<details class=\"disclosure\" open")
	if strings.Contains(refused.Text, secret) {
		t.Error("the password is sent back")
	}
	admin.post(channelsPath+"/email", form(page, "from", `"><b>x`, "to", "nobody")).wants(t, http.StatusUnprocessableEntity).shows(t, "must be an e-mail address", "is none", `value="&#34;&gt;&lt;b&gt;x"`)
	admin.post(channelsPath+"/email", form(page)).wants(t, http.StatusSeeOther)
	saved := admin.get(channelsPath).shows(t, `value="`+notify.Kept+`"`, "ops@example.org")
	admin.post(channelsPath+"/email", channelForm(t, saved, "email", "host", "smtp.evil.example", "security", "starttls")).wants(t, http.StatusUnprocessableEntity).shows(t, "typed again")
	admin.post(channelsPath+"/email/test", "").wants(t, http.StatusSeeOther)
	tested := admin.get(channelsPath).shows(t, "was not sent", `tag-error">Failed`, "The mail server 127.0.0.1:"+port+" cannot be reached: it refuses connections.")
	must(t, postgres.InTx(t.Context(), s.DB, func(tx pgx.Tx) error {
		_, _, err := notify.Add(t.Context(), tx, notify.Message{Channel: notify.Email, Subject: "later", Purpose: "key_alert"}, s.Clock.Now())
		return err
	}))
	must(t, s.Notifications.RunOnce(t.Context(), s.Clock.Now().Add(time.Second)))
	admin.get(channelsPath).shows(t, `tag-info">Queued`, "after 1 attempt, next 24 Nov 2026", "Nothing is sent before")

	// Of two who save, the second is told, and sees what they typed.
	lena := s.visitor(s.session(named(s, "lena@example.org", "Lena Berg")))
	lena.post(channelsPath+"/email", channelForm(t, saved, "email", "to", "lena@example.org")).wants(t, http.StatusSeeOther)
	late := admin.post(channelsPath+"/email", channelForm(t, tested, "email", "to", "late@example.org")).wants(t, http.StatusConflict).shows(t,
		"Nothing was saved yet: Lena Berg changed this channel", `value="late@example.org"`)
	admin.post(channelsPath+"/email", channelForm(t, late, "email")).wants(t, http.StatusSeeOther)
	setup, err := s.Channels.Setup(t.Context(), notify.Email)
	must(t, err)
	if setup.Secret != secret || setup.To[0] != "late@example.org" {
		t.Errorf("got %+v", setup)
	}
	if strings.Contains(s.Events.Text()+admin.get(channelsPath).Text, secret) {
		t.Error("the password shows")
	}
	admin.post(channelsPath+"/email", `%`).wants(t, http.StatusBadRequest)
	admin.post(channelsPath+"/email", "host="+strings.Repeat("1", 100_000)).wants(t, http.StatusRequestEntityTooLarge)
	s.loseDatabase()
	admin.get(channelsPath).wants(t, http.StatusServiceUnavailable)
}

func TestDeliveriesArePaged(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	admin := s.as(account.RoleAdmin)
	must(t, postgres.InTx(t.Context(), s.DB, func(tx pgx.Tx) error {
		for i := range 60 {
			m := notify.Message{Channel: notify.Email, To: "zoe@example.org", Subject: fmt.Sprintf("<b>number %d.", i), Purpose: "nudge"}
			if _, _, err := notify.Add(t.Context(), tx, m, s.Clock.Now()); err != nil {
				return err
			}
		}
		return nil
	}))
	first := admin.get(channelsPath+"?state=queued").shows(t, "&lt;b&gt;number 59.", "number 10.", "Older ones", "Nudge", "zoe@example.org")
	if strings.Contains(first.Text, "number 9.") {
		t.Error("the page shows more than fifty")
	}
	_, rest, _ := strings.Cut(first.Text, channelsPath+"?before=")
	older, _, _ := strings.Cut(rest, `"`)
	second := admin.get(channelsPath+"?before="+html.UnescapeString(older)).shows(t, "number 9.", "number 0.")
	if strings.Contains(second.Text, "number 10.") || strings.Contains(second.Text, "Older ones") {
		t.Error("the second page is not the rest")
	}
	admin.get(channelsPath+"?before=soon&state=lost").wants(t, http.StatusOK).shows(t, "There are none in this state")
}
