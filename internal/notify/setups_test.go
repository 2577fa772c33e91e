package notify

import (
	"encoding/json"
	"errors"
	"net/url"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/promptcademy/promptops/internal/audit"
	"github.com/promptcademy/promptops/internal/fault"
	"github.com/promptcademy/promptops/internal/postgres"
	"github.com/promptcademy/promptops/internal/postgres/pgtest"
)

const slackURL = "https://hooks.slack.com" + slackSecretPath

// setupOf is a setup that holds.
func setupOf(t testing.TB, s *Store, channel string) Setup {
	t.Helper()
	setup, err := s.Setup(t.Context(), channel)
	must(t, err)
	return setup
}

// typed saves a form that was made from what holds, with changes "name",
// "value", …
func typed(t testing.TB, s *Store, channel string, changes ...string) (bool, error) {
	t.Helper()
	old := setupOf(t, s, channel)
	values := old.Values()
	for i := 0; i < len(changes); i += 2 {
		values.Set(changes[i], changes[i+1])
	}
	wanted, err := ParseSetup(channel, values)
	if err != nil {
		return false, err
	}
	return s.Set(t.Context(), wanted, old.Revision, ada, noon)
}

func fieldsOf(err error) map[string]string {
	found := map[string]string{}
	if f, ok := errors.AsType[*fault.Error](err); ok && f.Kind == fault.Invalid {
		for _, detail := range f.Details {
			found[detail.Field] += detail.Message
		}
	}
	return found
}

var mailForm = []string{
	"enabled", "on", "host", "smtp.example.com", "port", "", "security", "starttls", "username", "ops", "password", password,
	"from", "Ops <ops@example.com>", "to", "a@example.com,\n Bea <b@example.com>",
}

func TestMailIsSetUp(t *testing.T) {
	tx := pgtest.Tx(t)
	s := NewStore(tx, ring(t, oldKey), Options{})
	if setup := setupOf(t, s, Email); setup.Configured() || setup.Enabled || setup.Revision != 0 || !setup.ChangedAt.IsZero() {
		t.Errorf("nothing is stored: %+v", setup)
	}
	if changed, err := typed(t, s, Email, mailForm...); err != nil || !changed {
		t.Fatal(changed, err)
	}
	setup := setupOf(t, s, Email)
	if setup.Secret != password || setup.Port != 587 || setup.Revision != 1 || *setup.ChangedBy != *ada.OperatorID {
		t.Errorf("got %+v", setup)
	}
	want := url.Values{
		"enabled": {"on"}, "host": {"smtp.example.com"}, "port": {"587"}, "security": {"starttls"}, "username": {"ops"}, "password": {Kept},
		"from": {"Ops <ops@example.com>"}, "to": {"a@example.com, b@example.com"},
	}
	if diff := cmp.Diff(want, setup.Values()); diff != "" {
		t.Errorf("the form (-want +got):\n%s", diff)
	}
	if changed, err := typed(t, s, Email); err != nil || changed {
		t.Errorf("the same again: %v, %v", changed, err)
	}

	// The password stays where the server does, and only there.
	if _, err := typed(t, s, Email, "to", "c@example.com"); err != nil || setupOf(t, s, Email).Secret != password {
		t.Errorf("got %v, and the password is gone", err)
	}
	for _, change := range [][]string{{"host", "smtp.evil.example"}, {"port", "2525"}, {"security", "tls"}, {"username", "other"}} {
		if _, err := typed(t, s, Email, change...); !strings.Contains(fieldsOf(err)["password"], "typed again") {
			t.Errorf("%v: %v", change, err)
		}
		if _, err := typed(t, s, Email, append(change, "password", "another")...); err != nil {
			t.Errorf("%v with a password: %v", change, err)
		}
		must(t, second(typed(t, s, Email, mailForm...)))
	}
	if _, err := typed(t, s, Email, "username", "", "password", ""); err != nil || setupOf(t, s, Email).Secret != "" {
		t.Errorf("it cannot be removed: %v", err)
	}
	if got := setupOf(t, s, Email); got.ChangedAs != "" || got.Revision < 10 {
		t.Errorf("got %+v", got)
	}
}

