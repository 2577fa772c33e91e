package runbook

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/promptcademy/promptops/internal/audit"
	"github.com/promptcademy/promptops/internal/fault"
	"github.com/promptcademy/promptops/internal/postgres"
)

// Store keeps the versions of procedures. Its methods return fault.Unavailable
// when the database is away: BuiltIn is there all the same.
type Store struct {
	db postgres.DB
}

// NewStore returns a Store on db.
func NewStore(db postgres.DB) *Store { return &Store{db} }

// Version is one version of a procedure, as it was saved.
type Version struct {
	Procedure
	Removed bool
}

const versionColumns = `slug, number, markdown, author, note, at, base, removed`

type versionRow struct {
	Slug     string
	Number   int
	Markdown string
	Author   string
	Note     string
	At       time.Time
	Base     string
	Removed  bool
}

func (r versionRow) version() Version {
	return Version{Procedure{Slug: r.Slug, Markdown: r.Markdown, Number: r.Number, Author: r.Author, Note: r.Note, At: r.At, Base: r.Base}, r.Removed}
}

func queryVersions(ctx context.Context, db postgres.DB, sql string, args ...any) ([]Version, error) {
	rows, _ := db.Query(ctx, sql, args...)
	return pgx.CollectRows(rows, func(r pgx.CollectableRow) (Version, error) {
		row, err := pgx.RowToStructByName[versionRow](r)
		return row.version(), err
	})
}

// List returns every procedure as it is now: the built-in ones first, in their
// order, then those that were added, by title.
func (s *Store) List(ctx context.Context) ([]Procedure, error) {
	latest, err := queryVersions(ctx, s.db, `
		select distinct on (slug) `+versionColumns+`
		from ops.runbook_versions
		order by slug, number desc`)
	if err != nil {
		return nil, postgres.Fault(fmt.Errorf("list procedures: %w", err))
	}
	edited := map[string]Version{}
	for _, v := range latest {
		edited[v.Slug] = v
	}
	var procedures, added []Procedure
	for _, p := range BuiltIn() {
		v, is := edited[p.Slug]
		delete(edited, p.Slug)
		switch {
		case !is:
			procedures = append(procedures, p)
		case !v.Removed:
			procedures = append(procedures, v.Procedure)
		}
	}
	for _, v := range edited {
		if !v.Removed {
			added = append(added, v.Procedure)
		}
	}
	slices.SortFunc(added, func(a, b Procedure) int { return strings.Compare(a.Title()+"\x00"+a.Slug, b.Title()+"\x00"+b.Slug) })
	return append(procedures, added...), nil
}

// Removed returns the procedures that were removed, as they were then.
func (s *Store) Removed(ctx context.Context) ([]Procedure, error) {
	removed, err := queryVersions(ctx, s.db, `
		select `+versionColumns+`
		from (select distinct on (slug) * from ops.runbook_versions order by slug, number desc) latest
		where removed
		order by slug`)
	if err != nil {
		return nil, postgres.Fault(fmt.Errorf("list removed procedures: %w", err))
	}
	procedures := make([]Procedure, len(removed))
	for i, v := range removed {
		procedures[i] = v.Procedure
	}
	return procedures, nil
}

// Newer is a built-in text that came with a newer program than an edited
// procedure began from.
type Newer struct {
	Hash   string
	Merged string // both put together; empty if they do not go together by themselves
}

// Newer returns what the program brings that is newer than what p began from; nil:
// nothing is.
func (s *Store) Newer(ctx context.Context, p Procedure) (*Newer, error) {
	built, ok := builtIn(p.Slug)
	if !ok || p.Number == 0 || p.Base == built.Base || p.Markdown == built.Markdown {
		return nil, nil
	}
	newer := &Newer{Hash: built.Base}
	versions, err := queryVersions(ctx, s.db, `
		select `+versionColumns+`
		from ops.runbook_versions
		where slug = $1 and base = $2 and base <> ''
		order by number
		limit 1`, p.Slug, p.Base)
	if err != nil {
		return nil, postgres.Fault(fmt.Errorf("find built-in text: %w", err))
	}
	if len(versions) == 1 && HashOf(versions[0].Markdown) == p.Base {
		newer.Merged, _ = Merge(versions[0].Markdown, p.Markdown, built.Markdown)
	}
	return newer, nil
}

