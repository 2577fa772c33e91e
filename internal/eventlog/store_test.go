package eventlog

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/promptcademy/promptops/internal/fault"
)

const (
	ada  = "0193a5b0-0000-7000-8000-000000000001"
	runA = "0193a5b0-0000-7000-8000-00000000000a"
)

// logged is a database with some events of two nodes.
func logged(t *testing.T) *pgxpool.Pool {
	t.Helper()
	db := testDatabase(t)
	_, err := db.Exec(t.Context(), `insert into auth.users (id, aud, role, email) values ($1, 'authenticated', 'authenticated', 'Ada@example.org')`, ada)
	must(t, err)
	first, second := newNode(db, "one"), newNode(db, "two")
	first.at(t, noon, slog.LevelInfo, "ai_run_start", "source", "api/ai/run", "requestId", runA, "userId", ada, "models", []string{"openai/gpt-5-mini"})
	second.at(t, noon.Add(time.Second), slog.LevelError, "ai_run_error", "source", "api/ai/run", "requestId", runA, "userId", ada, "error", `it said "No_100%" <b>`)
	first.at(t, noon.Add(2*time.Second), slog.LevelWarn, "node_not_seen", "error", "timeout")
	second.at(t, noon.Add(-time.Hour), slog.LevelInfo, "server_started")
	first.at(t, noon.Add(-36*time.Hour), slog.LevelInfo, "server_started")
	first.write(t)
	second.write(t)
	return db
}

