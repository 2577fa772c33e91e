package notify

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/promptcademy/promptops/internal/fault"
	"github.com/promptcademy/promptops/internal/postgres"
	"github.com/promptcademy/promptops/internal/postgres/pgtest"
)

// toSlack is an outbox whose Slack is played by double.
func toSlack(t testing.TB, db postgres.DB, double *poster) *Store {
	t.Helper()
	s := NewStore(db, ring(t, oldKey), Options{AllowPrivate: true})
	set(t, s, Setup{Channel: Slack, Enabled: true, Address: Secret(double.URL + slackSecretPath)})
	return s
}

func TestAddStoresOnePerKey(t *testing.T) {
	tx := pgtest.Tx(t)
	s := NewStore(tx, ring(t, oldKey), Options{})
	m := Message{Channel: Email, To: "zoe@example.org", Subject: "S\x00", Text: "T\xff", Purpose: "nudge", Key: "nudge/zoe"}
	id, added, err := Add(t.Context(), tx, m, noon)
	if err != nil || !added {
		t.Fatal(added, err)
	}
	again, added, err := Add(t.Context(), tx, m, noon)
	if err != nil || added || again != id {
		t.Errorf("again: %v %v %v", again, added, err)
	}
	m.Key = ""
	for range 2 {
		if other, added, err := Add(t.Context(), tx, m, noon); err != nil || !added || other == id {
			t.Errorf("without a key: %v %v %v", other, added, err)
		}
	}
	m.Channel = "pigeon"
	if _, _, err := Add(t.Context(), tx, m, noon); err == nil {
		t.Error("there is no such channel")
	}
	want := Delivery{ID: id, Message: Message{Channel: Email, To: "zoe@example.org", Subject: "S", Text: "T\uFFFD", Purpose: "nudge", Key: "nudge/zoe"}, State: Queued, CreatedAt: noon, DueAt: noon}
	got := find(t, s, id)
	got.CreatedAt, got.DueAt = got.CreatedAt.UTC(), got.DueAt.UTC()
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
	all, err := s.List(t.Context(), Filter{}, uuid.Nil, 2)
	must(t, err)
	rest, err := s.List(t.Context(), Filter{Channel: Email, State: Queued, Purpose: "nudge"}, all[1].ID, 10)
	must(t, err)
	if len(all) != 2 || len(rest) != 1 || rest[0].ID != id {
		t.Errorf("the list is %v, then %v", all, rest)
	}
}

func TestTwoAddTheSameKeyAtOnce(t *testing.T) {
	pool := pgtest.Database(t)
	var added sync.Map
	var both sync.WaitGroup
	for i := range 8 {
		both.Go(func() {
			err := postgres.InTx(t.Context(), pool, func(tx pgx.Tx) error {
				id, is, err := Add(t.Context(), tx, Message{Channel: Slack, Key: "one"}, noon)
				if is {
					added.Store(i, id)
				}
				return err
			})
			if err != nil {
				t.Error(err)
			}
		})
	}
	both.Wait()
	n := 0
	added.Range(func(any, any) bool { n++; return true })
	if n != 1 {
		t.Errorf("%d were added", n)
	}
}

func TestNothingIsSentOfATransactionThatFailed(t *testing.T) {
	pool := pgtest.Database(t)
	double := newPoster(t, ok)
	s := toSlack(t, pool, double)
	_ = postgres.InTx(t.Context(), pool, func(tx pgx.Tx) error {
		_, _, err := Add(t.Context(), tx, Message{Channel: Slack, Subject: "never"}, noon)
		must(t, err)
		return errors.New("undone")
	})
	must(t, NewDispatcher(s, (&logged{}).logger()).RunOnce(t.Context(), noon))
	if got := double.got(); len(got) > 0 {
		t.Errorf("sent: %v", got)
	}
}

