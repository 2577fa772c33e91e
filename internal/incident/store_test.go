package incident

import (
	"context"
	"encoding/csv"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/promptcademy/promptops/internal/audit"
	"github.com/promptcademy/promptops/internal/fault"
	"github.com/promptcademy/promptops/internal/postgres"
	"github.com/promptcademy/promptops/internal/postgres/pgtest"
)

// world is a store on a database with two admins, Ada and Bea.
type world struct {
	*Store
	t        testing.TB
	db       postgres.DB
	ada, bea audit.Actor
	runs     int
}

func newWorld(t testing.TB, db postgres.DB) *world {
	t.Helper()
	w := &world{Store: NewStore(db), t: t, db: db}
	w.ada, w.bea = w.operator("ada@example.org", "Ada", "admin"), w.operator("bea@example.org", "", "admin")
	w.exec(`select ops.ensure_partitions('2026-10-01', '2026-12-01')`)
	return w
}

func (w *world) operator(email, name, role string) audit.Actor {
	w.t.Helper()
	id := uuid.New()
	w.exec(`insert into ops.operators (id, email, name, role, learner_id) values ($1, $2, $3, $4, $1)`, id, email, name, role)
	return audit.Operator(id, email)
}

func (w *world) exec(sql string, args ...any) {
	w.t.Helper()
	if _, err := w.db.Exec(w.t.Context(), sql, args...); err != nil {
		w.t.Fatal(err)
	}
}

func (w *world) start(title string, at time.Time) int64 {
	w.t.Helper()
	id, err := w.Start(w.t.Context(), w.ada, Draft{Title: title, Severity: 2, LeadID: w.ada.OperatorID}, Origin{}, at)
	must(w.t, err)
	return id
}

func (w *world) report(id int64, now time.Time) Report {
	w.t.Helper()
	r, err := w.Report(w.t.Context(), id, now)
	must(w.t, err)
	return r
}

