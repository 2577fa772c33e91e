package view

import (
	"context"
	"errors"
	"slices"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/promptcademy/promptops/internal/audit"
	"github.com/promptcademy/promptops/internal/fault"
	"github.com/promptcademy/promptops/internal/postgres"
)

// Store keeps views in ops.saved_views. What is done to a view that others see is in
// the audit log; a private one concerns nobody else.
type Store struct {
	db postgres.DB
}

// NewStore returns a Store on db.
func NewStore(db postgres.DB) *Store { return &Store{db} }

// mine are the views that $1 may open, $2 saying whether they are an admin.
const mine = `v.deleted_at is null and (v.operator_id = $1 or v.shared and $2)`

// List returns the views of a page that the viewer may open, by name, and those of
// their own that can be taken back.
func (s *Store) List(ctx context.Context, w Viewer, page string, now time.Time) (views, deleted []View, err error) {
	rows, err := s.db.Query(ctx, `
		select v.id, v.page, v.name, v.query, v.shared, v.operator_id = $1 as own, coalesce(nullif(o.name, ''), o.email) as owner,
		       coalesce(d.view_id = v.id, false) as "default", v.deleted_at is not null as gone
		from ops.saved_views v
		join ops.operators o on o.id = v.operator_id
		left join ops.default_views d on d.operator_id = $1 and d.page = v.page
		where v.page = $3 and (`+mine+` or v.operator_id = $1 and v.deleted_at > $4)
		order by lower(v.name), v.id`, w.OperatorID, w.Admin, page, now.Add(-Kept))
	if err != nil {
		return nil, nil, postgres.Fault(err)
	}
	type row struct {
		View
		Gone bool
	}
	all, err := pgx.CollectRows(rows, pgx.RowToStructByName[row])
	for _, r := range all {
		if r.Gone {
			deleted = append(deleted, r.View)
		} else {
			views = append(views, r.View)
		}
	}
	return views, deleted, postgres.Fault(err)
}

// Default returns the query with which a page opens for the viewer, false if it opens
// without one.
func (s *Store) Default(ctx context.Context, w Viewer, page string) (query string, ok bool, err error) {
	err = s.db.QueryRow(ctx, `
		select v.query
		from ops.default_views d join ops.saved_views v on v.id = d.view_id
		where d.operator_id = $1 and d.page = $3 and v.page = $3 and `+mine, w.OperatorID, w.Admin, page).Scan(&query)
	if errors.Is(err, pgx.ErrNoRows) {
		return "", false, nil
	}
	return query, err == nil && query != "", postgres.Fault(err)
}

// Save keeps a view. It is fault.Invalid without a name, fault.Conflict when there is
// one of that name already, and fault.Forbidden when it is to be shared by who may
// not.
func (s *Store) Save(ctx context.Context, w Viewer, n New, actor audit.Actor, now time.Time) (uuid.UUID, error) {
	name, err := named(n.Name)
	switch {
	case err != nil:
		return uuid.Nil, err
	case !slices.Contains(Pages, n.Page) || len(n.Query) > maxQuery:
		return uuid.Nil, fault.New(fault.Invalid, "These filters cannot be saved.")
	case n.Shared && !w.Admin:
		return uuid.Nil, errNotShared
	}
	id := uuid.New()
	err = postgres.InTx(ctx, s.db, func(tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, `delete from ops.saved_views where deleted_at < $1`, now.Add(-Kept)); err != nil {
			return err
		}
		var have int
		if err := tx.QueryRow(ctx, `
			select count(*) from ops.saved_views where operator_id = $1 and page = $2 and deleted_at is null`, w.OperatorID, n.Page).Scan(&have); err != nil {
			return err
		}
		if have >= mostViews {
			return errTooMany
		}
		if _, err := tx.Exec(ctx, `
			insert into ops.saved_views (id, operator_id, page, name, query, shared, created_at) values ($1, $2, $3, $4, $5, $6, $7)`,
			id, w.OperatorID, n.Page, name, n.Query, n.Shared, now); err != nil {
			return taken(err)
		}
		if n.Default {
			if err := setDefault(ctx, tx, w, n.Page, id); err != nil {
				return err
			}
		}
		return note(ctx, tx, n.Shared, "view.share", View{ID: id, Page: n.Page, Name: name, Query: n.Query}, actor, now)
	})
	return id, postgres.Fault(err)
}

var errNotShared = fault.New(fault.Forbidden, "Only admins share views.")

func taken(err error) error {
	if postgres.IsUnique(err, "saved_views_name_key") {
		return errTaken
	}
	return err
}