func second(_ bool, err error) error { return err }

func TestSetupsAreRefused(t *testing.T) {
	tx := pgtest.Tx(t)
	s := NewStore(tx, ring(t, oldKey), Options{})
	for _, tt := range []struct {
		channel string
		typed   []string
		want    map[string]string // field: part of what is said
	}{
		{Email, []string{"enabled", "on"}, map[string]string{"host": "is needed", "from": "is needed"}},
		{Email, append(mailForm[:len(mailForm):len(mailForm)], "host", "smtp.example.com:587"), map[string]string{"host": "a field of its own"}},
		{Email, append(mailForm[:len(mailForm):len(mailForm)], "host", "https://x/"), map[string]string{"host": "name of a server"}},
		{Email, append(mailForm[:len(mailForm):len(mailForm)], "port", "0"), map[string]string{"port": "1 to 65535"}},
		{Email, append(mailForm[:len(mailForm):len(mailForm)], "port", "many"), map[string]string{"port": "1 to 65535"}},
		{Email, append(mailForm[:len(mailForm):len(mailForm)], "security", "none"), map[string]string{"security": "everybody on the way"}},
		{Email, append(mailForm[:len(mailForm):len(mailForm)], "security", "rot13"), map[string]string{"security": "offered"}},
		{Email, append(mailForm[:len(mailForm):len(mailForm)], "password", ""), map[string]string{"password": "belong together"}},
		{Email, append(mailForm[:len(mailForm):len(mailForm)], "from", "ops", "to", "a@example.com, nobody"), map[string]string{"from": "e-mail address", "to": `"nobody" is none`}},
		{Email, append(mailForm[:len(mailForm):len(mailForm)], "from", "Ops\r\nBcc: x@example.com <ops@example.com>"), map[string]string{"from": "e-mail address"}},
		{Email, append(mailForm[:len(mailForm):len(mailForm)], "to", strings.Repeat("a@example.com,", 21)), map[string]string{"to": "at most 20"}},
		{Slack, []string{"enabled", "on"}, map[string]string{"url": "is needed"}},
		{Slack, []string{"url", "https://hooks.slack.com.evil.example/services/T/B/x"}, map[string]string{"url": "incoming webhook of Slack"}},
		{Slack, []string{"url", "http://hooks.slack.com/services/T/B/x"}, map[string]string{"url": "incoming webhook"}},
		{Slack, []string{"url", "https://hooks.slack.com/triggers/T/B/x"}, map[string]string{"url": "incoming webhook"}},
		{Slack, []string{"url", "https://hooks.slack.com:8443/services/T/B/x"}, map[string]string{"url": "incoming webhook"}},
		{Slack, []string{"url", "https://u:p@hooks.slack.com/services/T/B/x"}, map[string]string{"url": "without user name"}},
		{Slack, []string{"url", "http://127.0.0.1/services/T/B/x"}, map[string]string{"url": "incoming webhook"}},
		{Webhook, []string{"url", "https://hooks.example.com/x", "key", "short"}, map[string]string{"key": "16 characters"}},
		{Webhook, []string{"url", "http://hooks.example.com/x", "key", password}, map[string]string{"url": "https://"}},
		{Webhook, []string{"url", "https://169.254.169.254/x", "key", password}, map[string]string{"url": "not on the internet"}},
		{Webhook, []string{"url", "https://[::ffff:10.0.0.1]/x", "key", password}, map[string]string{"url": "not on the internet"}},
		{Webhook, []string{"url", "javascript:alert(1)", "key", password}, map[string]string{"url": "web address"}},
	} {
		_, err := typed(t, s, tt.channel, tt.typed...)
		got := fieldsOf(err)
		for field, part := range tt.want {
			if !strings.Contains(got[field], part) {
				t.Errorf("%s %v: %v does not say %q of %s", tt.channel, tt.typed, err, part, field)
			}
		}
		if len(got) != len(tt.want) {
			t.Errorf("%s %v: %v", tt.channel, tt.typed, got)
		}
	}
	if _, err := ParseSetup("pigeon", nil); fault.KindOf(err) != fault.NotFound {
		t.Error(err)
	}
}