// run stores a run with one attempt; class "" is one that was answered.
func (w *world) run(at time.Time, learner, team *uuid.UUID, provider, class, source, cost string) {
	w.t.Helper()
	w.runs++
	id := firstID(at)
	id[6], id[8], id[14], id[15] = 0x70, 0x80, byte(w.runs>>8), byte(w.runs)
	created := at.Truncate(time.Millisecond)
	status, attempt := "success", "ok"
	if class != "" {
		status, attempt = "error", "error"
	}
	w.exec(`insert into public.prompt_runs (id, created_at, user_id, team_id, models, status, finished_at) values ($1, $2, $3, $4, '{x/y}', $5, $2)`, id, created, learner, team, status)
	w.exec(`
		insert into public.prompt_attempts (run_id, ordinal, created_at, user_id, team_id, provider, model, status, key_source, user_key_id, fallback_key_id, error_class, cost_usd)
		values ($1, 0, $2, $3, $4, $5, 'x/y', $6, $7, $8, $8, nullif($9, ''), nullif($10, '')::numeric)`,
		id, created, learner, team, provider, attempt, source, uuid.New(), class, cost)
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func wantKind(t testing.TB, err error, kind fault.Kind, pieces ...string) {
	t.Helper()
	if err == nil || fault.KindOf(err) != kind {
		t.Errorf("%v, want %s", err, kind)
		return
	}
	text := err.Error()
	f, _ := errors.AsType[*fault.Error](err)
	for _, d := range f.Details {
		text += " " + d.Field + " " + d.Message
	}
	for _, piece := range pieces {
		if !strings.Contains(text, piece) {
			t.Errorf("%q does not say %q", text, piece)
		}
	}
}

func kindsOf(r Report) []string {
	var all []string
	for _, e := range r.Entries {
		all = append(all, string(e.Kind))
	}
	return all
}

func TestLifeOfAnIncident(t *testing.T) {
	w := newWorld(t, pgtest.Tx(t))
	ctx := t.Context()
	reading := Reading{Title: "Usable fallback keys", Verdict: "failing", Value: "0 at OpenAI", Detail: "both invalid", At: noon.Add(-time.Second)}
	id, err := w.Start(ctx, w.ada, Draft{Title: "  OpenAI\n refuses\tour keys ", Severity: 1, DetectedAt: noon.Add(-10 * time.Minute)}, Origin{CheckID: "fallback-keys", Step: "missing-key", Reading: &reading}, noon)
	must(t, err)
	r := w.report(id, noon)
	if r.Title != "OpenAI refuses our keys" || r.Status != Open || r.AcknowledgedAt != nil || r.Step != "missing-key" || !r.DetectedAt.Equal(noon.Add(-10*time.Minute)) {
		t.Errorf("%+v", r.Incident)
	}
	if r.Entries[0].Kind != KindReading || r.Entries[0].Title != "Usable fallback keys: 0 at OpenAI" || r.Entries[0].Verdict != "failing" {
		t.Errorf("it does not begin with the reading: %+v", r.Entries)
	}

	must(t, w.AddNote(ctx, w.bea, id, "Rotating the key", noon.Add(2*time.Minute))) // the first thing that somebody does
	must(t, w.Record(ctx, w.bea, id, "fallback-keys", Unread("fallback-keys", "no connection", noon), noon.Add(3*time.Minute)))
	r = w.report(id, noon.Add(3*time.Minute))
	if d, ok := r.ToAcknowledge(); !ok || d != 12*time.Minute || r.AcknowledgedName != "bea@example.org" {
		t.Errorf("acknowledged: %+v", r.Incident)
	}
	wantKind(t, w.Take(ctx, w.ada, id, Acknowledge, noon.Add(4*time.Minute)), fault.Conflict, "acknowledged this incident already")
	must(t, w.Edit(ctx, w.ada, id, r.Revision, Draft{Title: r.Title, Severity: 2, LeadID: w.bea.OperatorID, DetectedAt: noon.Add(-20 * time.Minute)}, noon.Add(5*time.Minute)))
	must(t, w.Take(ctx, w.ada, id, Mitigate, noon.Add(6*time.Minute)))
	must(t, w.AddFollowUp(ctx, w.ada, id, Task{Body: "Watch keys", OwnerID: w.bea.OperatorID, DueOn: "2026-12-01"}, noon.Add(7*time.Minute)))
	must(t, w.Take(ctx, w.ada, id, Resolve, noon.Add(8*time.Minute)))
	wantKind(t, w.Record(ctx, w.ada, id, "x", reading, noon.Add(9*time.Minute)), fault.Conflict, "Reopen it first")
	wantKind(t, w.Edit(ctx, w.ada, id, w.report(id, noon).Revision, Draft{Title: "x", Severity: 1, DetectedAt: noon.Add(-time.Hour)}, noon.Add(9*time.Minute)), fault.Invalid, "detectedAt", "reopen")
	must(t, w.Take(ctx, w.bea, id, Reopen, noon.Add(10*time.Minute)))

	r = w.report(id, noon.Add(11*time.Minute))
	want := []string{"reading", "start", "note", "reading", "edit", "mitigate", "follow_up", "resolve", "reopen"}
	slices.Sort(want)
	got := kindsOf(r)
	slices.Sort(got)
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("time line (-want +got):\n%s", diff)
	}
	if r.Status != Open || r.ResolvedAt != nil || r.MitigatedAt != nil || r.LeadName != "bea@example.org" {
		t.Errorf("reopened: %+v", r.Incident)
	}
	for _, e := range r.Entries {
		if e.Kind == KindEdit {
			want := []Change{{"severity", "SEV1", "SEV2"}, {"lead", "nobody", "bea@example.org"}, {FieldDetected, "2026-11-24T11:50:00Z", "2026-11-24T11:40:00Z"}}
			if diff := cmp.Diff(want, e.Changes); diff != "" {
				t.Errorf("changes (-want +got):\n%s", diff)
			}
		}
	}

	// Each of it is in the audit log, in the order in which it was done.
	rows, err := w.db.Query(ctx, `select action || ' ' || actor || ' ' || subject_id from ops.audit_log order by id`)
	must(t, err)
	actions, err := pgx.CollectRows(rows, pgx.RowTo[string])
	must(t, err)
	wantActions := []string{"start ada", "note bea", "reading bea", "edit ada", "mitigate ada", "follow_up_add ada", "resolve ada", "reopen bea"}
	for i, a := range wantActions {
		verb, who, _ := strings.Cut(a, " ")
		wantActions[i] = fmt.Sprintf("incident.%s %s@example.org %d", verb, who, id)
	}
	if diff := cmp.Diff(wantActions, actions); diff != "" {
		t.Errorf("audit log (-want +got):\n%s", diff)
	}
}

