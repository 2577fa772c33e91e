package runbook

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
	"github.com/promptcademy/promptops/internal/postgres/pgtest"
)

var (
	ann = audit.Operator(uuid.MustParse("0198c0de-0000-7000-8000-000000000001"), "ann@example.org")
	bob = audit.Operator(uuid.MustParse("0198c0de-0000-7000-8000-000000000002"), "bob@example.org")
	now = time.Date(2026, 11, 24, 12, 0, 0, 0, time.UTC)
)

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func find(t *testing.T, s *Store, slug string) Procedure {
	t.Helper()
	p, err := s.Find(t.Context(), slug)
	must(t, err)
	return p
}

func from(p Procedure, markdown string) Edit {
	return Edit{Slug: p.Slug, From: p.Number, Built: p.Base, Markdown: markdown}
}

func TestEditRestoreRemove(t *testing.T) {
	db := pgtest.Tx(t)
	s := NewStore(db)
	ctx := t.Context()
	p := find(t, s, "slow-runs")
	if p.Number != 0 {
		t.Fatalf("nobody edited it, and it is version %d", p.Number)
	}
	edit := from(p, p.Markdown+"\nOur own line.\r\n")
	edit.Note = "why"
	saved, merged, err := s.Save(ctx, ann, edit, now)
	must(t, err)
	if saved.Number != 2 || merged || saved.Author != "ann@example.org" || saved.Note != "why" || saved.Base != p.Base || !strings.HasSuffix(saved.Markdown, "line.\n") {
		t.Errorf("%+v", saved)
	}
	// What changes nothing is no version.
	if again, _, err := s.Save(ctx, ann, from(saved, saved.Markdown), now); err != nil || again.Number != 2 {
		t.Errorf("%+v, %v", again, err)
	}
	must(t, s.Restore(ctx, bob, "slow-runs", 1, 2, now))
	if got := find(t, s, "slow-runs"); got.Markdown != p.Markdown || got.Number != 3 || got.Author != "bob@example.org" {
		t.Errorf("restored: version %d by %s", got.Number, got.Author)
	}
	if err := s.Restore(ctx, bob, "slow-runs", 2, 2, now); fault.KindOf(err) != fault.Conflict {
		t.Errorf("restored over a version that was not seen: %v", err)
	}
	if err := s.Remove(ctx, ann, "slow-runs", 2, now); fault.KindOf(err) != fault.Conflict {
		t.Errorf("removed a version that was not seen: %v", err)
	}
	must(t, s.Remove(ctx, ann, "slow-runs", 3, now))
	if _, err := s.Find(ctx, "slow-runs"); fault.KindOf(err) != fault.NotFound {
		t.Errorf("removed, and found: %v", err)
	}
	list, err := s.List(ctx)
	must(t, err)
	removed, err := s.Removed(ctx)
	must(t, err)
	if len(list) != len(BuiltIn())-1 || len(removed) != 1 || removed[0].Slug != "slow-runs" {
		t.Errorf("%d listed, removed %v", len(list), removed)
	}
	if _, _, err := s.Save(ctx, bob, from(saved, "# Slow\n\nx\n"), now); fault.KindOf(err) != fault.Conflict {
		t.Errorf("saved what was removed: %v", err)
	}
	must(t, s.Restore(ctx, ann, "slow-runs", 2, 4, now))
	history, err := s.History(ctx, "slow-runs")
	must(t, err)
	var numbers []int
	for _, v := range history {
		numbers = append(numbers, v.Number)
	}
	if diff := cmp.Diff([]int{5, 4, 3, 2, 1}, numbers); diff != "" || !history[1].Removed || history[4].Author != "" {
		t.Errorf("history %v", numbers)
	}
	var entries int
	must(t, db.QueryRow(ctx, `select count(*) from ops.audit_log where subject_type = 'runbook' and subject_id = 'slow-runs'`).Scan(&entries))
	if entries != 4 {
		t.Errorf("%d entries in the audit log", entries)
	}
}