func TestDispatcherSends(t *testing.T) {
	pool := pgtest.Database(t)
	double := newPoster(t, ok)
	s := toSlack(t, pool, double)
	mails := newMailServer(t, NoTLS)
	set(t, s, mails.setup(NoTLS))
	ids := add(t, pool, noon,
		Message{Channel: Slack, Subject: "to Slack"},
		Message{Channel: Email, Subject: "to the team"},
		Message{Channel: Email, To: "zoe@example.org", Subject: "to Zoë"},
		Message{Channel: Webhook, Subject: "nowhere"},
		Message{Channel: Email, To: "nobody", Subject: "to nobody"},
	)
	var log logged
	must(t, NewDispatcher(s, log.logger()).RunOnce(t.Context(), noon.Add(time.Second)))
	for i, want := range []string{"sent 1 ", "sent 1 ", "sent 1 ", "skipped 0 The webhook is not set up. Settings → Channels does that.", "failed 1 “nobody” is not an e-mail address."} {
		d := find(t, s, ids[i])
		if got := fmt.Sprint(d.State, " ", d.Attempts, " ", d.Reason); got != want || d.FinishedAt == nil || (d.SentAt() != nil) != (d.State == Sent) {
			t.Errorf("%s: %s, want %s", d.Subject, got, want)
		}
	}
	if len(double.got()) != 1 || len(mails.got()) != 2 {
		t.Errorf("%d to Slack, %d mails", len(double.got()), len(mails.got()))
	}
	setup, err := s.Setup(t.Context(), Email)
	must(t, err)
	if setup.LastSentAt == nil || setup.FailedAt != nil {
		t.Errorf("the channel is %+v", setup)
	}
	if !strings.Contains(log.String(), `"msg":"notification_not_sent"`) || strings.Contains(log.String(), password) {
		t.Errorf("the log is %s", log.String())
	}
	// What failed or was skipped can be sent again; what was sent cannot.
	must(t, s.Again(t.Context(), ids[4], ada, noon.Add(time.Minute)))
	if err := s.Again(t.Context(), ids[0], ada, noon); fault.KindOf(err) != fault.Conflict {
		t.Errorf("again: %v", err)
	}
	if err := s.Again(t.Context(), uuid.New(), ada, noon); fault.KindOf(err) != fault.NotFound {
		t.Errorf("again: %v", err)
	}
	if d := find(t, s, ids[4]); d.State != Queued || d.Attempts != 0 {
		t.Errorf("again: %+v", d)
	}
	set(t, s, Setup{Channel: Email, Host: mails.host, Port: mails.port, Security: NoTLS, From: "ops@example.org"})
	must(t, NewDispatcher(s, log.logger()).RunOnce(t.Context(), noon.Add(2*time.Minute)))
	if d := find(t, s, ids[4]); d.State != Skipped || !strings.Contains(d.Reason, "E-mail is switched off") {
		t.Errorf("switched off: %+v", d)
	}
}

// Several nodes send each delivery once.
func TestSeveralDispatchers(t *testing.T) {
	pool := pgtest.Database(t)
	double := newPoster(t, ok)
	s := toSlack(t, pool, double)
	const many = 60
	messages := make([]Message, many)
	for i := range messages {
		messages[i] = Message{Channel: Slack, Subject: fmt.Sprintf("number %d.", i)}
	}
	add(t, pool, noon, messages...)
	var nodes sync.WaitGroup
	for range 4 {
		nodes.Go(func() {
			if err := NewDispatcher(s, (&logged{}).logger()).RunOnce(t.Context(), noon); err != nil {
				t.Error(err)
			}
		})
	}
	nodes.Wait()
	got := strings.Join(double.got(), "\n")
	for i := range many {
		if n := strings.Count(got, fmt.Sprintf("number %d.", i)); n != 1 {
			t.Errorf("number %d was sent %d times", i, n)
		}
	}
	sent, err := s.List(t.Context(), Filter{State: Sent}, uuid.Nil, many+1)
	must(t, err)
	if len(sent) != many {
		t.Errorf("%d are marked as sent", len(sent))
	}
}