// Find returns a procedure as it is now. It is fault.NotFound for one that never
// was or was removed.
func (s *Store) Find(ctx context.Context, slug string) (Procedure, error) {
	v, err := latest(ctx, s.db, slug)
	if err != nil {
		return Procedure{}, postgres.Fault(fmt.Errorf("find procedure: %w", err))
	}
	if v.Removed {
		return Procedure{}, noProcedure()
	}
	return v.Procedure, nil
}

// latest is the last version, number 0 for a built-in text that nobody edited.
func latest(ctx context.Context, db postgres.DB, slug string) (Version, error) {
	versions, err := queryVersions(ctx, db, `
		select `+versionColumns+`
		from ops.runbook_versions
		where slug = $1
		order by number desc
		limit 1`, slug)
	if err != nil {
		return Version{}, err
	}
	if len(versions) == 1 {
		return versions[0], nil
	}
	if p, ok := builtIn(slug); ok {
		return Version{Procedure: p}, nil
	}
	return Version{}, noProcedure()
}

func noProcedure() *fault.Error {
	return fault.New(fault.NotFound, "There is no such procedure in the runbook.")
}

// History returns every version, the newest first; of a built-in text that nobody
// edited, that alone. Its number is then 0.
func (s *Store) History(ctx context.Context, slug string) ([]Version, error) {
	versions, err := queryVersions(ctx, s.db, `
		select `+versionColumns+`
		from ops.runbook_versions
		where slug = $1
		order by number desc
		limit 1000`, slug)
	if err != nil {
		return nil, postgres.Fault(fmt.Errorf("history of procedure: %w", err))
	}
	if len(versions) == 0 {
		p, ok := builtIn(slug)
		if !ok {
			return nil, noProcedure()
		}
		return []Version{{Procedure: p}}, nil
	}
	return versions, nil
}

// Version returns one of History; number 0 is the built-in text of this program.
func (s *Store) Version(ctx context.Context, slug string, number int) (Version, error) {
	v, err := version(ctx, s.db, slug, number)
	if err != nil {
		return Version{}, postgres.Fault(fmt.Errorf("find version: %w", err))
	}
	return v, nil
}

func version(ctx context.Context, db postgres.DB, slug string, number int) (Version, error) {
	if number == 0 {
		if p, ok := builtIn(slug); ok {
			return Version{Procedure: p}, nil
		}
		return Version{}, fault.New(fault.NotFound, "There is no such version of this procedure.")
	}
	versions, err := queryVersions(ctx, db, `
		select `+versionColumns+`
		from ops.runbook_versions
		where slug = $1 and number = $2`, slug, number)
	if err == nil && len(versions) == 0 {
		err = fault.New(fault.NotFound, "There is no such version of this procedure.")
	}
	if err != nil {
		return Version{}, err
	}
	return versions[0], nil
}

// Edit is a text that somebody typed.
type Edit struct {
	Slug     string
	From     int    // number of the version it began from; 0: the built-in text
	Built    string // hash of the built-in text as the editor saw it; see Procedure.Base
	Markdown string
	Note     string
}

// Conflict is why an edit was not saved: somebody else changed the same lines
// meanwhile.
type Conflict struct {
	Theirs Procedure // what is saved now
	Base   string    // the text that both began from; empty if it is not known any more
}

func (*Conflict) Error() string { return "somebody else changed the same lines" }

