package account

import (
	"context"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"

	"github.com/promptcademy/promptops/internal/audit"
	"github.com/promptcademy/promptops/internal/fault"
	"github.com/promptcademy/promptops/internal/postgres/pgtest"
)

func TestNewOperatorCheck(t *testing.T) {
	good := NewOperator{Email: "ada@example.org", Name: "Ada", Role: RoleTeamLead, LearnerID: &someLearner, Timezone: "Europe/Berlin", Password: goodPassword}
	tests := []struct {
		name   string
		change func(*NewOperator)
		want   []string // fields
	}{
		{"good", func(*NewOperator) {}, nil},
		{"admin without a learner", func(n *NewOperator) { n.Role, n.LearnerID = RoleAdmin, nil }, nil},
		{"no password yet", func(n *NewOperator) { n.Password = "" }, nil},
		{"no address", func(n *NewOperator) { n.Email = "ada" }, []string{"email"}},
		{"address with a name", func(n *NewOperator) { n.Email = "Ada <ada@example.org>" }, []string{"email"}},
		{"address with a NUL", func(n *NewOperator) { n.Email = "ada\x00@example.org" }, []string{"email"}},
		{"name that Postgres cannot store", func(n *NewOperator) { n.Name = "A\xffda" }, []string{"name"}},
		{"long name", func(n *NewOperator) { n.Name = strings.Repeat("a", 101) }, []string{"name"}},
		{"team lead without a learner", func(n *NewOperator) { n.LearnerID = nil }, []string{"learnerId"}},
		{"other role", func(n *NewOperator) { n.Role = "owner" }, []string{"role"}},
		{"no such zone", func(n *NewOperator) { n.Timezone = "Mars/Olympus" }, []string{"timezone"}},
		{"everything", func(n *NewOperator) { *n = NewOperator{Timezone: "x", Name: "\x00", Password: "short"} },
			[]string{"email", "name", "role", "timezone", "password"}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			n := good
			test.change(&n)
			var fields []string
			for _, f := range n.check() {
				fields = append(fields, f.Field)
			}
			if diff := cmp.Diff(test.want, fields); diff != "" {
				t.Errorf("bad fields (-want +got):\n%s", diff)
			}
		})
	}
}

func TestCreateFindList(t *testing.T) {
	ctx := context.Background()
	s, _ := newStore(pgtest.Tx(t))

	ada, err := s.Create(ctx, audit.CommandLine, NewOperator{Email: " Ada@Example.org ", Name: "Ada", Role: RoleTeamLead, LearnerID: &someLearner, Timezone: "Europe/Berlin"}, noon)
	if err != nil {
		t.Fatal(err)
	}
	want := Operator{ID: ada.ID, Email: "ada@example.org", Name: "Ada", Role: RoleTeamLead, LearnerID: &someLearner, Timezone: "Europe/Berlin", CreatedAt: noon}
	if diff := cmp.Diff(want, ada); diff != "" {
		t.Errorf("created (-want +got):\n%s", diff)
	}
	bob := makeAdmin(t, s, "bob@example.org")
	if !bob.HasPassword {
		t.Error("bob has no password")
	}

	_, err = s.Create(ctx, audit.CommandLine, NewOperator{Email: "ADA@example.org", Role: RoleAdmin}, noon)
	wantKind(t, err, fault.Conflict)
}

func TestFind(t *testing.T) {
	ctx := context.Background()
	s, _ := newStore(pgtest.Tx(t))
	bob := makeAdmin(t, s, "bob@example.org")
	ada := makeAdmin(t, s, "ada@example.org")

	list, err := s.List(ctx, noon)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]Listed{{Operator: ada, Leads: []string{}}, {Operator: bob, Leads: []string{}}}, list); diff != "" {
		t.Errorf("list (-want +got):\n%s", diff)
	}
	if got, err := s.Find(ctx, ada.ID); err != nil || got.Email != ada.Email {
		t.Errorf("Find = %v, %v", got, err)
	}
	if got, err := s.FindByEmail(ctx, " ADA@example.org"); err != nil || got.ID != ada.ID {
		t.Errorf("FindByEmail = %v, %v", got, err)
	}
	_, err = s.Find(ctx, uuid.New())
	wantKind(t, err, fault.NotFound)
	_, err = s.FindByEmail(ctx, "no\x00body")
	wantKind(t, err, fault.NotFound)
}

