package view

import (
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5/pgxpool"
	"golang.org/x/sync/errgroup"

	"github.com/promptcademy/promptops/internal/audit"
	"github.com/promptcademy/promptops/internal/fault"
	"github.com/promptcademy/promptops/internal/postgres/pgtest"
)

var noon = time.Date(2026, 11, 24, 12, 0, 0, 0, time.UTC)

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func operator(t *testing.T, db *pgxpool.Pool, name string, admin bool) Viewer {
	t.Helper()
	w := Viewer{uuid.New(), admin}
	role, learner := "admin", (*uuid.UUID)(nil)
	if !admin {
		role, learner = "team_lead", new(uuid.New())
		_, err := db.Exec(t.Context(), `insert into auth.users (id, aud, role, email) values ($1, 'authenticated', 'authenticated', $2)`, learner, name+"@learn.example.org")
		must(t, err)
	}
	_, err := db.Exec(t.Context(), `insert into ops.operators (id, email, name, role, learner_id) values ($1, $2, $3, $4, $5)`, w.OperatorID, name+"@example.org", name, role, learner)
	must(t, err)
	return w
}

// names are those of the views of a page, "*" at the default one.
func names(t *testing.T, s *Store, w Viewer, page string) string {
	t.Helper()
	views, _, err := s.List(t.Context(), w, page, noon)
	must(t, err)
	var all []string
	for _, v := range views {
		if v.Default {
			v.Name += "*"
		}
		all = append(all, v.Name)
	}
	return strings.Join(all, " ")
}

