package account

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"

	"github.com/promptcademy/promptops/internal/audit"
	"github.com/promptcademy/promptops/internal/fault"
	"github.com/promptcademy/promptops/internal/postgres"
	"github.com/promptcademy/promptops/internal/postgres/pgtest"
)

// auditLog is every entry as "actor action subject details", oldest first.
func auditLog(t *testing.T, db postgres.DB) (all []string) {
	t.Helper()
	entries, err := audit.NewStore(db).List(t.Context(), audit.Filter{}, 1000)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range slices.Backward(entries) {
		all = append(all, fmt.Sprint(e.Actor.Name, " ", e.Action, " ", e.SubjectLabel, " ", e.Details))
	}
	if n, broken, err := audit.NewStore(db).Verify(t.Context()); err != nil || broken != 0 || n != len(all) {
		t.Errorf("the log of %d entries is broken at %d: %v", n, broken, err)
	}
	return all
}

func TestEdit(t *testing.T) {
	ctx, tx := t.Context(), pgtest.Tx(t)
	s, _ := newStore(tx)
	ada := makeAdmin(t, s, "ada@example.org")
	bob, err := s.Create(ctx, audit.CommandLine, NewOperator{Email: "bob@example.org", Role: RoleTeamLead, LearnerID: &someLearner}, noon)
	if err != nil {
		t.Fatal(err)
	}
	by := audit.Operator(ada.ID, ada.Email)
	edit := func(seen Operator, n NewOperator) (Operator, error) { return s.Edit(ctx, by, seen, n, noon) }

	promoted, err := edit(bob, NewOperator{Name: "Bob", Role: RoleAdmin, Timezone: "Europe/Berlin", LearnerID: &someLearner, Email: "ignored@example.org", Password: "ignored"})
	if err != nil {
		t.Fatal(err)
	}
	want := bob
	want.Name, want.Role, want.Timezone = "Bob", RoleAdmin, "Europe/Berlin"
	if diff := cmp.Diff(want, promoted); diff != "" {
		t.Errorf("edited (-want +got):\n%s", diff)
	}
	if got, _ := s.Find(ctx, bob.ID); got != promoted && cmp.Diff(got, promoted) != "" {
		t.Errorf("stored is %+v", got)
	}
	_, err = edit(bob, NewOperator{Role: RoleAdmin}) // from a page of before
	wantKind(t, err, fault.Conflict)
	if _, err := edit(promoted, NewOperator{Name: "Bob", Role: RoleAdmin, Timezone: "Europe/Berlin", LearnerID: &someLearner}); err != nil {
		t.Error(err) // changes nothing, and says nothing
	}
	if _, err := edit(ada, NewOperator{Role: RoleTeamLead, LearnerID: &someLearner}); err != nil {
		t.Error(err) // there is another admin
	}
	_, err = edit(promoted, NewOperator{Role: RoleTeamLead, LearnerID: &someLearner})
	wantKind(t, err, fault.Conflict) // there is none any more
	_, err = edit(promoted, NewOperator{Role: RoleTeamLead})
	wantKind(t, err, fault.Invalid)
	_, err = edit(Operator{ID: uuid.New(), Email: "x@example.org"}, NewOperator{Role: RoleAdmin})
	wantKind(t, err, fault.NotFound)
	wantKind(t, s.Disable(ctx, audit.Operator(bob.ID, bob.Email), bob.ID, noon), fault.Conflict) // themselves

	learner := someLearner.String()
	if diff := cmp.Diff([]string{
		"command line operator.create ada@example.org map[learnerId:<nil> name: role:admin timezone:]",
		"command line operator.create bob@example.org map[learnerId:" + learner + " name: role:team_lead timezone:]",
		"ada@example.org operator.edit bob@example.org map[name:map[from: to:Bob] role:map[from:team_lead to:admin] timezone:map[from: to:Europe/Berlin]]",
		"ada@example.org operator.edit ada@example.org map[learnerId:map[from:<nil> to:" + learner + "] role:map[from:admin to:team_lead]]",
	}, auditLog(t, tx)); diff != "" {
		t.Errorf("audit log (-want +got):\n%s", diff)
	}
}