func note(ctx context.Context, tx pgx.Tx, concerns bool, action string, v View, actor audit.Actor, now time.Time) error {
	if !concerns {
		return nil
	}
	return audit.Add(ctx, tx, audit.Entry{
		At: now, Actor: actor, Action: action, SubjectType: "view", SubjectID: v.ID.String(), SubjectLabel: v.Name, Details: map[string]any{"opens": v.Href()},
	})
}

// own is a view of the viewer's, locked.
func own(ctx context.Context, tx pgx.Tx, w Viewer, id uuid.UUID, deleted bool) (View, error) {
	v := View{ID: id, Own: true}
	err := tx.QueryRow(ctx, `
		select page, name, query, shared from ops.saved_views
		where id = $1 and operator_id = $2 and (deleted_at is not null) = $3 for update`, id, w.OperatorID, deleted).Scan(&v.Page, &v.Name, &v.Query, &v.Shared)
	if errors.Is(err, pgx.ErrNoRows) {
		return View{}, errNone
	}
	return v, err
}

// Change gives a view of the viewer's another name, and shares it or no longer.
func (s *Store) Change(ctx context.Context, w Viewer, id uuid.UUID, name string, shared bool, actor audit.Actor, now time.Time) (View, error) {
	name, err := named(name)
	if err != nil {
		return View{}, err
	}
	if shared && !w.Admin {
		return View{}, errNotShared
	}
	var v View
	err = postgres.InTx(ctx, s.db, func(tx pgx.Tx) (err error) {
		if v, err = own(ctx, tx, w, id, false); err != nil {
			return err
		}
		wasShared := v.Shared
		v.Name, v.Shared = name, shared
		if _, err := tx.Exec(ctx, `update ops.saved_views set name = $2, shared = $3 where id = $1`, id, name, shared); err != nil {
			return taken(err)
		}
		action := map[bool]string{true: "view.share", false: "view.unshare"}[shared]
		return note(ctx, tx, wasShared || shared, action, v, actor, now)
	})
	return v, postgres.Fault(err)
}

// SetDefault has a page open with a view for the viewer, or no longer.
func (s *Store) SetDefault(ctx context.Context, w Viewer, id uuid.UUID, on bool) error {
	err := postgres.InTx(ctx, s.db, func(tx pgx.Tx) error {
		var page string
		err := tx.QueryRow(ctx, `select page from ops.saved_views v where `+mine+` and v.id = $3`, w.OperatorID, w.Admin, id).Scan(&page)
		if errors.Is(err, pgx.ErrNoRows) {
			return errNone
		}
		if err != nil {
			return err
		}
		if on {
			return setDefault(ctx, tx, w, page, id)
		}
		_, err = tx.Exec(ctx, `delete from ops.default_views where operator_id = $1 and page = $2 and view_id = $3`, w.OperatorID, page, id)
		return err
	})
	return postgres.Fault(err)
}

func setDefault(ctx context.Context, tx pgx.Tx, w Viewer, page string, id uuid.UUID) error {
	_, err := tx.Exec(ctx, `
		insert into ops.default_views (operator_id, page, view_id) values ($1, $2, $3)
		on conflict (operator_id, page) do update set view_id = excluded.view_id`, w.OperatorID, page, id)
	return err
}

// Delete takes a view of the viewer's away; Restore brings it back for a while.
func (s *Store) Delete(ctx context.Context, w Viewer, id uuid.UUID, actor audit.Actor, now time.Time) error {
	return s.move(ctx, w, id, &now, "view.delete", actor, now)
}

// Restore brings a deleted view back. It is fault.Conflict when there is another of
// its name by now.
func (s *Store) Restore(ctx context.Context, w Viewer, id uuid.UUID, actor audit.Actor, now time.Time) error {
	return s.move(ctx, w, id, nil, "view.restore", actor, now)
}

func (s *Store) move(ctx context.Context, w Viewer, id uuid.UUID, deletedAt *time.Time, action string, actor audit.Actor, now time.Time) error {
	err := postgres.InTx(ctx, s.db, func(tx pgx.Tx) error {
		v, err := own(ctx, tx, w, id, deletedAt == nil)
		if err != nil {
			return err
		}
		if _, err := tx.Exec(ctx, `update ops.saved_views set deleted_at = $2 where id = $1`, id, deletedAt); err != nil {
			return taken(err)
		}
		return note(ctx, tx, v.Shared, action, v, actor, now)
	})
	return postgres.Fault(err)
}