func TestDraftsThatCannotBeUsed(t *testing.T) {
	w := newWorld(t, pgtest.Tx(t))
	lead := w.operator("lead@example.org", "", "team_lead")
	start := func(d Draft) error {
		_, err := w.Start(t.Context(), w.ada, d, Origin{}, noon)
		return err
	}
	wantKind(t, start(Draft{Title: " \x00\n", Severity: 4, DetectedAt: noon.Add(time.Minute)}), fault.Invalid, "title must not be empty", "severity must be", "detectedAt is in the future")
	wantKind(t, start(Draft{Title: strings.Repeat("ä", 201), Severity: 1, DetectedAt: noon.AddDate(-2, 0, 0)}), fault.Invalid, "title must have at most", "more than a year ago")
	wantKind(t, start(Draft{Title: "x", Severity: 1, LeadID: lead.OperatorID}), fault.Invalid, "leadId must be an admin")
	wantKind(t, start(Draft{Title: "x", Severity: 1, LeadID: new(uuid.New())}), fault.Invalid, "leadId")
	id := w.start("Real", noon)
	wantKind(t, w.AddNote(t.Context(), w.ada, id, " \r\n", noon), fault.Invalid, "body must not be empty")
	wantKind(t, w.AddNote(t.Context(), w.ada, id, strings.Repeat("x", MaxText+1), noon), fault.Invalid, "at most")
	wantKind(t, w.AddNote(t.Context(), w.ada, id+99, "x", noon), fault.NotFound)
	wantKind(t, w.AddFollowUp(t.Context(), w.ada, id, Task{DueOn: "soon"}, noon), fault.Invalid, "task", "dueOn is not a day")
	must(t, w.Take(t.Context(), w.bea, id, Acknowledge, noon.Add(time.Minute)))
	wantKind(t, w.Edit(t.Context(), w.ada, id, 2, Draft{Title: "Real", Severity: 2, DetectedAt: noon.Add(2 * time.Minute)}, noon.Add(time.Hour)), fault.Invalid, "after it was acknowledged")
	if _, err := w.Report(t.Context(), id+99, noon); fault.KindOf(err) != fault.NotFound {
		t.Errorf("an incident that is none: %v", err)
	}
}