// Who signs in, is invited, put out and let in again is in the audit log, and no
// secret with it.
func TestWhatHappensToOperatorsIsAudited(t *testing.T) {
	ctx := t.Context()
	sessions, s, tx := newSessions(t)
	ada, bob := makeAdmin(t, s, "ada@example.org"), makeAdmin(t, s, "bob@example.org")
	by := audit.Operator(ada.ID, ada.Email)
	token, err := s.CreateLink(ctx, by, bob.ID, time.Hour, noon)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.RedeemLink(ctx, token, noon); err != nil {
		t.Fatal(err)
	}
	if _, err := s.SignIn(ctx, "bob@example.org", goodPassword, "192.0.2.7", noon); err != nil {
		t.Fatal(err)
	}
	new(browser).start(t, sessions, bob, noon)
	new(browser).start(t, sessions, bob, noon)
	if n, err := s.EndSessions(ctx, by, bob.ID, noon); err != nil || n != 2 {
		t.Errorf("ended %d, %v", n, err)
	}
	if n, err := s.EndSessions(ctx, by, bob.ID, noon); err != nil || n != 0 {
		t.Errorf("ended %d, %v", n, err)
	}
	_, err = s.EndSessions(ctx, by, uuid.New(), noon)
	wantKind(t, err, fault.NotFound)
	for range 2 {
		if err := s.Disable(ctx, by, bob.ID, noon); err != nil {
			t.Fatal(err)
		}
	}
	for range 2 {
		if err := s.Enable(ctx, by, bob.ID, noon); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.SetPassword(ctx, audit.Operator(bob.ID, bob.Email), bob.ID, goodPassword+"?", noon); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{
		"ada@example.org operator.create_link bob@example.org map[expiresAt:2026-03-14T13:00:00Z]",
		"bob@example.org operator.sign_in bob@example.org map[via:link]",
		"bob@example.org operator.sign_in bob@example.org map[ip:192.0.2.7 via:password]",
		"ada@example.org operator.end_sessions bob@example.org map[sessionsEnded:2]",
		"ada@example.org operator.disable bob@example.org map[sessionsEnded:0]",
		"ada@example.org operator.enable bob@example.org map[]",
		"bob@example.org operator.set_password bob@example.org map[]",
	}, auditLog(t, tx)[2:]); diff != "" {
		t.Errorf("audit log (-want +got):\n%s", diff)
	}
}

func TestANewLinkReplacesTheOld(t *testing.T) {
	ctx, tx := t.Context(), pgtest.Tx(t)
	s, _ := newStore(tx)
	ada, bob := makeAdmin(t, s, "ada@example.org"), makeAdmin(t, s, "bob@example.org")
	var tokens []string
	for _, id := range []uuid.UUID{ada.ID, bob.ID, bob.ID} {
		token, err := s.CreateLink(ctx, audit.CommandLine, id, time.Hour, noon)
		if err != nil {
			t.Fatal(err)
		}
		tokens = append(tokens, token)
	}
	_, err := s.RedeemLink(ctx, tokens[1], noon)
	wantKind(t, err, fault.NotFound)
	for _, token := range []string{tokens[0], tokens[2]} {
		if _, err := s.RedeemLink(ctx, token, noon); err != nil {
			t.Error(err)
		}
	}
}