// While Slack wants to be left alone nothing is sent to it, by no node.
func TestRetryAfterHoldsForTheChannel(t *testing.T) {
	pool := pgtest.Database(t)
	double := newPoster(t, says(http.StatusTooManyRequests, "", "Retry-After", "90"))
	s := toSlack(t, pool, double)
	ids := add(t, pool, noon, Message{Channel: Slack, Subject: "one"}, Message{Channel: Slack, Subject: "two"})
	one, other := NewDispatcher(s, (&logged{}).logger()), NewDispatcher(s, (&logged{}).logger())
	must(t, one.RunOnce(t.Context(), noon))
	must(t, other.RunOnce(t.Context(), noon.Add(80*time.Second)))
	if got := len(double.got()); got != 1 {
		t.Fatalf("%d calls, want 1", got)
	}
	d := find(t, s, ids[0])
	if d.State != Queued || d.Attempts != 1 || !strings.Contains(d.Reason, "fewer messages") || d.DueAt.Sub(noon) < 90*time.Second {
		t.Errorf("got %+v", d)
	}
	setup, err := s.Setup(t.Context(), Slack)
	must(t, err)
	if setup.RestUntil == nil || setup.FailedAt == nil || !strings.Contains(setup.Failure, "fewer messages") {
		t.Errorf("the channel is %+v", setup)
	}
	double.answers(ok)
	must(t, other.RunOnce(t.Context(), noon.Add(95*time.Second)))
	for _, id := range ids {
		if d := find(t, s, id); d.State != Sent || d.Reason != "" {
			t.Errorf("got %+v", d)
		}
	}
}

// Slack that hangs holds up no e-mail.
func TestChannelsDoNotWaitForEachOther(t *testing.T) {
	pool := pgtest.Database(t)
	release := make(chan struct{})
	double := newPoster(t, func(w http.ResponseWriter, r *http.Request) { <-release; ok(w, r) })
	s := toSlack(t, pool, double)
	mails := newMailServer(t, NoTLS)
	set(t, s, mails.setup(NoTLS))
	add(t, pool, noon, Message{Channel: Slack}, Message{Channel: Email, Subject: "one"}, Message{Channel: Email, Subject: "two"})
	done := make(chan error, 1)
	go func() { done <- NewDispatcher(s, (&logged{}).logger()).RunOnce(context.Background(), noon) }()
	for deadline := time.Now().Add(10 * time.Second); len(mails.got()) < 2; time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("the mails wait for Slack")
		}
	}
	close(release)
	must(t, <-done)
}

// A program that died while it was sending does not lose the delivery, and
// nobody else sends it before its claim has ended.
func TestClaimsEnd(t *testing.T) {
	pool := pgtest.Database(t)
	mails := newMailServer(t, NoTLS)
	s := NewStore(pool, ring(t, oldKey), Options{})
	set(t, s, mails.setup(NoTLS))
	id := add(t, pool, noon, Message{Channel: Email, Subject: "once"})[0]

	// One that dies after the mail has gone out.
	setup, err := s.Setup(t.Context(), Email)
	must(t, err)
	dead, found, err := claimOne(t.Context(), pool, Email, nil, noon)
	if err != nil || !found {
		t.Fatal(found, err)
	}
	if _, err := newMail(setup, Options{}).Send(within(t, 10*time.Second), dead.Delivery); err != nil {
		t.Fatal(err)
	}

	var log logged
	next := NewDispatcher(s, log.logger())
	must(t, next.RunOnce(t.Context(), noon.Add(claimFor-time.Second)))
	if len(mails.got()) != 1 {
		t.Fatal("it was sent while somebody else had it")
	}
	must(t, next.RunOnce(t.Context(), noon.Add(claimFor+time.Second)))
	got := mails.got()
	if len(got) != 2 || got[0].header(t, "Message-Id") != got[1].header(t, "Message-Id") {
		t.Fatalf("%d mails, and the second has another Message-ID", len(got))
	}
	if d := find(t, s, id); d.State != Sent || d.Attempts != 2 {
		t.Errorf("got %+v", d)
	}
	if !strings.Contains(log.String(), "notification_sent_again") {
		t.Error("the log does not say that it was sent again")
	}
	// The dead one comes back: what it says does not count any more.
	must(t, s.mark(t.Context(), outcome{claimed: dead, decision: decision{State: Failed, Reason: "late"}, at: noon}))
	if d := find(t, s, id); d.State != Sent || d.Reason != "" {
		t.Errorf("got %+v", d)
	}
}