// Two admins who do the same at the same moment: one of them is told.
func TestTwoAtOnce(t *testing.T) {
	w := newWorld(t, pgtest.Database(t))
	id := w.start("Slow", noon)
	both := func(do func(by audit.Actor) error) (failed []error) {
		var wait sync.WaitGroup
		var mu sync.Mutex
		for _, by := range []audit.Actor{w.ada, w.bea} {
			wait.Go(func() {
				if err := do(by); err != nil {
					mu.Lock()
					defer mu.Unlock()
					failed = append(failed, err)
				}
			})
		}
		wait.Wait()
		return failed
	}
	for name, do := range map[string]func(by audit.Actor) error{
		"edit": func(by audit.Actor) error {
			return w.Edit(t.Context(), by, id, 1, Draft{Title: "Slow for " + by.Name, Severity: 2, DetectedAt: noon}, noon.Add(time.Minute))
		},
	} {
		if failed := both(do); len(failed) != 1 || fault.KindOf(failed[0]) != fault.Conflict {
			t.Errorf("%s: %v, want one conflict", name, failed)
		}
	}
	if failed := both(func(by audit.Actor) error { return w.Take(t.Context(), by, id, Resolve, noon.Add(2*time.Minute)) }); len(failed) != 1 || fault.KindOf(failed[0]) != fault.Conflict {
		t.Errorf("resolve: %v, want one conflict", failed)
	}
	r := w.report(id, noon.Add(3*time.Minute))
	if failed := both(func(by audit.Actor) error {
		return w.Write(t.Context(), by, id, r.Revision, Texts{Summary: "By " + by.Name}, noon.Add(4*time.Minute))
	}); len(failed) != 1 || fault.KindOf(failed[0]) != fault.Conflict {
		t.Errorf("post-mortem: %v, want one conflict", failed)
	}
	if diff := cmp.Diff([]string{"start", "edit", "resolve", "edit"}, kindsOf(w.report(id, noon.Add(5*time.Minute)))); diff != "" {
		t.Errorf("time line (-want +got):\n%s", diff)
	}
}

func TestNotesKeepWhatTheySaid(t *testing.T) {
	w := newWorld(t, pgtest.Tx(t))
	ctx := t.Context()
	id := w.start("Slow", noon)
	must(t, w.AddNote(ctx, w.ada, id, "first", noon.Add(time.Minute)))
	noteOf := func() Entry {
		for _, e := range w.report(id, noon.Add(time.Hour)).Entries {
			if e.Kind == KindNote {
				return e
			}
		}
		t.Fatal("no note")
		return Entry{}
	}
	n := noteOf()
	wantKind(t, w.EditNote(ctx, w.bea, id, n.ID, 0, "not hers", noon), fault.Forbidden, "Only who wrote")
	wantKind(t, w.DeleteNote(ctx, w.bea, id, n.ID, 0, noon), fault.Forbidden)
	wantKind(t, w.EditNote(ctx, w.ada, w.start("Other", noon), n.ID, 0, "elsewhere", noon), fault.NotFound)
	must(t, w.EditNote(ctx, w.ada, id, n.ID, 0, "second", noon.Add(2*time.Minute)))
	must(t, w.EditNote(ctx, w.ada, id, n.ID, 1, "second", noon.Add(3*time.Minute))) // nothing new
	wantKind(t, w.EditNote(ctx, w.ada, id, n.ID, 0, "third, in an old window", noon), fault.Conflict)
	if n = noteOf(); n.Body != "second" || len(n.History) != 1 || n.History[0].Body != "first" || !n.History[0].Until.Equal(noon.Add(2*time.Minute)) {
		t.Errorf("%+v", n)
	}
	must(t, w.DeleteNote(ctx, w.ada, id, n.ID, 1, noon.Add(4*time.Minute)))
	wantKind(t, w.EditNote(ctx, w.ada, id, n.ID, 1, "too late", noon), fault.Conflict)
	if n = noteOf(); n.DeletedAt == nil || n.Body != "second" {
		t.Errorf("%+v", n)
	}
	if text := PostMortem(w.report(id, noon.Add(time.Hour)), named, noon); strings.Contains(text, "second") || strings.Contains(text, "first") {
		t.Errorf("the post-mortem has a note that was taken back:\n%s", text)
	}
}

