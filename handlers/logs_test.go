package handlers_test

import (
	"bufio"
	"context"
	"encoding/json"
	"io"
	"log/slog"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/promptcademy/promptops/handlers"
	"github.com/promptcademy/promptops/internal/account"
	"github.com/promptcademy/promptops/internal/eventlog"
	"github.com/promptcademy/promptops/internal/key"
)

// logNode is a process whose log is kept in a site's database.
type logNode struct {
	*eventlog.Writer
	*slog.Logger
	t testing.TB
}

// logNode is a node of that name; what it logs also goes to standard output, out.
func (s *site) logNode(name string, out io.Writer) logNode {
	s.t.Helper()
	tee := eventlog.NewTee(out)
	log := slog.New(slog.NewJSONHandler(tee, &slog.HandlerOptions{ReplaceAttr: func(groups []string, a slog.Attr) slog.Attr {
		switch {
		case len(groups) > 0:
		case a.Key == slog.MessageKey:
			a.Key = "event"
		case a.Key == slog.TimeKey:
			a.Value = slog.TimeValue(s.Clock.Now()) // the site's time, as all else that its pages show
		}
		return a
	}}))
	return logNode{eventlog.NewWriter(tee, s.DB, name, log), log, s.t}
}

// flush writes down what was logged.
func (n logNode) flush() {
	n.t.Helper()
	must(n.t, n.Flush(n.t.Context()))
}

// loggingSite is a site whose log is kept.
func loggingSite(t *testing.T, change ...func(*handlers.Server)) (*site, logNode) {
	t.Helper()
	s := newSite(t, change...)
	n := s.logNode("one", s.Events)
	s.Log, s.Runner.Log = n.Logger, n.Logger
	return s, n
}

const leakedKey = "sk-proj-abcdefghijklmnopqrstuvwxyz0123456789ABCD"

func TestARunAndItsEvents(t *testing.T) {
	t.Parallel()
	s, n := loggingSite(t)
	s.withKeys("openai", "anthropic")
	ada := s.learner("ada@example.org")
	run := func(body string, status int) string {
		return s.visitor().send(http.MethodPost, "/api/ai/run", strings.NewReader(body),
			"Content-Type", "application/json", "Authorization", "Bearer "+s.token(ada)).wants(t, status).Header.Get("X-Request-Id")
	}
	id := run(`{"prompt": "Hello `+leakedKey+`", "models": ["openai/gpt-5-mini", "anthropic/claude-haiku-5-5-fault-401"]}`, 200)
	rejected := run(`{"prompt": "Hello", "models": []}`, 422)
	marta := s.as(account.RoleAdmin)
	marta.get("/runs/"+id).wants(t, 200).shows(t, "None yet")
	n.flush()

	page := marta.get("/runs/"+id).wants(t, 200).shows(t, "Log events", "ai_run_start", "ai_run_success", "openai: fallback", "invalid_key", "/logs?from=2026-11-24&amp;request="+id)
	if strings.Index(page.Text, "ai_run_start") > strings.Index(page.Text, "ai_run_success") {
		t.Error("the events are not in their order")
	}
	list := marta.get("/logs?request="+id).wants(t, 200).shows(t, "2 events", "ada@example.org", `href="/runs/`+id+`"`)
	if strings.Contains(list.Text, rejected) {
		t.Error("the list has events of another request")
	}
	other := marta.get("/logs?request="+rejected).wants(t, 200).shows(t, "1 event", "ai_run_error")
	if strings.Contains(other.Text, `href="/runs/`+rejected) {
		t.Error("a request that was rejected has no run to go to")
	}
	lead, _ := s.leadOf("lead@example.org", "Design")
	s.join(uuid.MustParse(s.first(`select id::text from public.teams limit 1`)), ada, "member")
	if text := s.visitor(s.session(lead)).get("/runs/" + id).Text; strings.Contains(text, "Log events") {
		t.Error("a lead sees the log")
	}

	s.Clock.Advance(40 * 24 * time.Hour)
	must(t, eventlog.NewDays(s.DB, 30, n.Logger).RunOnce(t.Context(), s.Clock.Now()))
	s.visitor(s.session(s.operator("later@example.org", account.RoleAdmin, ""))).get("/runs/"+id).wants(t, 200).
		shows(t, "They are gone: events are kept for 30 days.")
}