// What was sent while the database went away is written down when it is back,
// and not sent a second time.
func TestDatabaseGoesAwayInBetween(t *testing.T) {
	pool := pgtest.Database(t)
	cut, err := postgres.Open(t.Context(), pool.Config().ConnString(), postgres.Options{})
	must(t, err)
	double := newPoster(t, func(w http.ResponseWriter, r *http.Request) {
		_, _ = pool.Exec(context.Background(), `alter table ops.deliveries rename to away`)
		ok(w, r)
	})
	s := toSlack(t, cut, double)
	id := add(t, pool, noon, Message{Channel: Slack, Subject: "once"})[0]
	d := NewDispatcher(s, (&logged{}).logger())
	if err := d.RunOnce(t.Context(), noon); err == nil {
		t.Error("nobody noticed")
	}
	double.answers(ok)
	if err := d.RunOnce(t.Context(), noon.Add(time.Second)); err == nil {
		t.Error("nobody noticed")
	}
	if _, err := pool.Exec(t.Context(), `alter table ops.away rename to deliveries`); err != nil {
		t.Fatal(err)
	}
	must(t, d.RunOnce(t.Context(), noon.Add(claimFor+time.Second)))
	if got := find(t, s, id); got.State != Sent || got.Attempts != 1 || len(double.got()) != 1 {
		t.Errorf("%+v after %d calls", got, len(double.got()))
	}
	cut.Close()
	if err := d.RunOnce(t.Context(), noon); fault.KindOf(err) != fault.Unavailable {
		t.Errorf("without a database: %v", err)
	}
}

// An attempt is let to end when the program is told to stop.
func TestStoppingLetsAnAttemptEnd(t *testing.T) {
	pool := pgtest.Database(t)
	ctx, stop := context.WithCancel(t.Context())
	double := newPoster(t, func(w http.ResponseWriter, r *http.Request) { stop(); time.Sleep(20 * time.Millisecond); ok(w, r) })
	s := toSlack(t, pool, double)
	ids := add(t, pool, noon, Message{Channel: Slack}, Message{Channel: Slack})
	must(t, NewDispatcher(s, (&logged{}).logger()).Run(ctx))
	if one, other := find(t, s, ids[0]), find(t, s, ids[1]); one.State != Sent || other.State != Queued {
		t.Errorf("%s and %s", one.State, other.State)
	}
}

func TestTestNotification(t *testing.T) {
	pool := pgtest.Database(t)
	double := newPoster(t, ok)
	s := toSlack(t, pool, double)
	set(t, s, Setup{Channel: Slack, Enabled: false, Address: Secret(double.URL + slackSecretPath)})
	d := NewDispatcher(s, (&logged{}).logger())
	got, err := d.Test(t.Context(), Slack, "ada@example.org", ada, noon)
	if err != nil || got.State != Sent || got.Purpose != "test" || !strings.Contains(double.got()[0], "sent by ada@example.org") {
		t.Errorf("%+v, %v", got, err)
	}
	double.answers(says(404, "no_service"))
	if got, err := d.Test(t.Context(), Slack, "", ada, noon); err != nil || got.State != Failed || !strings.Contains(got.Reason, "revoked") {
		t.Errorf("%+v, %v", got, err)
	}
	if got, err := d.Test(t.Context(), Email, "ada@example.org", ada, noon); err != nil || got.State != Skipped || got.To != "ada@example.org" {
		t.Errorf("%+v, %v", got, err)
	}
	if _, err := d.Test(t.Context(), "pigeon", "", ada, noon); fault.KindOf(err) != fault.NotFound {
		t.Error(err)
	}
	var entries int
	must(t, pool.QueryRow(t.Context(), `select count(*) from ops.audit_log where action = 'channel.test'`).Scan(&entries))
	if entries != 3 {
		t.Errorf("%d entries in the audit log", entries)
	}
}