// What other tables tell is on the time line as other SQL than ours finds it, and
// stays as it is once the incident is resolved.
func TestTimeLineAndImpactFromRows(t *testing.T) {
	w := newWorld(t, pgtest.Tx(t))
	ctx := t.Context()
	from, to := noon, noon.Add(31*time.Minute)
	ann, ben, team := uuid.New(), uuid.New(), uuid.New()
	for i := range 40 { // two a minute, from before to after
		at := from.Add(time.Duration(i*60-300) * time.Second)
		learner, group := &ann, &team
		if i%2 == 1 {
			learner, group = &ben, nil
		}
		class := map[int]string{0: "rate_limited", 1: "", 2: "timeout", 3: ""}[i%4]
		w.run(at, learner, group, "openai", class, map[bool]string{true: "fallback", false: "user"}[i%3 == 0], map[bool]string{true: "0.0000123", false: ""}[i%5 != 0])
	}
	for i := range 15 { // all at once: over the threshold
		w.run(from.Add(12*time.Minute+time.Duration(i)*time.Second), &ann, nil, "anthropic", "overloaded", "user", "0")
	}
	w.run(from, &ann, nil, "google", "", "fallback", "1.5")
	w.run(to, &ann, nil, "google", "timeout", "fallback", "3") // at the end: no more
	keyID := uuid.New()
	w.exec(`insert into ops.fallback_keys (id, provider, label, ciphertext, fingerprint, last_four) values ($1, 'openai', 'Main', '', 'f', '1234')`, keyID)
	event := func(minutes int, kind, was, is string) {
		w.exec(`insert into ops.key_events (at, key_source, key_id, provider, kind, from_status, to_status, reason) values ($1, 'fallback', $2, 'openai', $3, $4, $5, 'because')`,
			from.Add(time.Duration(minutes)*time.Minute), keyID, kind, was, is)
	}
	event(-1, "attempt", "healthy", "cooling") // before
	event(3, "attempt", "healthy", "cooling")
	event(4, "attempt", "cooling", "cooling")  // no change
	event(5, "operator", "cooling", "healthy") // told by the audit log
	event(32, "probe", "cooling", "invalid")   // after
	act := func(minutes int, action, subject string, details map[string]any) {
		must(t, postgres.InTx(ctx, w.db, func(tx pgx.Tx) error {
			return audit.Add(ctx, tx, audit.Entry{At: from.Add(time.Duration(minutes) * time.Minute), Actor: w.bea, Action: action, SubjectType: "fallback_key", SubjectLabel: subject, Details: details})
		}))
	}
	act(-5, "fallback_key.add", "Old", nil)
	act(5, "fallback_key.enable", "Main", map[string]any{"reason": "tested", "status": audit.Change{From: "cooling", To: "healthy"}})
	act(6, "budgets.set", "", map[string]any{"dailyUsd": audit.Change{From: nil, To: "30"}})
	act(7, "team.create", "Design", nil)
	w.exec(`truncate ops.deploys`)
	for _, start := range []struct {
		minutes int
		version string
	}{{-60, "1.0"}, {8, "1.0"}, {9, "1.1"}, {10, "1.1"}, {40, "1.2"}} {
		w.exec(`insert into ops.nodes (id, host, version, started_at) values (gen_random_uuid(), 'web-1', $1, $2)`, start.version, from.Add(time.Duration(start.minutes)*time.Minute))
	}
	w.exec(`delete from ops.nodes`) // a node's row goes with it

	id := w.start("Slow", from)
	must(t, w.Take(ctx, w.bea, id, Acknowledge, from.Add(time.Minute)))
	r := w.report(id, to)
	var got []string
	for _, e := range r.Entries {
		got = append(got, fmt.Sprint(int(e.At.Sub(from).Minutes()), " ", e.Kind, " ", e.Title, e.Changes))
	}
	want := []string{
		"0 start Started as SEV2[]",
		"1 acknowledge Acknowledged[]",
		"3 key Fallback key “Main”[{status healthy cooling}]",
		"5 action Fallback key “Main” enabled[{status cooling healthy}]",
		"6 action Limits changed[{dailyUsd none 30}]",
		"9 deploy Another version began to run on web-1[{version 1.0 1.1}]",
		"10 errors Errors cross the threshold: 15 of 15 attempts in 5 minutes failed (100%)[]",
		"15 errors Errors are below the threshold again, after 5 min[]",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("time line (-want +got):\n%s", diff)
	}

	var check struct {
		Runs, Failed, Learners, Teams, Unknown int64
		Fallback                               string
		Openai, Anthropic                      string
	}
	must(t, w.db.QueryRow(ctx, `
		with r as (select * from public.prompt_runs where created_at between $1::timestamptz and $2::timestamptz - interval '1 microsecond'),
		     a as (select a.* from public.prompt_attempts a join r on r.id = a.run_id)
		select (select count(*) from r), (select sum((status = 'error')::int) from r),
		       (select count(*) from (select distinct user_id from r where status = 'error') x),
		       (select count(*) from (select distinct team_id from r where status = 'error' and team_id is not null) x),
		       (select count(*) from a where key_source = 'fallback' and cost_usd is null),
		       (select sum(cost_usd)::text from a where key_source = 'fallback'),
		       (select string_agg(error_class || n, ' ' order by n desc, error_class) from (select error_class, count(*) as n from a where provider = 'openai' and status = 'error' group by 1) x),
		       (select count(*)::text from a where provider = 'anthropic' and status = 'error')`, from, to).
		Scan(&check.Runs, &check.Failed, &check.Learners, &check.Teams, &check.Unknown, &check.Fallback, &check.Openai, &check.Anthropic))
	i := r.Impact
	classes := ""
	for _, f := range i.Failures {
		if f.Provider == "openai" {
			for _, c := range f.Classes {
				classes += fmt.Sprint(" ", c.Class, c.Failed)
			}
		}
	}
	if i.Runs != check.Runs || i.Failed != check.Failed || i.Learners != check.Learners || i.Teams != check.Teams || i.Unknown != check.Unknown ||
		i.Fallback.String() != strings.TrimRight(check.Fallback, "0") || strings.TrimSpace(classes) != check.Openai || len(i.Failures) != 2 || i.Duration() != 31*time.Minute {
		t.Errorf("impact %+v (%s), want %+v", i, classes, check)
	}
	if check.Runs == 0 || check.Failed == 0 || check.Unknown == 0 || check.Teams != 1 || check.Learners != 1 {
		t.Errorf("the example proves little: %+v", check)
	}

	// Resolved, it stays as it is, whatever becomes of the rows.
	must(t, w.Take(ctx, w.bea, id, Resolve, to))
	before := w.report(id, to.Add(time.Hour))
	document := PostMortem(before, named, to.Add(time.Hour))
	if diff := cmp.Diff(r.Impact.Failures, before.Impact.Failures); diff != "" || !before.Impact.Fallback.Equal(r.Impact.Fallback) {
		t.Errorf("resolving changed the impact:\n%s", diff)
	}
	w.run(from.Add(20*time.Minute), &ben, nil, "openai", "timeout", "fallback", "5")
	event(20, "probe", "cooling", "invalid")
	act(21, "fallback_key.disable", "Main", nil)
	w.exec(`delete from ops.deploys`)
	w.exec(`update ops.fallback_keys set label = 'Renamed'`)
	if diff := cmp.Diff(document, PostMortem(w.report(id, to.Add(48*time.Hour)), named, to.Add(48*time.Hour))); diff != "" {
		t.Errorf("the post-mortem changed after it was resolved:\n%s", diff)
	}
	must(t, w.Take(ctx, w.ada, id, Reopen, to.Add(2*time.Minute)))
	if after := w.report(id, to.Add(3*time.Minute)); after.Impact.Runs <= before.Impact.Runs || !slices.ContainsFunc(after.Entries, func(e Entry) bool { return e.Title == "Fallback key “Main” disabled" }) {
		t.Errorf("reopened, it does not go on: %+v", after)
	}
}