func TestCreate(t *testing.T) {
	s := NewStore(pgtest.Tx(t))
	ctx := t.Context()
	made, err := s.Create(ctx, ann, Edit{Slug: "dns", Markdown: "# DNS\n\nIt is always DNS."}, now)
	must(t, err)
	if made.Number != 1 || made.Title() != "DNS" || made.Summary() != "It is always DNS." {
		t.Errorf("%+v", made)
	}
	list, err := s.List(ctx)
	must(t, err)
	if got := list[len(list)-1]; got.Slug != "dns" || len(list) != len(BuiltIn())+1 {
		t.Errorf("%d listed, the last %s", len(list), got.Slug)
	}
	for name, e := range map[string]Edit{
		"taken":      {Slug: "dns", Markdown: "# DNS\n"},
		"built in":   {Slug: "cost-spike", Markdown: "# Cost\n"},
		"reserved":   {Slug: "print", Markdown: "# Print\n"},
		"no slug":    {Markdown: "# DNS\n"},
		"bad slug":   {Slug: "../x", Markdown: "# DNS\n"},
		"no title":   {Slug: "other", Markdown: "DNS\n"},
		"nothing":    {Slug: "other"},
		"too long":   {Slug: "other", Markdown: "# DNS\n" + strings.Repeat("x", MaxBytes)},
		"long line":  {Slug: "other", Markdown: "# DNS\n\n" + strings.Repeat("> ", 2001)},
		"too many":   {Slug: "other", Markdown: "# DNS\n" + strings.Repeat("\nx", MaxLines)},
		"long note":  {Slug: "other", Markdown: "# DNS\n", Note: strings.Repeat("x", 201)},
		"long title": {Slug: "other", Markdown: "# " + strings.Repeat("x", 121)},
	} {
		if _, err := s.Create(ctx, ann, e, now); err == nil || fault.KindOf(err) != fault.Invalid {
			t.Errorf("%s: %v", name, err)
		}
	}
	must(t, s.Remove(ctx, ann, "dns", 1, now))
	if made, err = s.Create(ctx, ann, Edit{Slug: "dns", Markdown: "# DNS again\x00\xff\n"}, now); err != nil || made.Number != 3 {
		t.Errorf("made again: version %d, %v", made.Number, err)
	}
}

func TestTwoPeopleAtOnce(t *testing.T) {
	s := NewStore(pgtest.Tx(t))
	ctx := t.Context()
	_, err := s.Create(ctx, ann, Edit{Slug: "dns", Markdown: "# DNS\n\none\n\ntwo\n\nthree\n"}, now)
	must(t, err)
	began := find(t, s, "dns")
	_, _, err = s.Save(ctx, ann, from(began, "# DNS\n\nONE\n\ntwo\n\nthree\n"), now)
	must(t, err)
	saved, merged, err := s.Save(ctx, bob, from(began, "# DNS\n\none\n\ntwo\n\nTHREE\n"), now)
	must(t, err)
	if !merged || saved.Markdown != "# DNS\n\nONE\n\ntwo\n\nTHREE\n" || saved.Number != 3 {
		t.Errorf("merged %v: %+v", merged, saved)
	}
	_, _, err = s.Save(ctx, ann, from(began, "# DNS\n\nEins\n\ntwo\n\nthree\n"), now)
	conflict, ok := errors.AsType[*Conflict](err)
	if !ok || conflict.Theirs.Number != 3 || conflict.Base != began.Markdown {
		t.Fatalf("%v", err)
	}
	if got := find(t, s, "dns"); got.Number != 3 {
		t.Errorf("a conflict was saved: version %d", got.Number)
	}
	// Whoever has seen the other text may replace it.
	saved, _, err = s.Save(ctx, ann, from(conflict.Theirs, "# DNS\n\nEins\n\ntwo\n\nTHREE\n"), now)
	if err != nil || saved.Number != 4 {
		t.Errorf("version %d, %v", saved.Number, err)
	}
}