func TestViews(t *testing.T) {
	db := pgtest.Database(t)
	s := NewStore(db)
	ann, ben, lea := operator(t, db, "ann", true), operator(t, db, "ben", true), operator(t, db, "lea", false)
	save := func(w Viewer, n New) uuid.UUID {
		t.Helper()
		n.Page = "/usage"
		id, err := s.Save(t.Context(), w, n, audit.CommandLine, noon)
		must(t, err)
		return id
	}
	private := save(ann, New{Name: " mine ", Query: "provider=openai", Default: true})
	shared := save(ann, New{Name: "Ours", Query: "range=7d", Shared: true})
	save(lea, New{Name: "leads", Query: "range=90d"})
	for want, w := range map[string]Viewer{"mine* Ours": ann, "Ours": ben, "leads": lea} {
		if got := names(t, s, w, "/usage"); got != want {
			t.Errorf("%s, want %s", got, want)
		}
	}
	if got := names(t, s, ann, "/runs"); got != "" {
		t.Errorf("another page has %s", got)
	}

	// What is somebody else's cannot be changed, opened first, deleted or shared.
	for name, err := range map[string]error{
		"change": func() error {
			_, err := s.Change(t.Context(), ben, shared, "x", true, audit.CommandLine, noon)
			return err
		}(),
		"delete":  s.Delete(t.Context(), ben, shared, audit.CommandLine, noon),
		"restore": s.Restore(t.Context(), ben, shared, audit.CommandLine, noon),
		"first":   s.SetDefault(t.Context(), ben, private, true),
		"lead":    s.SetDefault(t.Context(), lea, shared, true),
	} {
		if fault.KindOf(err) != fault.NotFound {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := s.Save(t.Context(), lea, New{Page: "/usage", Name: "all", Shared: true}, audit.CommandLine, noon); fault.KindOf(err) != fault.Forbidden {
		t.Errorf("a lead shares: %v", err)
	}

	// A shared view opens first for who wants it, until it is private or deleted.
	must(t, s.SetDefault(t.Context(), ben, shared, true))
	opens := func(want string) {
		t.Helper()
		if query, ok, err := s.Default(t.Context(), ben, "/usage"); err != nil || query != want || ok != (want != "") {
			t.Errorf("ben's page opens with %q (%v, %v), want %q", query, ok, err, want)
		}
	}
	opens("range=7d")
	_, err := s.Change(t.Context(), ann, shared, "Ours, once", false, audit.CommandLine, noon)
	must(t, err)
	opens("")
	_, err = s.Change(t.Context(), ann, shared, "Ours", true, audit.CommandLine, noon)
	must(t, err)
	opens("range=7d")
	must(t, s.Delete(t.Context(), ann, shared, audit.CommandLine, noon))
	opens("")
	if _, deleted, err := s.List(t.Context(), ann, "/usage", noon); err != nil || len(deleted) != 1 {
		t.Errorf("deleted: %v (%v)", deleted, err)
	}
	if _, deleted, err := s.List(t.Context(), ben, "/usage", noon); err != nil || len(deleted) != 0 {
		t.Errorf("ben sees what ann deleted: %v (%v)", deleted, err)
	}
	must(t, s.Restore(t.Context(), ann, shared, audit.CommandLine, noon))
	opens("range=7d")
	must(t, s.SetDefault(t.Context(), ben, shared, false))
	opens("")

	// Whoever is no admin any more has lost sight of what admins share.
	must(t, s.SetDefault(t.Context(), ben, shared, true))
	ben.Admin = false
	opens("")

	var actions string
	must(t, db.QueryRow(t.Context(), `select string_agg(action, ' ' order by id) from ops.audit_log where subject_type = 'view'`).Scan(&actions))
	if actions != "view.share view.unshare view.share view.delete view.restore" {
		t.Errorf("the audit log has %s", actions)
	}
}

func TestNames(t *testing.T) {
	db := pgtest.Database(t)
	s := NewStore(db)
	ann := operator(t, db, "ann", true)
	for _, name := range []string{"", "  ", strings.Repeat("n", 61), "a\x00b", "a\nb"} {
		if _, err := s.Save(t.Context(), ann, New{Page: "/runs", Name: name}, audit.CommandLine, noon); fault.KindOf(err) != fault.Invalid {
			t.Errorf("%q: %v", name, err)
		}
	}
	if _, err := s.Save(t.Context(), ann, New{Page: "https://evil.example", Name: "x"}, audit.CommandLine, noon); fault.KindOf(err) != fault.Invalid {
		t.Errorf("another site: %v", err)
	}
	// Of eight who save a view of one name at once, one does.
	outcomes := make([]error, 8)
	var group errgroup.Group
	for i := range outcomes {
		group.Go(func() error {
			_, outcomes[i] = s.Save(t.Context(), ann, New{Page: "/runs", Name: []string{"Same", "SAME"}[i%2]}, audit.CommandLine, noon)
			return nil
		})
	}
	must(t, group.Wait())
	done := 0
	for _, err := range outcomes {
		if err == nil {
			done++
		} else if fault.KindOf(err) != fault.Conflict {
			t.Error(err)
		}
	}
	if done != 1 {
		t.Errorf("%d were saved", done)
	}
	views, _, err := s.List(t.Context(), ann, "/runs", noon)
	must(t, err)
	must(t, s.Delete(t.Context(), ann, views[0].ID, audit.CommandLine, noon))
	_, err = s.Save(t.Context(), ann, New{Page: "/runs", Name: "same"}, audit.CommandLine, noon)
	must(t, err)
	if err := s.Restore(t.Context(), ann, views[0].ID, audit.CommandLine, noon); fault.KindOf(err) != fault.Conflict {
		t.Errorf("restored beside another of its name: %v", err)
	}
	for i := range mostViews - 1 {
		_, err = s.Save(t.Context(), ann, New{Page: "/runs", Name: strings.Repeat("n", i+1)}, audit.CommandLine, noon)
		must(t, err)
	}
	if _, err := s.Save(t.Context(), ann, New{Page: "/runs", Name: "one more"}, audit.CommandLine, noon); fault.KindOf(err) != fault.Conflict {
		t.Errorf("a view too many: %v", err)
	}
	// After a while deleted ones are gone for good.
	_, err = s.Save(t.Context(), ann, New{Page: "/usage", Name: "another"}, audit.CommandLine, noon.Add(Kept+time.Minute))
	must(t, err)
	if err := s.Restore(t.Context(), ann, views[0].ID, audit.CommandLine, noon); fault.KindOf(err) != fault.NotFound {
		t.Errorf("restored after an hour: %v", err)
	}
}

func TestHref(t *testing.T) {
	for want, got := range map[string]string{
		"/runs?status=error": Href("/runs", "status=error"), "/runs?view=all": Href("/runs", ""), "/usage?view=all": Href("//evil.example", ""),
	} {
		if got != want {
			t.Errorf("%s, want %s", got, want)
		}
	}
}