// What is kept is what standard output has, where keys have been taken out.
func TestNoSecretIsKept(t *testing.T) {
	t.Parallel()
	s, n := loggingSite(t)
	s.withKeys("openai")
	ada := s.learner("ada@example.org")
	_, _, err := s.Keys.AddFallback(t.Context(), key.NewFallback{Provider: "anthropic", Label: "leaky", Secret: leakedKey, Sandbox: true})
	must(t, err)
	s.visitor().send(http.MethodPost, "/api/ai/run", strings.NewReader(`{"prompt": "secret prompt", "models": ["anthropic/claude-haiku-5-5-fault-401"]}`),
		"Content-Type", "application/json", "Authorization", "Bearer "+s.token(ada)).wants(t, 200)
	n.flush()
	kept := s.first(`select string_agg(event || attributes::text, ' ') from ops.log_events`)
	if !strings.Contains(kept, "ai_run_error") || !strings.Contains(kept, "invalid_key") {
		t.Fatalf("the run is not in the log: %s", kept)
	}
	for _, secret := range []string{leakedKey, leakedKey[8:], "secret prompt", s.token(ada)} {
		if strings.Contains(kept, secret) {
			t.Errorf("the log keeps %q: %s", secret, kept)
		}
	}
	out := s.Events.Text()
	for line := range strings.Lines(out) {
		var whole map[string]json.RawMessage
		must(t, json.Unmarshal([]byte(line), &whole))
		if whole["event"] == nil {
			continue // of the key's health, which has a log of its own here
		}
		for _, own := range []string{"time", "level", "event", "source", "requestId", "userId"} {
			delete(whole, own)
		}
		for name, value := range whole {
			if !strings.Contains(kept, `"`+name+`":`+string(value)) {
				t.Errorf("%s=%s is on standard output and not kept", name, value)
			}
		}
	}
}

func TestLogsPage(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	one, two := s.logNode("one", io.Discard), s.logNode("two", io.Discard)
	for i := range 120 {
		one.Info("node_event", "i", i)
	}
	two.Error("it_broke", "error", `=cmd()<img src=x onerror=alert(1)>`, "requestId", uuid.NewString())
	one.flush()
	two.flush()
	marta := s.as(account.RoleAdmin)

	page := marta.get("/logs").wants(t, 200).shows(t, "121 events", "it_broke", "Follow live", "&lt;img src=x", `aria-current="page"`)
	if strings.Contains(page.Text, "<img") || strings.Count(page.Text, `class="log"`) != 50 {
		t.Errorf("%d lines, or markup of an attribute", strings.Count(page.Text, `class="log"`))
	}
	older := marta.follow(page, "Older")
	last := marta.follow(older, "Older")
	if strings.Count(last.Text, `class="log"`) != 21 || strings.Contains(last.Text, "Older</a>") {
		t.Errorf("the last page has %d lines", strings.Count(last.Text, `class="log"`))
	}
	if back := marta.follow(last, "Newer"); lines(back.Text) != lines(older.Text) {
		t.Errorf("the way back leads to\n%s\nand not to\n%s", lines(back.Text), lines(older.Text))
	}
	if strings.Contains(older.Text, "data-live=") {
		t.Error("what is not the beginning cannot be followed")
	}

	marta.get("/logs?level=error").wants(t, 200).shows(t, "1 event", "it_broke")
	marta.get("/logs?q=ONERROR").wants(t, 200).shows(t, "1 event")
	marta.get("/logs?event=nothing").wants(t, 200).shows(t, "No events match", "Clear the filters")
	marta.get("/logs?from=2026-11-01&to=2026-11-02").wants(t, 200).shows(t, "No events in this time")
	marta.get("/logs?level=loud&start=9&before=x").wants(t, 422).shows(t, "level must be info, warn or error", "121 events")
	marta.get("/logs?before=x").wants(t, 422).shows(t, "is no place in the list")
	fragment := marta.get("/logs?level=error", "HX-Request", "true").wants(t, 200).shows(t, "it_broke")
	if strings.Contains(fragment.Text, "<html") {
		t.Error("htmx gets a whole page")
	}

	csv := marta.get("/logs.csv?level=error").wants(t, 200).shows(t, ",it_broke,")
	if !strings.Contains(csv.Header.Get("Content-Disposition"), `logs-2026-11-18-to-2026-11-24.csv`) {
		t.Errorf("the file is called %s", csv.Header.Get("Content-Disposition"))
	}
	ndjson := marta.get("/logs.ndjson?range=today").wants(t, 200)
	if strings.Count(ndjson.Text, "\n") != 121 || !json.Valid([]byte(strings.SplitN(ndjson.Text, "\n", 2)[0])) {
		t.Errorf("%d lines:\n%.500s", strings.Count(ndjson.Text, "\n"), ndjson.Text)
	}
	marta.get("/logs.csv?level=loud").wants(t, 422)
	marta.get("/logs/tail").wants(t, 422).shows(t, "following the page Logs live")

	s.loseDatabase()
	marta.get("/logs").wants(t, 503)
}