// Save stores an edit as the newest version. If others saved versions since the
// edit began, their changes and these are merged; merged says so. When both
// changed the same lines it is a *Conflict and nothing is saved. A text that
// changes nothing is not stored. Bad values are fault.Invalid.
func (s *Store) Save(ctx context.Context, by audit.Actor, e Edit, now time.Time) (saved Procedure, merged bool, err error) {
	var problems []fault.Field
	if e.Markdown, e.Note, problems = clean(e.Markdown, e.Note); problems != nil {
		return Procedure{}, false, fault.InvalidFields(problems)
	}
	err = s.change(ctx, e.Slug, func(tx pgx.Tx, last Version) error {
		if last.Removed {
			return fault.New(fault.Conflict, "Somebody removed this procedure meanwhile. What you typed is not lost: make a new procedure of it, or restore a version in its history and save again.")
		}
		text, base := e.Markdown, ""
		if last.Number != e.From || last.Number == 0 && e.Built != "" && e.Built != last.Base {
			began, err := version(ctx, tx, e.Slug, startOf(e, last))
			if err == nil && (e.From != 0 || began.Base == e.Built) {
				base = began.Markdown
			}
			var ok bool
			if text, ok = mergeWith(base, e.Markdown, last.Markdown); !ok {
				return &Conflict{Theirs: last.Procedure, Base: base}
			}
			merged = text != e.Markdown
			if text, _, problems = clean(text, ""); problems != nil {
				return &Conflict{Theirs: last.Procedure, Base: base}
			}
		}
		if text == last.Markdown && (e.Built == "" || e.Built == last.Base || last.Number == 0) {
			saved = last.Procedure
			return nil
		}
		next := Version{Procedure: Procedure{Slug: e.Slug, Markdown: text, Author: by.Name, Note: e.Note, At: now, Base: last.Base}}
		if built, ok := builtIn(e.Slug); ok && e.Built == built.Base {
			next.Base = built.Base
		}
		if err := s.append(ctx, tx, by, last, &next); err != nil {
			return err
		}
		saved = next.Procedure
		return note(ctx, tx, by, "runbook.edit", next.Procedure, now, map[string]any{"note": e.Note, "merged": merged})
	})
	return saved, merged && err == nil, err
}

// startOf is the number under which the text is stored that an edit began from:
// the built-in text is version 1 as soon as somebody has edited it.
func startOf(e Edit, now Version) int {
	if e.From == 0 && now.Number > 0 {
		return 1
	}
	return e.From
}

// mergeWith is Merge; without a text that both began from only equal ones go
// together.
func mergeWith(base, mine, theirs string) (string, bool) {
	if base == "" {
		return mine, mine == theirs
	}
	return Merge(base, mine, theirs)
}

// Create makes a new procedure, or one that was removed anew.
func (s *Store) Create(ctx context.Context, by audit.Actor, e Edit, now time.Time) (Procedure, error) {
	problems := checkSlug(e.Slug)
	var more []fault.Field
	e.Markdown, e.Note, more = clean(e.Markdown, e.Note)
	if problems = append(problems, more...); len(problems) > 0 {
		return Procedure{}, fault.InvalidFields(problems)
	}
	next := Version{Procedure: Procedure{Slug: e.Slug, Markdown: e.Markdown, Author: by.Name, Note: e.Note, At: now}}
	err := s.changeAny(ctx, e.Slug, func(tx pgx.Tx, last Version) error {
		if last.Slug != "" && !last.Removed {
			return fault.InvalidFields([]fault.Field{{Field: "slug", Message: "is the address of another procedure already; choose another"}})
		}
		next.Base = last.Base
		if err := s.append(ctx, tx, by, last, &next); err != nil {
			return err
		}
		return note(ctx, tx, by, "runbook.create", next.Procedure, now, map[string]any{"note": e.Note})
	})
	return next.Procedure, err
}

// Restore makes an old version the newest one again, also of a procedure that was
// removed. It is fault.Conflict when the newest version is not seen any more.
func (s *Store) Restore(ctx context.Context, by audit.Actor, slug string, number, seen int, now time.Time) error {
	return s.change(ctx, slug, func(tx pgx.Tx, last Version) error {
		old, err := version(ctx, tx, slug, number)
		if err != nil {
			return err
		}
		if last.Number != seen {
			return changedMeanwhile()
		}
		if old.Markdown == last.Markdown && !last.Removed {
			return nil
		}
		next := Version{Procedure: Procedure{Slug: slug, Markdown: old.Markdown, Author: by.Name, Note: fmt.Sprintf("Version %d restored", number), At: now, Base: old.Base}}
		if number == 0 {
			next.Note = "The built-in text restored"
		}
		if err := s.append(ctx, tx, by, last, &next); err != nil {
			return err
		}
		return note(ctx, tx, by, "runbook.restore", next.Procedure, now, map[string]any{"restored": number})
	})
}