// When the database has no time for the sums, the page still has what people wrote.
func TestReportWithoutWhatTakesTooLong(t *testing.T) {
	w := newWorld(t, pgtest.Database(t))
	id := w.start("Slow", noon)
	must(t, w.AddNote(t.Context(), w.bea, id, "It hangs", noon.Add(time.Minute)))
	tx, err := w.db.Begin(t.Context())
	must(t, err)
	defer func() { _ = tx.Rollback(context.WithoutCancel(t.Context())) }()
	_, err = tx.Exec(t.Context(), `lock table public.prompt_attempts in access exclusive mode`)
	must(t, err)
	r := w.report(id, noon.Add(time.Hour))
	if diff := cmp.Diff([]string{"start", "note"}, kindsOf(r)); diff != "" || !r.Incomplete {
		t.Errorf("incomplete %v; time line (-want +got):\n%s", r.Incomplete, diff)
	}
	if !strings.Contains(PostMortem(r, named, noon), "could not be computed") {
		t.Error("the post-mortem does not say that numbers are missing")
	}
	must(t, tx.Rollback(t.Context()))
	if r := w.report(id, noon.Add(time.Hour)); r.Incomplete {
		t.Error("it stays incomplete")
	}
}

func TestListMeasuresAndCSV(t *testing.T) {
	w := newWorld(t, pgtest.Tx(t))
	ctx := t.Context()
	day := func(n int) time.Time { return noon.AddDate(0, 0, n-10) }
	var ids []int64
	for n := range 5 {
		id, err := w.Start(ctx, w.ada, Draft{Title: fmt.Sprintf("=%d", n), Severity: Severity(n%3 + 1)}, Origin{}, day(n))
		must(t, err)
		ids = append(ids, id)
		if n > 0 {
			must(t, w.Take(ctx, w.bea, id, Acknowledge, day(n).Add(time.Duration(n)*time.Minute)))
		}
		if n > 2 {
			must(t, w.Take(ctx, w.bea, id, Resolve, day(n).Add(time.Duration(n)*time.Hour)))
		}
	}
	must(t, w.AddFollowUp(ctx, w.ada, ids[1], Task{Body: "later"}, noon))
	must(t, w.AddFollowUp(ctx, w.ada, ids[4], Task{Body: "sooner", DueOn: "2026-11-20"}, noon))
	toDo, total, err := w.OpenFollowUps(ctx, 1)
	must(t, err)
	if total != 2 || len(toDo) != 1 || toDo[0].Body != "sooner" || !toDo[0].Late(noon) || toDo[0].IncidentTitle != "=4" {
		t.Errorf("left to do: %d, %+v", total, toDo)
	}
	must(t, w.DoFollowUp(ctx, w.bea, ids[4], toDo[0].ID, 1, Done, noon))
	wantKind(t, w.DoFollowUp(ctx, w.bea, ids[4], toDo[0].ID, 1, Undone, noon), fault.Conflict, "somebody else")
	must(t, w.DoFollowUp(ctx, w.bea, ids[4], toDo[0].ID, 2, Undone, noon))
	wantKind(t, w.EditFollowUp(ctx, w.bea, ids[4], toDo[0].ID, 3, Task{Body: " ", DueOn: "x"}, noon), fault.Invalid, "task", "dueOn")
	wantKind(t, w.EditFollowUp(ctx, w.bea, ids[4], toDo[0].ID, 2, Task{Body: "sooner"}, noon), fault.Conflict)
	wantKind(t, w.DoFollowUp(ctx, w.bea, ids[3], toDo[0].ID, 3, Done, noon), fault.Conflict, "gone")            // another incident's
	must(t, w.EditFollowUp(ctx, w.bea, ids[4], toDo[0].ID, 3, Task{Body: "sooner", DueOn: "2026-11-20"}, noon)) // nothing new
	must(t, w.EditFollowUp(ctx, w.bea, ids[4], toDo[0].ID, 3, Task{Body: "at once", OwnerID: w.bea.OperatorID}, noon))
	if f := w.report(ids[4], noon).FollowUps[0]; f.Body != "at once" || f.OwnerName != "bea@example.org" || f.DueOn != nil || f.Revision != 4 {
		t.Errorf("changed: %+v", f)
	}
	must(t, w.DoFollowUp(ctx, w.bea, ids[4], toDo[0].ID, 4, Remove, noon))
	wantKind(t, w.DoFollowUp(ctx, w.bea, ids[4], toDo[0].ID, 3, Done, noon), fault.Conflict, "gone")

	listed := func(f Filter) []int64 {
		list, err := w.List(ctx, f, 10)
		must(t, err)
		var found []int64
		for _, i := range list {
			found = append(found, i.ID)
		}
		return found
	}
	for _, test := range []struct {
		filter Filter
		want   []int64
	}{
		{Filter{}, []int64{ids[4], ids[3], ids[2], ids[1], ids[0]}},
		{Filter{Before: ids[2]}, []int64{ids[1], ids[0]}},
		{Filter{Status: Unresolved}, []int64{ids[2], ids[1], ids[0]}},
		{Filter{Status: "resolved", Severity: 1}, []int64{ids[3]}},
		{Filter{From: day(1), To: day(3)}, []int64{ids[2], ids[1]}},
	} {
		if diff := cmp.Diff(test.want, listed(test.filter)); diff != "" {
			t.Errorf("%+v (-want +got):\n%s", test.filter, diff)
		}
	}
	m, err := w.Measure(ctx, Filter{})
	must(t, err)
	// Acknowledged after 1, 2, 3, 4 minutes, resolved after 3 and 4 hours.
	if m.Incidents != 5 || m.Acknowledged != 4 || m.Resolved != 2 || *m.MedianToResolve != 210*time.Minute || *m.MeanToResolve != 210*time.Minute ||
		*m.MedianToAcknowledge != 150*time.Second || *m.MeanToAcknowledge != 150*time.Second {
		t.Errorf("%+v", m)
	}
	none, err := w.Measure(ctx, Filter{Severity: 1, Status: "mitigated"})
	must(t, err)
	if none.Incidents != 0 || none.MeanToAcknowledge != nil || none.MedianToResolve != nil {
		t.Errorf("of none: %+v", none)
	}

	var file strings.Builder
	must(t, w.WriteCSV(ctx, &file, Filter{Status: "resolved"}))
	lines, err := csv.NewReader(strings.NewReader(file.String())).ReadAll()
	must(t, err)
	if len(lines) != 3 || lines[1][1] != "'=4" || lines[1][2] != "SEV2" || lines[1][9] != "240" || lines[1][10] != "14400" || !strings.Contains(file.String(), "\r\n") {
		t.Errorf("%q", lines)
	}
}

