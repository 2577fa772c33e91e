package outreach

import (
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"

	"github.com/promptcademy/promptops/internal/audit"
	"github.com/promptcademy/promptops/internal/fault"
	"github.com/promptcademy/promptops/internal/postgres"
	"github.com/promptcademy/promptops/internal/postgres/pgtest"
)

var marta = audit.Operator(uuid.MustParse("00000000-0000-4000-8000-0000000000aa"), "marta@example.org")

// people makes learners without keys.
func people(t testing.TB, db postgres.DB, n int) (ids []uuid.UUID) {
	t.Helper()
	for i := range n {
		id := uuid.New()
		exec(t, db, `insert into auth.users (id, email, raw_user_meta_data) values ($1, $2, jsonb_build_object('name', $3::text))`, id, fmt.Sprintf("p%d@example.org", i), fmt.Sprintf("P %d", i))
		ids = append(ids, id)
	}
	return ids
}

func giveKey(t testing.TB, db postgres.DB, learner uuid.UUID, status string) {
	t.Helper()
	exec(t, db, `insert into public.user_api_keys (user_id, provider, ciphertext, fingerprint, last_four, status) values ($1, 'openai', 'sealed', $2, '1234', $3)`,
		learner, uuid.NewString(), status)
}

func nudgeOf(ids ...uuid.UUID) Nudge {
	return Nudge{Channel: Email, Learners: ids, Template: defaults[Email], Provider: func(id string) string { return id }, By: marta}
}

// Two operators press at once, on several nodes: everybody gets one message.
func TestNudgersAtOnce(t *testing.T) {
	db := pgtest.Database(t)
	ids := people(t, db, 20)
	var wait sync.WaitGroup
	sent := make([]int, 8)
	for i := range sent {
		wait.Go(func() {
			chosen := append([]uuid.UUID{}, ids[i%5:]...) // overlapping, in another order
			if i%2 == 0 {
				for a, b := 0, len(chosen)-1; a < b; a, b = a+1, b-1 {
					chosen[a], chosen[b] = chosen[b], chosen[a]
				}
			}
			n := nudgeOf(chosen...)
			if i%3 == 0 {
				n.Channel, n.Template = Slack, defaults[Slack]
			}
			recipients, err := newStore(db).Nudge(t.Context(), Scope{}, n, noon)
			if err != nil {
				t.Error(err)
			}
			for _, r := range recipients {
				if r.Skipped == "" {
					sent[i]++
				}
			}
		})
	}
	wait.Wait()
	all := 0
	for _, n := range sent {
		all += n
	}
	if all != 20 {
		t.Errorf("%d nudges of 20 learners", all)
	}
	for sql, want := range map[string]int{
		`select count(*)::int from ops.nudges where skipped = ''`:                                                                            20,
		`select count(distinct learner_id)::int from ops.nudges where skipped = ''`:                                                          20,
		`select count(*)::int from ops.outreach_events where kind = 'nudged'`:                                                                20,
		`select count(*)::int from ops.audit_log where action = 'outreach.nudge'`:                                                            20,
		`select count(*)::int from ops.outreach where state = 'contacted' and nudged_at is not null`:                                         20,
		`select count(*)::int from ops.nudges n where skipped = '' and not exists (select from ops.deliveries d where d.id = n.delivery_id)`: 0,
	} {
		if got := one[int](t, db, sql); got != want {
			t.Errorf("%s: %d, want %d", sql, got, want)
		}
	}
	if _, broken, err := audit.NewStore(db).Verify(t.Context()); broken != 0 || err != nil {
		t.Errorf("the audit log is broken at %d, %v", broken, err)
	}
}

func TestNudgeSkips(t *testing.T) {
	db := pgtest.Tx(t)
	s := newStore(db)
	ids := people(t, db, 5)
	giveKey(t, db, ids[0], "healthy")
	exec(t, db, `update auth.users set email = null where id = $1`, ids[1])
	nudge := func(at time.Time, ids ...uuid.UUID) map[uuid.UUID]string {
		t.Helper()
		prepared, err := s.Prepare(t.Context(), Scope{}, nudgeOf(ids...), at)
		if err != nil {
			t.Fatal(err)
		}
		sent, err := s.Nudge(t.Context(), Scope{}, nudgeOf(ids...), at)
		if err != nil {
			t.Fatal(err)
		}
		skipped := map[uuid.UUID]string{}
		for i, r := range sent {
			skipped[r.ID] = r.Skipped
			if prepared[i].ID != r.ID || prepared[i].Skipped != r.Skipped {
				t.Errorf("%s was to be %q and is %q", r.Called(), prepared[i].Skipped, r.Skipped)
			}
		}
		return skipped
	}
	first := nudge(noon, ids[:4]...)
	if diff := cmp.Diff(map[uuid.UUID]string{ids[0]: skippedHasKey, ids[1]: skippedAddress, ids[2]: "", ids[3]: ""}, first); diff != "" {
		t.Error(diff)
	}
	// One of the two did not arrive: that does not count.
	exec(t, db, `update ops.deliveries set state = 'failed', reason = 'No such mailbox.' where id = (select delivery_id from ops.nudges where learner_id = $1)`, ids[3])
	late := "was nudged on 24 November 2026, less than 14 days ago"
	if diff := cmp.Diff(map[uuid.UUID]string{ids[2]: late, ids[3]: "", ids[4]: ""}, nudge(noon.Add(14*24*time.Hour-time.Second), ids[2:]...)); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff(map[uuid.UUID]string{ids[2]: ""}, nudge(noon.Add(14*24*time.Hour), ids[2])); diff != "" {
		t.Error(diff)
	}
	if subject := one[string](t, db, `select string_agg(distinct subject || recipient, ',' order by subject || recipient) from ops.deliveries where purpose = 'nudge'`); !strings.Contains(subject, "Your own key for Promptcademyp2@example.org") {
		t.Error(subject)
	}
	list, err := s.Nudges(t.Context(), ids[3], 10)
	if err != nil || len(list) != 2 || list[1].State != "failed" || list[1].StateReason != "No such mailbox." || list[0].State != "queued" {
		t.Errorf("%+v, %v", list, err)
	}
}