// TakeOver makes the built-in text of this program the newest version. What was
// edited stays in the history. seen is as in Restore.
func (s *Store) TakeOver(ctx context.Context, by audit.Actor, slug string, seen int, now time.Time) error {
	built, ok := builtIn(slug)
	if !ok {
		return noProcedure()
	}
	return s.change(ctx, slug, func(tx pgx.Tx, last Version) error {
		if last.Number != seen {
			return changedMeanwhile()
		}
		if last.Number == 0 || last.Base == built.Base && last.Markdown == built.Markdown {
			return nil
		}
		next := Version{Procedure: Procedure{Slug: slug, Markdown: built.Markdown, Author: by.Name, Note: "The newer built-in text taken over", At: now, Base: built.Base}}
		if err := s.append(ctx, tx, by, last, &next); err != nil {
			return err
		}
		return note(ctx, tx, by, "runbook.take_over", next.Procedure, now, nil)
	})
}

// Remove takes a procedure out of the runbook. Its versions stay, and Restore
// brings it back. seen is as in Restore.
func (s *Store) Remove(ctx context.Context, by audit.Actor, slug string, seen int, now time.Time) error {
	return s.change(ctx, slug, func(tx pgx.Tx, last Version) error {
		if last.Removed {
			return nil
		}
		if last.Number != seen {
			return changedMeanwhile()
		}
		next := Version{Procedure: Procedure{Slug: slug, Markdown: last.Markdown, Author: by.Name, Note: "Removed", At: now, Base: last.Base}, Removed: true}
		if err := s.append(ctx, tx, by, last, &next); err != nil {
			return err
		}
		return note(ctx, tx, by, "runbook.remove", next.Procedure, now, nil)
	})
}

func changedMeanwhile() *fault.Error {
	return fault.New(fault.Conflict, "Somebody else saved a newer version while this page was open. Read it, and do it again if it is still right.")
}

// append stores the version that follows last, and before the first one of a
// built-in procedure that text itself: then whatever comes can be compared with it.
func (s *Store) append(ctx context.Context, tx pgx.Tx, by audit.Actor, last Version, next *Version) error {
	if last.Number == 0 && last.Slug != "" {
		first := last
		first.Number, first.At, first.Note = 1, next.At, "The built-in text"
		if err := insert(ctx, tx, audit.Actor{}, first); err != nil {
			return err
		}
		last = first
	}
	next.Number = last.Number + 1
	return insert(ctx, tx, by, *next)
}

func insert(ctx context.Context, tx pgx.Tx, by audit.Actor, v Version) error {
	_, err := tx.Exec(ctx, `
		insert into ops.runbook_versions (slug, number, markdown, author, operator_id, note, at, base, removed)
		values ($1, $2, $3, $4, $5, $6, $7, $8, $9)`,
		v.Slug, v.Number, v.Markdown, by.Name, by.OperatorID, v.Note, v.At, v.Base, v.Removed)
	return err
}

// change runs fn in a transaction in which nobody else changes the procedure,
// with its last version.
func (s *Store) change(ctx context.Context, slug string, fn func(tx pgx.Tx, last Version) error) error {
	return s.changeAny(ctx, slug, func(tx pgx.Tx, last Version) error {
		if last.Slug == "" {
			return noProcedure()
		}
		return fn(tx, last)
	})
}

// changeAny is change also for a slug that has no version; last is then zero.
func (s *Store) changeAny(ctx context.Context, slug string, fn func(tx pgx.Tx, last Version) error) error {
	err := postgres.InTx(ctx, s.db, func(tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, `select pg_advisory_xact_lock(hashtext('ops.runbook_versions'), hashtext($1))`, slug); err != nil {
			return err
		}
		last, err := latest(ctx, tx, slug)
		if fault.KindOf(err) == fault.NotFound {
			last, err = Version{}, nil
		}
		if err != nil {
			return err
		}
		return fn(tx, last)
	})
	if conflict, ok := errors.AsType[*Conflict](err); ok {
		return conflict
	}
	if err != nil {
		return postgres.Fault(fmt.Errorf("change procedure: %w", err))
	}
	return nil
}

func note(ctx context.Context, tx pgx.Tx, by audit.Actor, action string, p Procedure, now time.Time, details map[string]any) error {
	if details == nil {
		details = map[string]any{}
	}
	details["version"] = p.Number
	return audit.Add(ctx, tx, audit.Entry{
		At: now, Actor: by, Action: action, SubjectType: "runbook", SubjectID: p.Slug, SubjectLabel: p.Title(), Details: details,
	})
}