func TestDecide(t *testing.T) {
	busy := &Failure{Words: "Busy.", Everybody: true}
	for name, tt := range map[string]struct {
		attempts int
		age      time.Duration
		err      error
		want     decision
	}{
		"sent":           {1, 0, nil, decision{State: Sent}},
		"first":          {1, 0, busy, decision{State: Queued, DueAt: noon.Add(30 * time.Second), Reason: "Busy.", Rest: 30 * time.Second}},
		"fourth":         {4, 0, busy, decision{State: Queued, DueAt: noon.Add(4 * time.Minute), Reason: "Busy.", Rest: 4 * time.Minute}},
		"ninth":          {9, 0, busy, decision{State: Queued, DueAt: noon.Add(time.Hour), Reason: "Busy.", Rest: maxRest}},
		"this one":       {1, 0, &Failure{Words: "Grey."}, decision{State: Queued, DueAt: noon.Add(30 * time.Second), Reason: "Grey."}},
		"asked for more": {1, 0, &Failure{Words: "Busy.", Everybody: true, After: 10 * time.Minute}, decision{State: Queued, DueAt: noon.Add(10 * time.Minute), Reason: "Busy.", Rest: 10 * time.Minute}},
		"for good":       {1, 0, &Failure{Words: "Gone.", Permanent: true, Everybody: true}, decision{State: Failed, Reason: "Gone."}},
		"too often":      {20, 0, busy, decision{State: Failed, Reason: "Busy. Given up after 20 attempts.", Rest: maxRest}},
		"too old":        {3, 24*time.Hour - time.Minute, busy, decision{State: Failed, Reason: "Busy. Given up: it could not be sent within 24 hours.", Rest: 2 * time.Minute}},
		"for too long":   {1, 23 * time.Hour, &Failure{Words: "Busy.", After: 2 * time.Hour}, decision{State: Failed, Reason: "Busy. Given up: it could not be sent within 24 hours."}},
		"anything else":  {1, 0, errors.New("boom"), decision{State: Queued, DueAt: noon.Add(30 * time.Second), Reason: "It could not be sent; the log says why."}},
	} {
		got := decide(Delivery{Attempts: tt.attempts, CreatedAt: noon.Add(-tt.age)}, "", tt.err, noon)
		if diff := cmp.Diff(tt.want, got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", name, diff)
		}
	}
}

// Every channel there is takes a message, refuses in words, and hides its
// secrets.
func TestEveryChannel(t *testing.T) {
	double := newPoster(t, ok)
	mails := newMailServer(t, NoTLS)
	setups := map[string]Setup{
		Email:   mails.setup(NoTLS),
		Slack:   {Channel: Slack, Enabled: true, Address: Secret(double.URL + slackSecretPath)},
		Webhook: {Channel: Webhook, Enabled: true, Address: Secret(double.URL + "/hook/secret-path"), Secret: password},
	}
	if len(setups) != len(makers) || len(Channels()) != len(makers) {
		t.Fatalf("channels without a test, or not listed: %v", Channels())
	}
	for _, channel := range Channels() {
		setup := setups[channel]
		d := Delivery{ID: uuid.New(), Message: Message{Channel: channel, Subject: "<b>&\n", Text: strings.Repeat("Zoë & <b>\x00\xff\n", 20_000), Purpose: "test"}, CreatedAt: noon}
		if _, err := makers[channel](setup, Options{AllowPrivate: true}).Send(within(t, 15*time.Second), d); err != nil {
			t.Errorf("%s: %v", channel, err)
		}
		for _, print := range []string{fmt.Sprintf("%v %+v %#v", setup, setup, setup), fmt.Sprint(setup.Values())} {
			if strings.Contains(print, password) || strings.Contains(print, "secret-path") || strings.Contains(print, "xoxsecret") {
				t.Errorf("%s shows a secret: %s", channel, print)
			}
		}
		if setup.Name() == "" || !setup.Configured() || (Setup{Channel: channel}).Configured() {
			t.Errorf("%s: %+v", channel, setup)
		}
	}
	if len(double.got()) != 2 || len(mails.got()) != 1 {
		t.Errorf("%d posts and %d mails", len(double.got()), len(mails.got()))
	}
}