func TestFilters(t *testing.T) {
	s := newStore(logged(t))
	for _, c := range []struct {
		query []string
		want  []string
	}{
		{nil, []string{"node_not_seen", "ai_run_error", "ai_run_start", "server_started"}},
		{[]string{"range", "7d"}, []string{"node_not_seen", "ai_run_error", "ai_run_start", "server_started", "server_started"}},
		{[]string{"start", "11:00", "end", "12:00"}, []string{"server_started"}},
		{[]string{"start", "12:02"}, []string{"node_not_seen", "ai_run_error", "ai_run_start"}},
		{[]string{"source", "api/ai/run"}, []string{"ai_run_error", "ai_run_start"}},
		{[]string{"source", Program}, []string{"node_not_seen", "server_started"}},
		{[]string{"event", "ai_run_start"}, []string{"ai_run_start"}},
		{[]string{"level", "info"}, []string{"node_not_seen", "ai_run_error", "ai_run_start", "server_started"}},
		{[]string{"level", "warn"}, []string{"node_not_seen", "ai_run_error"}},
		{[]string{"level", "error"}, []string{"ai_run_error"}},
		{[]string{"request", runA}, []string{"ai_run_error", "ai_run_start"}},
		{[]string{"learner", "ada@example.ORG"}, []string{"ai_run_error", "ai_run_start"}},
		{[]string{"learner", ada, "level", "error"}, []string{"ai_run_error"}},
		{[]string{"learner", "nobody@example.org"}, nil},
		{[]string{"q", `said "no_100%"`}, []string{"ai_run_error"}},
		{[]string{"q", "<B>"}, []string{"ai_run_error"}},
		{[]string{"q", "NODE_"}, []string{"node_not_seen"}},
		{[]string{"q", "no%100"}, nil},
		{[]string{"q", `\`}, nil},
	} {
		f := today(t, c.query...)
		page, err := s.List(t.Context(), f, Cursor{}, 10)
		must(t, err)
		if diff := cmp.Diff(c.want, names(page.Events)); diff != "" || page.Newer || page.Older || page.Rest != nil {
			t.Errorf("%v: %+v (-want +got):\n%s", c.query, page, diff)
		}
		counts, err := s.Count(t.Context(), f)
		must(t, err)
		sum := Tally{}
		for _, span := range counts.Spans {
			sum = Tally{sum.Errors + span.Errors, sum.Warnings + span.Warnings, sum.Others + span.Others}
		}
		if !counts.Known || counts.Total.Sum() != int64(len(c.want)) || sum != counts.Total {
			t.Errorf("%v: counted %+v, want %d", c.query, counts.Total, len(c.want))
		}
		back, err := ParseFilter(f.Values(), noon, time.UTC)
		must(t, err)
		if diff := cmp.Diff(f.Values(), back.Values()); diff != "" || !back.From.Equal(f.From) || !back.To.Equal(f.To) {
			t.Errorf("%v does not survive its own address: %s", c.query, diff)
		}
	}
	page, err := s.List(t.Context(), today(t, "learner", ada), Cursor{}, 10)
	must(t, err)
	if page.Events[0].Learner != "Ada@example.org" {
		t.Errorf("the learner is %q", page.Events[0].Learner)
	}
	choices, err := s.Choices(t.Context(), today(t, "source", "api/ai/run"))
	must(t, err)
	if diff := cmp.Diff(Choices{[]string{"api/ai/run", Program}, []string{"ai_run_error", "ai_run_start"}}, choices); diff != "" {
		t.Errorf("choices (-want +got):\n%s", diff)
	}
}

func TestBadFilters(t *testing.T) {
	for query, fields := range map[string]string{
		"level=loud&q=%00":                                                "level q",
		"start=25:00&end=noon&range=7d":                                   "start end",
		"range=today&start=14:00&end=13:":                                 "end",
		"range=today&start=14&end=13:00":                                  "start",
		"range=today&start=14:00&end=13:00&q=" + strings.Repeat("x", 256): "q",
		"range=soon": "range",
	} {
		values, err := url.ParseQuery(query)
		must(t, err)
		_, err = ParseFilter(values, noon, time.UTC)
		var got []string
		if f, ok := errors.AsType[*fault.Error](err); ok {
			for _, d := range f.Details {
				got = append(got, d.Field)
			}
		}
		if strings.Join(got, " ") != fields {
			t.Errorf("%s: refused %v, want %s", query, got, fields)
		}
	}
	for _, text := range []string{"", "x", "12", "12-x", "-1-" + ada, "999999999999999999-" + ada} {
		if at, err := ParseCursor(text); err == nil {
			t.Errorf("%q is the place %v", text, at)
		}
	}
	at := Event{At: noon, ID: [16]byte{1}}.Place()
	if back, err := ParseCursor(at.String()); err != nil || back != at {
		t.Errorf("%v became %v: %v", at, back, err)
	}
}

// Pages hold while events come, also many of one instant and from two nodes.
func TestPagesBothWays(t *testing.T) {
	db := testDatabase(t)
	s := newStore(db)
	nodes := []node{newNode(db, "one"), newNode(db, "two")}
	i := 0
	log := func(many int) {
		for end := i + many; i < end; i++ {
			at := noon.Add(time.Duration(i/7) * time.Millisecond) // many of one instant …
			if i >= 50 {
				at = noon.Add(time.Duration(i) * time.Second) // … but what comes meanwhile is later
			}
			nodes[i%2].at(t, at, slog.LevelInfo, fmt.Sprintf("e%d", i), "text", "needle")
		}
		nodes[0].write(t)
		nodes[1].write(t)
	}
	log(50)
	for _, query := range [][]string{nil, {"q", "NEEDLE"}} {
		f := today(t, query...)
		all, err := s.List(t.Context(), f, Cursor{}, 1000)
		must(t, err)
		want := names(all.Events)
		var got []string
		at, pages := Cursor{}, []Page{}
		for {
			page, err := s.List(t.Context(), f, at, 8)
			must(t, err)
			got, pages = append(got, names(page.Events)...), append(pages, page)
			log(3) // meanwhile
			if !page.Older {
				break
			}
			at = page.Events[len(page.Events)-1].Place()
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("there (-want +got):\n%s", diff)
		}
		for i := len(pages) - 1; i > 0; i-- {
			at = pages[i].Events[0].Place()
			at.Newer = true
			page, err := s.List(t.Context(), f, at, 8)
			must(t, err)
			if diff := cmp.Diff(names(pages[i-1].Events), names(page.Events)); diff != "" || !page.Older || !page.Newer {
				t.Errorf("back to page %d (-want +got):\n%s", i-1, diff)
			}
		}
	}
}

// A text is looked for in parts, so that no page takes for ever.
func TestSearchGoesOn(t *testing.T) {
	db := testDatabase(t)
	n := newNode(db, "one")
	n.at(t, noon.Add(-2*time.Hour), slog.LevelInfo, "needle")
	n.write(t)
	_, err := db.Exec(t.Context(), `
		insert into ops.log_events (id, at, level, source, event, node, attributes)
		select gen_random_uuid(), $1::timestamptz + i * interval '1 ms', 0, 's', 'hay', 'one', '{}' from generate_series(1, $2) i`, noon.Add(-time.Hour), MostSearched+10)
	must(t, err)
	s, f := newStore(db), today(t, "q", "needle")
	page, err := s.List(t.Context(), f, Cursor{}, 10)
	must(t, err)
	if len(page.Events) != 0 || page.Rest == nil || page.Older {
		t.Fatalf("the first part found %v, rest %v", names(page.Events), page.Rest)
	}
	page, err = s.List(t.Context(), f, *page.Rest, 10)
	must(t, err)
	if !slices.Equal(names(page.Events), []string{"needle"}) || page.Rest != nil {
		t.Errorf("the second part found %v, rest %v", names(page.Events), page.Rest)
	}
}

func TestASlowSearchSaysSo(t *testing.T) {
	db := logged(t)
	_, err := db.Exec(t.Context(), `
		alter table ops.log_events rename to hidden;
		create view ops.log_events as select h.* from ops.hidden h, pg_sleep(6)`)
	must(t, err)
	_, err = newStore(db).List(t.Context(), today(t, "q", "x"), Cursor{}, 10)
	if fault.KindOf(err) != fault.Unavailable || !strings.Contains(err.Error(), "Choose a shorter time") {
		t.Errorf("%v", err)
	}
	counts, err := newStore(db).Count(t.Context(), today(t, "q", "x"))
	if err != nil || counts.Known || counts.Total.Sum() != 0 {
		t.Errorf("%+v, %v", counts, err)
	}
}

func TestSpans(t *testing.T) {
	berlin, err := time.LoadLocation("Europe/Berlin")
	must(t, err)
	for _, c := range []struct {
		query string
		zone  *time.Location
		n     int
		step  time.Duration
	}{
		{"range=today", time.UTC, 48, 30 * time.Minute},
		{"range=7d", time.UTC, 56, 3 * time.Hour},
		{"range=30d", time.UTC, 30, 0},
		{"from=2026-10-25&to=2026-10-25", berlin, 50, 30 * time.Minute}, // 25 hours
		{"from=2026-03-29&to=2026-03-29", berlin, 46, 30 * time.Minute}, // 23
		{"from=2026-11-24&to=2026-11-24&start=14:02&end=14:58", time.UTC, 12, slot},
		{"from=2026-11-23&to=2026-11-24&start=23:50&end=00:10", time.UTC, 4, slot},
		{"from=2026-11-01&to=2026-11-24&start=12:00&end=12:00", time.UTC, 24, 0},
	} {
		values, err := url.ParseQuery(c.query)
		must(t, err)
		f, err := ParseFilter(values, noon, c.zone)
		must(t, err)
		starts, step := spans(f)
		if len(starts)-1 != c.n || step != c.step || !starts[0].Equal(f.From) || !starts[len(starts)-1].Equal(f.To) {
			t.Errorf("%s: %d spans of %v from %v to %v, want %d of %v", c.query, len(starts)-1, step, starts[0], starts[len(starts)-1], c.n, c.step)
		}
		if !slices.IsSortedFunc(starts, time.Time.Compare) {
			t.Errorf("%s: %v", c.query, starts)
		}
	}
}

func TestFiles(t *testing.T) {
	db := logged(t)
	n := newNode(db, "one")
	n.at(t, noon.Add(time.Minute), slog.LevelInfo, "x", "source", "a", "requestId", "=1+1", "text", "a,b\n")
	n.write(t)
	s := newStore(db)
	var csv, lines bytes.Buffer
	cut, err := s.WriteCSV(t.Context(), &csv, today(t))
	must(t, err)
	if cut || strings.Count(csv.String(), "\r\n") != 6 || !strings.Contains(csv.String(), `,a,x,'=1+1,,,one,`) || !strings.Contains(csv.String(), `"{""text"":""a,b\n""}"`) {
		t.Errorf("cut %v:\n%s", cut, csv.String())
	}
	_, err = s.WriteNDJSON(t.Context(), &lines, today(t, "event", "x"))
	must(t, err)
	var whole map[string]any
	must(t, json.Unmarshal(lines.Bytes(), &whole))
	if whole["event"] != "x" || whole["text"] != "a,b\n" || whole["node"] != "one" {
		t.Errorf("%s", lines.String())
	}
}

func TestTailHandsOutEachEventOnce(t *testing.T) {
	db := testDatabase(t)
	s := newStore(db)
	one, two := newNode(db, "one"), newNode(db, "two")
	now := noon
	one.at(t, now.Add(-time.Minute), slog.LevelInfo, "old")
	one.write(t)
	tail := s.Tail(today(t, "level", "warn"), Cursor{}, now)
	next := func(want ...string) {
		t.Helper()
		events, skipped, err := tail.Next(t.Context(), now)
		must(t, err)
		if diff := cmp.Diff(want, names(events)); diff != "" || skipped {
			t.Errorf("at %s, skipped %v (-want +got):\n%s", now.Sub(noon), skipped, diff)
		}
	}
	next()
	one.at(t, now, slog.LevelWarn, "a")
	one.at(t, now, slog.LevelInfo, "not bad enough")
	one.write(t)
	now = now.Add(time.Second)
	next("a")
	next()
	two.at(t, now.Add(-2*time.Second), slog.LevelError, "late")
	one.at(t, now, slog.LevelError, "b")
	two.write(t)
	one.write(t)
	now = now.Add(time.Second)
	next("late", "b")

	// After an outage comes what waited, a while after the first answer.
	one.at(t, now.Add(30*time.Second), slog.LevelWarn, "waited")
	now = now.Add(time.Minute)
	next()
	one.write(t)
	now = now.Add(3 * time.Second)
	next("waited")
	now = now.Add(time.Minute)
	next()

	// Whoever comes back is given the last moments again, and no hours.
	at := Cursor{At: now.Add(-24 * time.Hour)}
	if again, _, err := s.Tail(today(t), at, now).Next(t.Context(), now); err != nil || !slices.Equal(names(again), []string{"old", "late", "a", Text, "b", "waited"}) {
		t.Errorf("%v, %v", names(again), err)
	}

	for i := range mostPerRead + 20 {
		one.at(t, now, slog.LevelError, fmt.Sprintf("e%d", i))
	}
	one.write(t)
	events, skipped, err := tail.Next(t.Context(), now)
	must(t, err)
	if len(events) != mostPerRead || !skipped || events[len(events)-1].Name != fmt.Sprintf("e%d", mostPerRead+19) {
		t.Errorf("%d events, skipped %v", len(events), skipped)
	}
}