func TestListed(t *testing.T) {
	ctx := t.Context()
	sessions, s, tx := newSessions(t)
	_, err := tx.Exec(ctx, `
		insert into auth.users (id, email) values ($1, 'ann@learn.example.org');
		`, someLearner)
	if err != nil {
		t.Fatal(err)
	}
	_, err = tx.Exec(ctx, `
		with made as (insert into public.teams (name) values ('beta'), ('Alpha'), ('Gamma') returning id, name)
		insert into public.team_members (team_id, user_id, role)
		select id, $1, case name when 'Gamma' then 'member' else 'lead' end from made`, someLearner)
	if err != nil {
		t.Fatal(err)
	}
	nobody := uuid.New()
	ann, err := s.Create(ctx, audit.CommandLine, NewOperator{Email: "ann@example.org", Role: RoleTeamLead, LearnerID: &someLearner}, noon)
	if err != nil {
		t.Fatal(err)
	}
	gone, err := s.Create(ctx, audit.CommandLine, NewOperator{Email: "zoe@example.org", Role: RoleTeamLead, LearnerID: &nobody}, noon)
	if err != nil {
		t.Fatal(err)
	}
	root := makeAdmin(t, s, "root@example.org")
	new(browser).start(t, sessions, ann, noon)
	new(browser).start(t, sessions, ann, noon.Add(-SessionIdle))
	new(browser).start(t, sessions, ann, noon.Add(-SessionMax))
	if _, err := s.CreateLink(ctx, audit.CommandLine, root.ID, time.Hour, noon); err != nil {
		t.Fatal(err)
	}
	list := func() []Listed {
		t.Helper()
		all, err := s.List(ctx, noon)
		if err != nil {
			t.Fatal(err)
		}
		for _, o := range all {
			if one, err := s.FindListed(ctx, o.ID, noon); err != nil || cmp.Diff(o, one) != "" {
				t.Errorf("FindListed: %v, %s", err, cmp.Diff(o, one))
			}
		}
		return all
	}
	want := []Listed{
		{Operator: ann, LearnerEmail: "ann@learn.example.org", Leads: []string{"Alpha", "beta"}, Sessions: 1},
		{Operator: root, Leads: []string{}, LinkUntil: ptr(noon.Add(time.Hour))},
		{Operator: gone, Leads: []string{}, LearnerClosed: true},
	}
	if diff := cmp.Diff(want, list()); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
	for _, closed := range []string{`banned_until = 'infinity'`, `deleted_at = now(), banned_until = null`} {
		if _, err := tx.Exec(ctx, `update auth.users set `+closed+` where id = $1`, someLearner); err != nil {
			t.Fatal(err)
		}
		if got := list()[0]; !got.LearnerClosed || len(got.Leads) != 0 {
			t.Errorf("%s: %+v", closed, got)
		}
	}
	_, err = s.FindListed(ctx, uuid.New(), noon)
	wantKind(t, err, fault.NotFound)
}

// Two admins demote each other at the same moment: one stays.
func TestEditKeepsAnAdmin(t *testing.T) {
	pool := pgtest.Database(t)
	s, _ := newStore(pool)
	ada, bob := makeAdmin(t, s, "ada@example.org"), makeAdmin(t, s, "bob@example.org")
	errs := make(chan error)
	for _, seen := range []Operator{ada, bob} {
		go func() {
			_, err := s.Edit(t.Context(), audit.CommandLine, seen, NewOperator{Role: RoleTeamLead, LearnerID: &someLearner}, noon)
			errs <- err
		}()
	}
	one, other := <-errs, <-errs
	if (one == nil) == (other == nil) {
		t.Errorf("exactly one may succeed: %v, %v", one, other)
	}
}

func TestOwnSessions(t *testing.T) {
	s, store, tx := newSessions(t)
	ada, bob := makeAdmin(t, store, "ada@example.org"), makeAdmin(t, store, "bob@example.org")
	var here, there, third, bobs browser
	here.start(t, s, ada, noon.Add(-time.Hour))
	there.start(t, s, ada, noon)
	third.start(t, s, ada, noon)
	bobs.start(t, s, bob, noon)
	new(browser).start(t, s, ada, noon.Add(-SessionMax))

	list := func(b *browser, operator Operator) []OpenSession {
		t.Helper()
		open, err := s.List(b.request(), operator.ID, noon)
		if err != nil {
			t.Fatal(err)
		}
		return open
	}
	open := list(&here, ada)
	if len(open) != 3 || !open[0].Current || open[1].Current || open[2].Current || !open[0].CreatedAt.Equal(noon.Add(-time.Hour)) || open[0].IP == "" {
		t.Fatalf("sessions %+v", open)
	}
	theirs := list(&bobs, bob)[0].ID
	for _, id := range []string{theirs, "", "%", "x"} {
		wantKind(t, s.EndOne(t.Context(), ada, id, noon), fault.NotFound)
	}
	if err := s.EndOne(t.Context(), ada, open[1].ID, noon); err != nil {
		t.Fatal(err)
	}
	if left := list(&here, ada); len(left) != 2 {
		t.Errorf("left are %+v", left)
	}
	if n, err := s.EndOthers(here.request(), ada, noon); err != nil || n < 1 {
		t.Errorf("ended %d, %v", n, err)
	}
	if left := list(&here, ada); len(left) != 1 || !left[0].Current {
		t.Errorf("left are %+v", left)
	}
	if _, err := s.Operator(here.request(), noon); err != nil {
		t.Error(err)
	}
	if _, err := s.Operator(bobs.request(), noon); err != nil {
		t.Error(err)
	}
	for _, b := range []*browser{&there, &third} {
		_, err := s.Operator(b.request(), noon)
		wantKind(t, err, fault.Unauthenticated)
	}
	if log := auditLog(t, tx); len(log) != 4 {
		t.Errorf("audit log %q", log)
	}
}