// lines are the ids of the events on a page, in their order.
func lines(page string) string {
	var ids []string
	for _, part := range strings.Split(page, `id="event-`)[1:] {
		id, _, _ := strings.Cut(part, `"`)
		ids = append(ids, id)
	}
	return strings.Join(ids, "\n")
}

// follow goes where a link of the pager leads.
func (v *visitor) follow(page reply, label string) reply {
	v.t.Helper()
	before, _, found := strings.Cut(page.Text, ">"+label+"</a>")
	at := strings.LastIndex(before, `href="`)
	if !found || at < 0 {
		v.t.Fatalf("there is no link %q", label)
	}
	href, _, _ := strings.Cut(before[at+len(`href="`):], `"`)
	return v.get(strings.ReplaceAll(href, "&amp;", "&")).wants(v.t, 200)
}

// streamed is an event of a stream.
type streamed struct{ id, event, data string }

// listen opens a stream and hands out what comes; it ends with ctx.
func (v *visitor) listen(ctx context.Context, path string, header ...string) <-chan streamed {
	v.t.Helper()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, v.site.URL+path, nil)
	must(v.t, err)
	request.Header.Set("Accept", "text/event-stream")
	for i := 0; i < len(header); i += 2 {
		request.Header.Set(header[i], header[i+1])
	}
	response, err := v.Do(request) //nolint:bodyclose // below, when the stream has ended
	must(v.t, err)
	if response.StatusCode != 200 || response.Header.Get("Content-Type") != "text/event-stream; charset=utf-8" || response.Header.Get("Content-Encoding") != "" {
		v.t.Fatalf("%s, %v", response.Status, response.Header)
	}
	all := make(chan streamed, 1000)
	go func() {
		defer close(all)
		defer response.Body.Close()
		var one streamed
		for scanner := bufio.NewScanner(response.Body); scanner.Scan(); {
			field, value, _ := strings.Cut(scanner.Text(), ": ")
			switch field {
			case "id":
				one.id = value
			case "event":
				one.event = value
			case "data":
				one.data += value + "\n"
			case "":
				if one.data != "" {
					all <- one
				}
				one = streamed{}
			}
		}
	}()
	return all
}

func next(t *testing.T, all <-chan streamed) streamed {
	t.Helper()
	select {
	case one, open := <-all:
		if !open {
			t.Fatal("the stream has ended")
		}
		return one
	case <-time.After(time.Minute):
		t.Fatal("nothing comes")
		return streamed{}
	}
}

func TestLogsAreFollowedLive(t *testing.T) {
	t.Parallel()
	closing, stop := context.WithCancel(t.Context())
	s := newSite(t, func(h *handlers.Server) { h.Closing = closing })
	one, two := s.logNode("one", io.Discard), s.logNode("two", io.Discard)
	marta := s.as(account.RoleAdmin)
	all := marta.listen(t.Context(), "/logs/tail?level=warn")
	one.Warn("first", "text", "a\r\n\rid: forged\rdata: <b>")
	one.Info("not bad enough")
	one.flush()
	first := next(t, all)
	if !strings.Contains(first.data, "first") || strings.Contains(first.data, "<b>") || first.id == "forged" || !strings.Contains(first.data, `data-place="`+first.id+`"`) {
		t.Errorf("%+v", first)
	}
	two.Error("second")
	two.flush()
	if second := next(t, all); !strings.Contains(second.data, "second") {
		t.Errorf("%+v", second)
	}

	// Another stream goes on where this one ended, if need be with what came before.
	ctx, leave := context.WithCancel(t.Context())
	again := marta.listen(ctx, "/logs/tail?level=warn", "Last-Event-ID", first.id)
	found := ""
	for !strings.Contains(found, "second") {
		found += next(t, again).data
	}
	leave()

	_, err := s.DB.Exec(t.Context(), `
		alter table ops.log_events rename to away;
		create view ops.log_events as select a.* from ops.away a, pg_sleep(20)`)
	must(t, err)
	if away := next(t, all); away.event != "away" || !strings.Contains(away.data, "could not be found") {
		t.Errorf("%+v", away)
	}
	_, err = s.DB.Exec(t.Context(), `
		drop view ops.log_events;
		alter table ops.away rename to log_events`)
	must(t, err)
	two.Error("third")
	two.flush()
	for {
		if third := next(t, all); third.event == "" {
			if !strings.Contains(third.data, "third") {
				t.Errorf("%+v", third)
			}
			break
		}
	}
	stop() // the program is told to stop: nobody has to be waited for
	eventually(t, "the stream ends", func() bool {
		select {
		case _, open := <-all:
			return !open
		default:
			return false
		}
	})
}