func TestSlackAndWebhookAreSetUp(t *testing.T) {
	tx := pgtest.Tx(t)
	s := NewStore(tx, ring(t, oldKey), Options{})
	must(t, second(typed(t, s, Slack, "enabled", "on", "url", slackURL)))
	if got := setupOf(t, s, Slack); got.Values().Get("url") != "https://hooks.slack.com/services/T0000/"+Kept || string(got.Address) != slackURL {
		t.Errorf("got %v", got.Values())
	}
	must(t, second(typed(t, s, Slack, "enabled", "")))
	if got := setupOf(t, s, Slack); got.Enabled || string(got.Address) != slackURL {
		t.Errorf("got %v", got.Values())
	}
	must(t, second(typed(t, s, Slack, "url", "")))
	if setupOf(t, s, Slack).Configured() {
		t.Error("it cannot be removed")
	}
	must(t, second(typed(t, s, Webhook, "enabled", "on", "url", "https://hooks.example.com/secret-path?token=1", "key", password)))
	if got := setupOf(t, s, Webhook); got.Values().Get("url") != "https://hooks.example.com/"+Kept || got.Values().Get("key") != Kept {
		t.Errorf("got %v", got.Values())
	}
	if _, err := typed(t, s, Webhook, "url", "https://evil.example/"); !strings.Contains(fieldsOf(err)["key"], "typed again") {
		t.Errorf("the key goes elsewhere: %v", err)
	}
	must(t, second(typed(t, s, Webhook, "url", "https://hooks.example.com/another")))
	if got := setupOf(t, s, Webhook); got.Address != "https://hooks.example.com/another" || got.Secret != password {
		t.Errorf("got %v", got.Values())
	}
}

// Of two who save, the second is told, also if nothing was stored before.
func TestTwoSetUpAtOnce(t *testing.T) {
	pool := pgtest.Database(t)
	s := NewStore(pool, ring(t, oldKey), Options{})
	wins := make(chan error, 2)
	for range 2 {
		go func() {
			_, err := s.Set(t.Context(), Setup{Channel: Slack, Address: slackURL}, 0, ada, noon)
			wins <- err
		}()
	}
	one, other := <-wins, <-wins
	if one == nil {
		one, other = other, one
	}
	if other != nil || fault.KindOf(one) != fault.Conflict {
		t.Errorf("%v and %v", one, other)
	}
	if _, err := s.Set(t.Context(), Setup{Channel: Slack}, 7, ada, noon); fault.KindOf(err) != fault.Conflict {
		t.Errorf("an old form: %v", err)
	}
}

// The configuration counts until somebody uses the page.
func TestSeed(t *testing.T) {
	tx := pgtest.Tx(t)
	s := NewStore(tx, ring(t, oldKey), Options{})
	first := Setup{Channel: Slack, Enabled: true, Address: slackURL}
	for range 2 {
		must(t, s.Seed(t.Context(), first, noon))
	}
	if got := setupOf(t, s, Slack); got.Revision != 1 || got.Address != slackURL || got.ChangedBy != nil {
		t.Errorf("got %+v", got)
	}
	first.Address += "2"
	must(t, s.Seed(t.Context(), first, noon))
	if got := setupOf(t, s, Slack); got.Revision != 2 || got.Address != slackURL+"2" {
		t.Errorf("a new configuration: %+v", got)
	}
	must(t, second(typed(t, s, Slack, "enabled", "")))
	must(t, s.Seed(t.Context(), first, noon))
	if got := setupOf(t, s, Slack); got.Enabled {
		t.Error("the configuration undoes what was set on the page")
	}
	if err := s.Seed(t.Context(), Setup{Channel: Slack, Address: "https://example.com/" + password}, noon); err == nil || strings.Contains(err.Error(), password) {
		t.Errorf("got %v", err)
	}
}