// The same with a built-in text, which both began from before anybody edited it.
func TestTwoPeopleBeginWithTheBuiltInText(t *testing.T) {
	s := NewStore(pgtest.Tx(t))
	ctx := t.Context()
	p := find(t, s, "cost-spike")
	_, _, err := s.Save(ctx, ann, from(p, strings.Replace(p.Markdown, "# Cost spike", "# Cost spike!", 1)), now)
	must(t, err)
	saved, merged, err := s.Save(ctx, bob, from(p, p.Markdown+"- And one more.\n"), now)
	if err != nil || !merged || saved.Title() != "Cost spike!" || !strings.HasSuffix(saved.Markdown, "one more.\n") {
		t.Errorf("merged %v, %q, %v", merged, saved.Title(), err)
	}
	// Somebody whose form came from another program has no text in common with us.
	e := from(p, "# Mine\n")
	e.Built = "other"
	if _, _, err := s.Save(ctx, ann, e, now); err == nil {
		t.Error("saved over what was never seen")
	}
}

func TestManyAtOnce(t *testing.T) {
	s := NewStore(pgtest.Database(t))
	ctx := t.Context()
	var text strings.Builder
	text.WriteString("# Many\n")
	for i := range 12 {
		fmt.Fprintf(&text, "\nline %d\n\nrest\n", i)
	}
	began, err := s.Create(ctx, ann, Edit{Slug: "many", Markdown: text.String()}, now)
	must(t, err)
	var all sync.WaitGroup
	for i := range 12 {
		all.Go(func() {
			mine := strings.Replace(began.Markdown, fmt.Sprintf("line %d\n", i), fmt.Sprintf("written by %d\n", i), 1)
			if _, _, err := s.Save(ctx, bob, from(began, mine), now); err != nil {
				t.Errorf("%d: %v", i, err)
			}
		})
	}
	all.Wait()
	got := find(t, s, "many")
	for i := range 12 {
		if !strings.Contains(got.Markdown, fmt.Sprintf("written by %d\n", i)) {
			t.Errorf("the words of %d are lost", i)
		}
	}
	if got.Number != 13 {
		t.Errorf("version %d", got.Number)
	}
}

// A newer program brings another text than the one that was edited.
func TestNewerBuiltInText(t *testing.T) {
	db := pgtest.Tx(t)
	s := NewStore(db)
	ctx := t.Context()
	p := find(t, s, "leaked-key")
	if newer, err := s.Newer(ctx, p); newer != nil || err != nil {
		t.Errorf("%+v, %v", newer, err)
	}
	_, _, err := s.Save(ctx, ann, from(p, p.Markdown+"- Ours.\n"), now)
	must(t, err)
	// As an older program would have left it.
	old := strings.Replace(p.Markdown, "# Leaked key", "# Leaked", 1)
	_, err = db.Exec(ctx, `update ops.runbook_versions set base = $1, markdown = case number when 1 then $2 else $2 || E'- Ours.\n' end`, HashOf(old), old)
	must(t, err)
	edited := find(t, s, "leaked-key")
	newer, err := s.Newer(ctx, edited)
	must(t, err)
	if newer == nil || newer.Merged != p.Markdown+"- Ours.\n" || newer.Hash != p.Base {
		t.Fatalf("%+v", newer)
	}
	if err := s.TakeOver(ctx, ann, "leaked-key", 1, now); fault.KindOf(err) != fault.Conflict {
		t.Errorf("taken over what was not seen: %v", err)
	}
	merge := from(edited, newer.Merged)
	merge.Built = newer.Hash
	merged, _, err := s.Save(ctx, ann, merge, now)
	must(t, err)
	if newer, err = s.Newer(ctx, merged); newer != nil || err != nil {
		t.Errorf("merged, and still %+v, %v", newer, err)
	}
	must(t, s.TakeOver(ctx, bob, "leaked-key", merged.Number, now))
	if got := find(t, s, "leaked-key"); got.Markdown != p.Markdown || got.Number != 4 {
		t.Errorf("version %d", got.Number)
	}
}
