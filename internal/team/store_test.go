package team

import (
	"context"
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

var (
	noon = time.Date(2026, 11, 25, 12, 0, 0, 0, time.UTC)
	ada  = audit.Operator(uuid.MustParse("0a1b2c3d-0000-4000-8000-000000000001"), "ada@example.org")
)

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func wantKind(t *testing.T, err error, kind fault.Kind, words ...string) {
	t.Helper()
	if err == nil || fault.KindOf(err) != kind {
		t.Fatalf("error is %v, want one of kind %s", err, kind)
	}
	for _, word := range words {
		if f, _ := errors.AsType[*fault.Error](err); !strings.Contains(fmt.Sprint(f.Message, f.Details), word) {
			t.Errorf("%v does not say %q", err, word)
		}
	}
}

func learner(t *testing.T, db postgres.DB, email string) uuid.UUID {
	t.Helper()
	id := uuid.New()
	_, err := db.Exec(t.Context(), `insert into auth.users (id, email) values ($1, nullif($2, ''))`, id, email)
	must(t, err)
	return id
}

// actions are those of the audit log, oldest first.
func actions(t *testing.T, db postgres.DB) (all []string) {
	t.Helper()
	entries, err := audit.NewStore(db).List(t.Context(), audit.Filter{}, 1000)
	must(t, err)
	for _, e := range slices.Backward(entries) {
		if e.Actor.Name != ada.Name || e.SubjectType != "team" || !e.At.Equal(noon) {
			t.Errorf("entry %+v", e)
		}
		all = append(all, fmt.Sprint(e.Action, " ", e.SubjectLabel, " ", e.Details))
	}
	return all
}

func TestLifeOfATeam(t *testing.T) {
	ctx, tx := t.Context(), pgtest.Tx(t)
	s := NewStore(tx)
	bob, eve := learner(t, tx, "Bob@example.org"), learner(t, tx, "eve@example.org")
	nameless := learner(t, tx, "")

	id, err := s.Create(ctx, ada, "  Design \t team ", noon)
	must(t, err)
	_, err = s.Add(ctx, ada, id, " bob@EXAMPLE.org ", Member, noon)
	must(t, err)
	_, err = s.Add(ctx, ada, id, "eve@example.org", Lead, noon)
	must(t, err)
	_, err = tx.Exec(ctx, `insert into public.team_members (team_id, user_id, role) values ($1, $2, 'lead')`, id, nameless)
	must(t, err)
	for range 2 { // saying so twice is saying so
		_, err = s.SetRole(ctx, ada, id, bob, Lead, noon)
		must(t, err)
		must(t, s.SharePrompts(ctx, ada, id, true, noon))
		must(t, s.Rename(ctx, ada, id, "Design team", "Design", noon))
	}
	_, err = tx.Exec(ctx, `update auth.users set banned_until = 'infinity' where id = $1`, eve)
	must(t, err)
	_, err = tx.Exec(ctx, `insert into ops.operators (email, role, learner_id) values ('bob@example.org', 'team_lead', $1)`, bob)
	must(t, err)

	got, err := s.Find(ctx, id, "", noon)
	must(t, err)
	want := Team{
		Summary: Summary{ID: id, Name: "Design", SharePrompts: true, CreatedAt: noon, Members: 3, Leads: []string{"Bob@example.org", "eve@example.org", "no address"}},
		People: []Person{
			{ID: bob, Email: "Bob@example.org", Role: Lead, JoinedAt: noon, Operator: true},
			{ID: eve, Email: "eve@example.org", Role: Lead, JoinedAt: noon, Closed: true},
			{ID: nameless, Role: Lead, JoinedAt: got.People[2].JoinedAt},
		},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("team (-want +got):\n%s", diff)
	}
	if some, err := s.Find(ctx, id, "EVE@", noon); err != nil || len(some.People) != 1 || some.Members != 3 {
		t.Errorf("searched: %+v, %v", some, err)
	}

	_, err = s.Remove(ctx, ada, id, eve, noon)
	must(t, err)
	_, err = s.Remove(ctx, ada, id, eve, noon)
	wantKind(t, err, fault.NotFound, "not in the team any more")
	_, err = s.Delete(ctx, ada, id, "design", noon)
	wantKind(t, err, fault.Invalid, "confirm")
	name, err := s.Delete(ctx, ada, id, " Design ", noon)
	if err != nil || name != "Design" {
		t.Errorf("deleted %q, %v", name, err)
	}
	_, err = s.Find(ctx, id, "", noon)
	wantKind(t, err, fault.NotFound)

	if diff := cmp.Diff([]string{
		"team.create Design team map[]",
		"team.add_member Design team map[email:Bob@example.org learnerId:" + bob.String() + " role:member]",
		"team.add_member Design team map[email:eve@example.org learnerId:" + eve.String() + " role:lead]",
		"team.set_role Design team map[email:Bob@example.org learnerId:" + bob.String() + " role:map[from:member to:lead]]",
		"team.share_prompts Design team map[sharePrompts:map[from:false to:true]]",
		"team.rename Design team map[name:map[from:Design team to:Design]]",
		"team.remove_member Design map[email:eve@example.org learnerId:" + eve.String() + " role:lead]",
		"team.delete Design map[leads:[Bob@example.org no address] members:2]",
	}, actions(t, tx)); diff != "" {
		t.Errorf("audit log (-want +got):\n%s", diff)
	}
}

func TestRefusals(t *testing.T) {
	ctx, tx := t.Context(), pgtest.Tx(t)
	s := NewStore(tx)
	bob := learner(t, tx, "bob@example.org")
	gone := learner(t, tx, "gone@example.org")
	_, err := tx.Exec(ctx, `update auth.users set deleted_at = now() where id = $1`, gone)
	must(t, err)
	id, err := s.Create(ctx, ada, "Design", noon)
	must(t, err)
	_, err = s.Add(ctx, ada, id, "bob@example.org", Member, noon)
	must(t, err)
	before := actions(t, tx)

	for name, word := range map[string]string{
		"": "missing", " \n ": "missing", strings.Repeat("ü", 101): "longer than 100", "a\x00b": "cannot be seen", "\xff": "cannot be seen",
		"Design\u202e": "cannot be seen",
	} {
		_, err := s.Create(ctx, ada, name, noon)
		wantKind(t, err, fault.Invalid, "name", word)
		wantKind(t, s.Rename(ctx, ada, id, "Design", name, noon), fault.Invalid, "name", word)
	}
	for email, word := range map[string]string{
		"": "missing", "bob\x00@example.org": "missing", "nobody@example.org": "no learner", "gone@example.org": "no learner",
		"BOB@example.org": "already", "' or 1=1 --": "no learner",
	} {
		_, err := s.Add(ctx, ada, id, email, Lead, noon)
		wantKind(t, err, fault.Invalid, "email", word)
	}
	_, err = s.Add(ctx, ada, id, "bob@example.org", "owner", noon)
	wantKind(t, err, fault.Invalid, "role")
	_, err = s.SetRole(ctx, ada, id, bob, "", noon)
	wantKind(t, err, fault.Invalid, "role")
	_, err = s.SetRole(ctx, ada, id, gone, Lead, noon)
	wantKind(t, err, fault.NotFound)
	wantKind(t, s.Rename(ctx, ada, id, "Marketing", "Sales", noon), fault.Conflict, "Somebody else renamed", "Design")
	for _, err := range []error{
		s.Rename(ctx, ada, uuid.New(), "a", "b", noon), s.SharePrompts(ctx, ada, uuid.New(), true, noon),
		second(s.Delete(ctx, ada, uuid.New(), "", noon)), second(s.Add(ctx, ada, uuid.New(), "bob@example.org", Lead, noon)),
		second(s.Remove(ctx, ada, uuid.New(), bob, noon)),
	} {
		wantKind(t, err, fault.NotFound)
	}
	if diff := cmp.Diff(before, actions(t, tx)); diff != "" {
		t.Errorf("what was refused is in the audit log:\n%s", diff)
	}
}

func second[T any](_ T, err error) error { return err }

// Five hundred teams: every one on one page, in order, and found by its name and
// by its members.
func TestManyTeams(t *testing.T) {
	ctx, tx := t.Context(), pgtest.Tx(t)
	s := NewStore(tx)
	_, err := tx.Exec(ctx, `
		with made as (insert into public.teams (name) select 'Team ' || i || ' 50% off' from generate_series(1, 500) i returning id, name),
		     people as (insert into auth.users (id, email) select gen_random_uuid(), 'm' || i || '@example.org' from generate_series(1, 1500) i returning id, email)
		insert into public.team_members (team_id, user_id, role)
		select t.id, p.id, case when p.n <= 500 then 'lead' else 'member' end
		from (select id, row_number() over (order by id) as n from made) t
		join (select id, row_number() over (order by email) as n from people) p on p.n % 500 = t.n % 500`)
	must(t, err)
	seen := map[uuid.UUID]bool{}
	var last string
	for page := 1; page <= 10; page++ {
		got, err := s.List(ctx, "", page)
		must(t, err)
		if got.Total != 500 || len(got.Teams) != PageSize {
			t.Fatalf("page %d: %d of %d", page, len(got.Teams), got.Total)
		}
		for _, team := range got.Teams {
			if seen[team.ID] || strings.ToLower(team.Name) < last || team.Members != 3 || len(team.Leads) != 1 {
				t.Errorf("page %d: %+v after %s", page, team, last)
			}
			seen[team.ID], last = true, strings.ToLower(team.Name)
		}
	}
	for search, want := range map[string]int{"TEAM 499 ": 1, "50% OFF": 500, "m1500@example.org": 1, "_": 0, "%": 500, "nothing": 0, `\`: 0} {
		if got, err := s.List(ctx, search, 1); err != nil || got.Total != want {
			t.Errorf("%q: %d teams, %v; want %d", search, got.Total, err, want)
		}
	}
	if got, err := s.List(ctx, "", 11); err != nil || len(got.Teams) != 0 {
		t.Errorf("after the last page: %v, %v", got, err)
	}
}

// Two admins at once: nothing is lost, nothing is there twice, and every action
// has its entry.
func TestManyAdminsAtOnce(t *testing.T) {
	pool := pgtest.Database(t)
	s := NewStore(pool)
	id, err := s.Create(t.Context(), ada, "Design", noon)
	must(t, err)
	bob := learner(t, pool, "bob@example.org")
	var all sync.WaitGroup
	var mu sync.Mutex
	added, removed := 0, 0
	for range 4 {
		all.Go(func() {
			for range 10 {
				_, err := s.Add(context.Background(), ada, id, "bob@example.org", Member, noon)
				_, failed := s.Remove(context.Background(), ada, id, bob, noon)
				mu.Lock()
				if err == nil {
					added++
				} else if fault.KindOf(err) != fault.Invalid {
					t.Error(err)
				}
				if failed == nil {
					removed++
				} else if fault.KindOf(failed) != fault.NotFound {
					t.Error(failed)
				}
				mu.Unlock()
			}
		})
	}
	all.Wait()
	var entries, members int
	must(t, pool.QueryRow(t.Context(), `
		select (select count(*) from ops.audit_log where action in ('team.add_member', 'team.remove_member')),
		       (select count(*) from public.team_members)`).Scan(&entries, &members))
	if entries != added+removed || members != added-removed {
		t.Errorf("%d added, %d removed; %d members and %d entries", added, removed, members, entries)
	}
	if n, broken, err := audit.NewStore(pool).Verify(t.Context()); err != nil || broken != 0 {
		t.Errorf("the log of %d entries is broken at %d: %v", n, broken, err)
	}
}

// What is deleted with a team, and what is not.
func TestDeleteKeepsTheBooks(t *testing.T) {
	ctx, tx := t.Context(), pgtest.Tx(t)
	s := NewStore(tx)
	id, err := s.Create(ctx, ada, "Design", noon)
	must(t, err)
	bob := learner(t, tx, "bob@example.org")
	_, err = s.Add(ctx, ada, id, "bob@example.org", Lead, noon)
	must(t, err)
	_, err = tx.Exec(ctx, `select ops.ensure_partitions('2026-11-01', '2026-11-01')`)
	must(t, err)
	_, err = tx.Exec(ctx, `
		with template as (insert into public.prompt_templates (owner_id, title, body) values ($2, 't', 'b') returning id)
		insert into public.team_templates (team_id, template_id, shared_by) select $1, id, $2 from template`, id, bob)
	must(t, err)
	_, err = tx.Exec(ctx, `insert into public.prompt_runs (id, created_at, user_id, team_id, models) values (gen_random_uuid(), $1, $2, $3, '{}')`, noon, bob, id)
	must(t, err)
	if team, err := s.Find(ctx, id, "", noon); err != nil || team.Templates != 1 || team.Runs != 1 {
		t.Errorf("%+v, %v", team, err)
	}
	_, err = s.Delete(ctx, ada, id, "Design", noon)
	must(t, err)
	rows, err := tx.Query(ctx, `
		select (select count(*) from public.teams), (select count(*) from public.team_members), (select count(*) from public.team_templates),
		       (select count(*) from public.prompt_templates), (select count(*) from public.prompt_runs), (select count(*) from auth.users)`)
	must(t, err)
	counts, err := pgx.CollectExactlyOneRow(rows, func(row pgx.CollectableRow) (n [6]int, err error) {
		return n, row.Scan(&n[0], &n[1], &n[2], &n[3], &n[4], &n[5])
	})
	must(t, err)
	if counts != [6]int{0, 0, 0, 1, 1, 1} {
		t.Errorf("teams, members, shares, templates, runs, learners: %v", counts)
	}
}