func TestEnsureFirstAdminByFourNodes(t *testing.T) {
	ctx := context.Background()
	pool := pgtest.Database(t)
	var created atomic.Int32
	var nodes sync.WaitGroup
	for range 4 {
		nodes.Go(func() {
			s, _ := newStore(pool)
			operator, isNew, err := s.EnsureFirstAdmin(ctx, "Admin@example.org", noon)
			if err != nil {
				t.Error(err)
			}
			if isNew {
				created.Add(1)
			}
			if operator.Email != "admin@example.org" || operator.Role != RoleAdmin || operator.HasPassword {
				t.Errorf("first admin is %+v", operator)
			}
		})
	}
	nodes.Wait()
	if created.Load() != 1 || count(t, pool, "ops.operators") != 1 {
		t.Errorf("%d nodes created an admin, there are %d operators", created.Load(), count(t, pool, "ops.operators"))
	}
}

// A node that is creating the first admin makes the others wait.
func TestEnsureFirstAdminWaits(t *testing.T) {
	ctx := context.Background()
	pool := pgtest.Database(t)
	s, _ := newStore(pool)
	other, err := pool.Begin(ctx)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = other.Rollback(ctx) }()
	otherStore, _ := newStore(other)
	makeAdmin(t, otherStore, "other@example.org")

	done := make(chan error, 1)
	var got Operator
	go func() {
		var err error
		got, _, err = s.EnsureFirstAdmin(ctx, "admin@example.org", noon)
		done <- err
	}()
	for waiting := false; !waiting; {
		select {
		case err := <-done:
			t.Fatalf("did not wait: %v, %v", got.Email, err)
		default:
		}
		err := pool.QueryRow(ctx, `select exists(select from pg_locks where relation = 'ops.operators'::regclass and not granted)`).Scan(&waiting)
		if err != nil {
			t.Fatal(err)
		}
	}
	if err := other.Commit(ctx); err != nil {
		t.Fatal(err)
	}
	if err := <-done; err != nil || got.Email != "other@example.org" {
		t.Errorf("first admin is %v, %v", got.Email, err)
	}
}

func TestEnsureFirstAdmin(t *testing.T) {
	ctx := context.Background()
	s, _ := newStore(pgtest.Tx(t))
	_, _, err := s.EnsureFirstAdmin(ctx, "nobody", noon)
	wantKind(t, err, fault.Invalid)

	// A team lead is not somebody who could let others in, a disabled admin
	// neither.
	if _, err := s.Create(ctx, audit.CommandLine, NewOperator{Email: "lead@example.org", Role: RoleTeamLead, LearnerID: &someLearner}, noon); err != nil {
		t.Fatal(err)
	}
	first, created, err := s.EnsureFirstAdmin(ctx, "admin@example.org", noon)
	if err != nil || !created {
		t.Fatalf("with a team lead only: created %v, %v", created, err)
	}
	ada := makeAdmin(t, s, "ada@example.org")
	if err := s.Disable(ctx, audit.CommandLine, first.ID, noon); err != nil {
		t.Fatal(err)
	}
	got, created, err := s.EnsureFirstAdmin(ctx, "admin@example.org", noon)
	if err != nil || created || got.ID != ada.ID {
		t.Errorf("with another admin: %v, created %v, %v", got.Email, created, err)
	}
}

func TestDisableKeepsAnAdmin(t *testing.T) {
	ctx := context.Background()
	pool := pgtest.Database(t)
	s, _ := newStore(pool)
	ada, bob := makeAdmin(t, s, "ada@example.org"), makeAdmin(t, s, "bob@example.org")

	// Each disables the other at the same moment.
	errs := make([]error, 2)
	var both sync.WaitGroup
	for i, id := range []uuid.UUID{ada.ID, bob.ID} {
		both.Go(func() { errs[i] = s.Disable(ctx, audit.CommandLine, id, noon) })
	}
	both.Wait()
	if (errs[0] == nil) == (errs[1] == nil) {
		t.Fatalf("exactly one may succeed: %v, %v", errs[0], errs[1])
	}
	refused, disabled := ada.ID, bob.ID
	if errs[0] == nil {
		refused, disabled = bob.ID, ada.ID
	}
	wantKind(t, s.Disable(ctx, audit.CommandLine, refused, noon), fault.Conflict)
	if err := s.Disable(ctx, audit.CommandLine, disabled, noon.Add(time.Hour)); err != nil {
		t.Errorf("disabling twice: %v", err)
	}
	if got, _ := s.Find(ctx, disabled); got.DisabledAt == nil || !got.DisabledAt.Equal(noon) {
		t.Errorf("disabled at %v, want %v", got.DisabledAt, noon)
	}

	if err := s.Enable(ctx, audit.CommandLine, disabled, noon); err != nil {
		t.Fatal(err)
	}
	if got, _ := s.Find(ctx, disabled); got.DisabledAt != nil {
		t.Errorf("disabled at %v after Enable", got.DisabledAt)
	}
	wantKind(t, s.Disable(ctx, audit.CommandLine, uuid.New(), noon), fault.NotFound)
	wantKind(t, s.Enable(ctx, audit.CommandLine, uuid.New(), noon), fault.NotFound)
}