func TestActions(t *testing.T) {
	db := pgtest.Tx(t)
	s := newStore(db)
	ids := people(t, db, 3)
	giveKey(t, db, ids[2], "healthy")
	learner := func(id uuid.UUID) Learner {
		t.Helper()
		found, err := s.Find(t.Context(), Scope{}, []uuid.UUID{id}, noon)
		if err != nil {
			t.Fatal(err)
		}
		return found[id]
	}
	do := func(verb Verb, note string, ids ...uuid.UUID) Outcome {
		t.Helper()
		a := Action{Verb: verb, Note: note, By: marta, Until: noon.AddDate(0, 0, 7)}
		for _, id := range ids {
			a.Learners = append(a.Learners, Chosen{id, learner(id).Revision})
		}
		outcome, err := s.Act(t.Context(), Scope{}, a, noon)
		if err != nil {
			t.Fatal(err)
		}
		return outcome
	}
	outcome := do(MarkContacted, " called <b> ", ids...)
	if diff := cmp.Diff(Outcome{Done: 2, Refused: []Refusal{{"P 2", RefusedHasKey}}}, outcome); diff != "" {
		t.Error(diff)
	}
	do(Snooze, "", ids[0])
	if l := learner(ids[0]); l.State != Snoozed || l.Until == nil || !l.Until.Equal(noon.AddDate(0, 0, 7)) {
		t.Errorf("%+v", l)
	}
	do(Undo, "", ids[0])
	if l := learner(ids[0]); l.State != Contacted || l.Until != nil {
		t.Errorf("%+v", l)
	}
	if outcome := do(Undo, "", ids[0]); outcome.Done != 0 || outcome.Refused[0].Why != RefusedNothing {
		t.Errorf("%+v", outcome)
	}
	do(Reopen, "", ids[1])
	if l := learner(ids[1]); l.State != Reopened {
		t.Errorf("%+v", l)
	}
	// Somebody else was first.
	stale, err := s.Act(t.Context(), Scope{}, Action{Verb: MarkContacted, Learners: []Chosen{{ids[1], 1}}, By: marta}, noon)
	if err != nil || stale.Done != 0 || len(stale.Refused) != 1 || stale.Refused[0].Why != RefusedMeanwhile {
		t.Errorf("%+v, %v", stale, err)
	}
	history, err := s.History(t.Context(), ids[0], 10)
	if err != nil {
		t.Fatal(err)
	}
	var kinds []string
	for _, e := range history {
		kinds = append(kinds, e.Kind+" "+e.FromState+" "+e.ToState+" "+e.Note)
	}
	if diff := cmp.Diff([]string{"undone snoozed contacted ", "snoozed contacted snoozed ", "contacted new contacted called <b>"}, kinds); diff != "" {
		t.Error(diff)
	}
	if n := one[int](t, db, `select count(*)::int from ops.audit_log where action like 'outreach.%' and subject_type = 'learner' and operator_id is not null`); n != 5 {
		t.Errorf("%d audit entries, want 5", n)
	}
	for name, a := range map[string]Action{
		"learner": {Verb: Reopen}, "action": {Verb: "delete", Learners: []Chosen{{ids[0], 0}}},
		"until": {Verb: Snooze, Learners: []Chosen{{ids[0], 0}}, Until: noon}, "note": {Verb: Reopen, Learners: []Chosen{{ids[0], 0}}, Note: "\x00"},
	} {
		a.By = marta
		_, err := s.Act(t.Context(), Scope{}, a, noon)
		if f, ok := errors.AsType[*fault.Error](err); !ok || f.Kind != fault.Invalid || f.Details[0].Field != name {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := s.Act(t.Context(), Scope{}, Action{Verb: Reopen, Learners: []Chosen{{uuid.New(), 0}}, By: marta}, noon); fault.KindOf(err) != fault.NotFound {
		t.Error(err)
	}
}

// A lead reads through row-level security: nobody and nothing of other teams is in
// any answer.
func TestLeadsSeeTheirTeamsOnly(t *testing.T) {
	db := pgtest.Tx(t)
	s := newStore(db)
	ids := people(t, db, 6) // 0 leads red with 1, 2; 3 leads blue with 4, and is in red; 5 is in no team
	red, blue := uuid.New(), uuid.New()
	exec(t, db, `insert into public.teams (id, name) values ($1, 'red'), ($2, 'blue')`, red, blue)
	exec(t, db, `insert into public.team_members (team_id, user_id, role) values ($1, $3, 'lead'), ($1, $4, 'member'), ($1, $5, 'member'), ($1, $6, 'member'), ($2, $6, 'lead'), ($2, $7, 'member')`,
		red, blue, ids[0], ids[1], ids[2], ids[3], ids[4])
	exec(t, db, `select ops.ensure_partitions('2026-11-01', '2026-11-01')`)
	attempt := func(learner uuid.UUID, team *uuid.UUID, cost string) {
		run := timed(uuid.New(), noon.Add(-time.Hour))
		exec(t, db, `insert into public.prompt_runs (id, created_at, user_id, team_id, models) values ($1, $2, $3, $4, '{}')`, run, noon.Add(-time.Hour), learner, team)
		exec(t, db, `insert into public.prompt_attempts (run_id, ordinal, created_at, user_id, team_id, provider, model, status, key_source, fallback_key_id, cost_usd)
			values ($1, 0, $2, $3, $4, 'openai', 'm', 'ok', 'fallback', $1, $5::text::numeric)`, run, noon.Add(-time.Hour), learner, team, cost)
	}
	attempt(ids[1], &red, "0.1")
	attempt(ids[1], &blue, "100")
	attempt(ids[1], nil, "1000")
	attempt(ids[4], &blue, "7")
	giveKey(t, db, ids[2], "healthy")
	giveKey(t, db, ids[4], "invalid")

	lead := Scope{As: &ids[0], Teams: []uuid.UUID{red}}
	r := report(t, s, lead, Query{Show: ShowAll, AllTeams: true}, noon)
	if f := r.Figures; f.Learners != 4 || f.With != 1 || f.Active != 1 || f.Broken != 0 || f.Cost.String() != "0.1" {
		t.Errorf("%+v", f)
	}
	if len(r.Teams) != 1 || r.Teams[0].Name != "red" || r.Teams[0].Members != 4 {
		t.Errorf("%+v", r.Teams)
	}
	for _, l := range r.Learners {
		if l.ID == ids[4] || l.ID == ids[5] || len(l.Teams) != 1 || l.Teams[0] != "red" {
			t.Errorf("%+v is seen", l)
		}
	}
	for _, stranger := range []uuid.UUID{ids[4], ids[5], uuid.New()} {
		chosen := []uuid.UUID{ids[1], stranger}
		if _, err := s.Find(t.Context(), lead, chosen, noon); fault.KindOf(err) != fault.NotFound {
			t.Errorf("Find: %v", err)
		}
		if _, err := s.Prepare(t.Context(), lead, nudgeOf(chosen...), noon); fault.KindOf(err) != fault.NotFound {
			t.Errorf("Prepare: %v", err)
		}
		if _, err := s.Nudge(t.Context(), lead, nudgeOf(chosen...), noon); fault.KindOf(err) != fault.NotFound {
			t.Errorf("Nudge: %v", err)
		}
		if _, err := s.Act(t.Context(), lead, Action{Verb: MarkContacted, Learners: []Chosen{{ids[1], 0}, {stranger, 0}}, By: marta}, noon); fault.KindOf(err) != fault.NotFound {
			t.Errorf("Act: %v", err)
		}
	}
	if n := one[int](t, db, `select (select count(*) from ops.outreach)::int + (select count(*) from ops.nudges)::int + (select count(*) from ops.audit_log)::int`); n != 0 {
		t.Error("something was done although one of them is a stranger")
	}
	// Even with the wrong teams in hand, row-level security shows nothing of them:
	// not their members, and so nobody.
	for _, wrong := range []Scope{{As: &ids[0], Teams: []uuid.UUID{blue}}, {As: &ids[0]}, {As: &ids[5], Teams: []uuid.UUID{red, blue}}} {
		r := report(t, s, wrong, Query{Show: ShowAll, AllTeams: true}, noon)
		if r.Figures.Learners != 0 || len(r.Learners) != 0 || len(r.Teams) != 0 || len(r.Next) != 0 || len(r.Providers) != 0 {
			t.Errorf("%+v shows %+v", wrong, r)
		}
	}
	// A member who does not lead sees who is in the team, as on the platform, and
	// nothing else.
	r = report(t, s, Scope{As: &ids[1], Teams: []uuid.UUID{red}}, Query{Show: ShowAll}, noon)
	if r.Figures.With != 0 {
		t.Errorf("%+v", r.Figures)
	}
}