// Neither the tables nor the audit log show a secret.
func TestSecretsAreSealed(t *testing.T) {
	tx := pgtest.Tx(t)
	s := NewStore(tx, ring(t, oldKey), Options{})
	must(t, second(typed(t, s, Email, mailForm...)))
	must(t, second(typed(t, s, Slack, "url", slackURL)))
	must(t, second(typed(t, s, Webhook, "url", "https://hooks.example.com/secret-path", "key", password)))
	must(t, second(typed(t, s, Email, "password", password+"2")))
	must(t, second(typed(t, s, Slack, "url", slackURL+"2")))
	var dump string
	must(t, tx.QueryRow(t.Context(), `
		select (select string_agg(c::text || encode(coalesce(address, ''), 'escape') || encode(coalesce(secret, ''), 'escape'), ' ') from ops.channels c)
		    || (select string_agg(a::text, ' ') from ops.audit_log a)`).Scan(&dump))
	for _, secret := range []string{password, "xoxsecret", "secret-path"} {
		if strings.Contains(dump, secret) {
			t.Errorf("%q shows in %s", secret, dump)
		}
	}
	entries, err := audit.NewStore(tx).List(t.Context(), audit.Filter{Action: "channel."}, 10)
	must(t, err)
	said, err := json.Marshal(entries[0].Details)
	must(t, err)
	if len(entries) != 5 || entries[0].SubjectLabel != "Slack" || string(said) != `{"url":"changed"}` {
		t.Errorf("%d entries, the last says %s", len(entries), said)
	}

	// What is copied elsewhere does not open, and nothing is sent with it.
	exec(t, tx, `update ops.channels set secret = (select secret from ops.channels where channel = 'webhook') where channel = 'email'`)
	if got := setupOf(t, s, Email); got.sealedFor == nil || got.Secret == password {
		t.Errorf("got %+v", got)
	}
	id := add(t, tx, noon, Message{Channel: Email})[0]
	must(t, NewDispatcher(s, (&logged{}).logger()).RunOnce(t.Context(), noon))
	if d := find(t, s, id); d.State != Queued || !strings.Contains(d.Reason, "does not open") {
		t.Errorf("got %+v", d)
	}
	if _, err := typed(t, s, Email, "to", "x@example.com"); fault.KindOf(err) != fault.Invalid {
		t.Errorf("kept what does not open: %v", err)
	}
	must(t, second(typed(t, s, Email, "password", password)))
}

func exec(t testing.TB, db postgres.DB, sql string) {
	t.Helper()
	if _, err := db.Exec(t.Context(), sql); err != nil {
		t.Fatal(err)
	}
}

func TestRewrap(t *testing.T) {
	tx := pgtest.Tx(t)
	old := NewStore(tx, ring(t, oldKey), Options{})
	if r, err := old.Rewrap(t.Context()); err != nil || r.Stored != 0 {
		t.Errorf("of nothing: %+v, %v", r, err)
	}
	must(t, second(typed(t, old, Email, mailForm...)))
	must(t, second(typed(t, old, Webhook, "url", "https://hooks.example.com/x", "key", password)))

	both := NewStore(tx, ring(t, newKey+","+oldKey), Options{})
	if r, err := both.Survey(t.Context()); err != nil || r.Stored != 3 || r.Left != 3 {
		t.Errorf("before: %+v, %v", r, err)
	}
	now := NewStore(tx, ring(t, newKey), Options{})
	if err := now.CheckRing(t.Context()); fault.KindOf(err) != fault.Conflict || !strings.Contains(err.Error(), "1 (secret of email)") {
		t.Errorf("without the old key: %v", err)
	}
	if r, err := both.Rewrap(t.Context()); err != nil || r.Resealed != 3 || r.Left != 0 || len(r.Broken) != 0 {
		t.Errorf("got %+v, %v", r, err)
	}
	if r, err := both.Rewrap(t.Context()); err != nil || r.Resealed != 0 || r.Stored != 3 {
		t.Errorf("again: %+v, %v", r, err)
	}
	must(t, now.CheckRing(t.Context()))
	if setupOf(t, now, Email).Secret != password || setupOf(t, now, Webhook).Address != "https://hooks.example.com/x" {
		t.Error("it does not open with the new key alone")
	}
	exec(t, tx, `update ops.channels set secret = 'x' where channel = 'email'`)
	if r, err := both.Rewrap(t.Context()); err != nil || len(r.Broken) != 1 || r.Broken[0].Place.Row != Email {
		t.Errorf("broken: %+v, %v", r, err)
	}
}