func TestBoardTellsOfWhatGoesOn(t *testing.T) {
	w := newWorld(t, pgtest.Database(t))
	if shown := w.Shown(t.Context(), noon); len(shown) != 0 {
		t.Errorf("nothing happened, and yet %v", shown)
	}
	id := w.start("Slow", noon)
	if shown := w.Shown(t.Context(), noon); len(shown) != 1 || shown[0].ID != id {
		t.Errorf("at once: %+v", shown)
	}
	w.exec(`update ops.incidents set title = 'By another node'`)
	if shown := w.Shown(t.Context(), noon.Add(time.Second)); shown[0].Title != "Slow" {
		t.Errorf("it is asked for again: %+v", shown)
	}
	if shown := w.Shown(t.Context(), noon.Add(boardFor)); shown[0].Title != "By another node" {
		t.Errorf("it is never asked for again: %+v", shown)
	}
	must(t, w.Take(t.Context(), w.bea, id, Resolve, noon.Add(time.Minute)))
	if shown := w.Shown(t.Context(), noon.Add(boardFor)); len(shown) != 0 {
		t.Errorf("it is resolved: %+v", shown)
	}
	gone, cancel := context.WithCancel(t.Context())
	cancel()
	w.start("While somebody leaves", noon)
	if shown := w.Shown(gone, noon); len(shown) != 1 {
		t.Errorf("whoever leaves takes it from the others: %+v", shown)
	}
}
