package price

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/promptcademy/promptops/internal/fault"
	"github.com/promptcademy/promptops/internal/postgres"
)

// Entry is a Price with where it came from, and what became of it.
type Entry struct {
	Price
	CreatedAt   time.Time
	CreatedBy   string     // who set it; "" for what came with the program
	WithdrawnAt *time.Time // nil: it is on the list
	WithdrawnBy string
	ReplacedBy  *int64 // the entry that corrects it
}

const entryColumns = columns + `, created_at, created_by, withdrawn_at, withdrawn_by, replaced_by`

// History returns every entry that a model has or had: first those that go before
// the others, then those that were withdrawn, the latest first.
func (s *Store) History(ctx context.Context, provider, model string) ([]Entry, error) {
	rows, err := s.db.Query(ctx, `select`+entryColumns+` from ops.model_prices where provider = $1 and model = $2`, provider, model)
	if err != nil {
		return nil, postgres.Fault(fmt.Errorf("read prices of a model: %w", err))
	}
	entries, err := pgx.CollectRows(rows, pgx.RowToStructByName[Entry])
	if err != nil {
		return nil, postgres.Fault(fmt.Errorf("read prices of a model: %w", err))
	}
	slices.SortFunc(entries, func(a, b Entry) int {
		switch {
		case a.WithdrawnAt != nil && b.WithdrawnAt != nil:
			return cmp.Or(b.WithdrawnAt.Compare(*a.WithdrawnAt), cmp.Compare(b.ID, a.ID))
		case a.WithdrawnAt != nil:
			return 1
		case b.WithdrawnAt != nil:
			return -1
		}
		return cmp.Or(beforeInBook(a.Price, b.Price), cmp.Compare(a.ID, b.ID))
	})
	return entries, nil
}

// All returns every entry on the list, by provider and model.
func (s *Store) All(ctx context.Context) ([]Entry, error) {
	rows, err := s.db.Query(ctx, `
		select`+entryColumns+`
		from ops.model_prices where withdrawn_at is null
		order by provider, model, seeded, daily_from nulls last, effective_from desc`)
	if err != nil {
		return nil, postgres.Fault(fmt.Errorf("read all prices: %w", err))
	}
	entries, err := pgx.CollectRows(rows, pgx.RowToStructByName[Entry])
	return entries, postgres.Fault(err)
}

// Entry returns one entry. It is fault.NotFound if there is none.
func (s *Store) Entry(ctx context.Context, id int64) (Entry, error) {
	entry, err := entryIn(ctx, s.db, id, "")
	return entry, postgres.Fault(err)
}

func entryIn(ctx context.Context, db postgres.DB, id int64, lock string) (Entry, error) {
	rows, err := db.Query(ctx, `select`+entryColumns+` from ops.model_prices where id = $1 `+lock, id)
	if err != nil {
		return Entry{}, err
	}
	found, err := pgx.CollectRows(rows, pgx.RowToStructByName[Entry])
	if err == nil && len(found) == 0 {
		return Entry{}, errNoEntry
	}
	if err != nil {
		return Entry{}, err
	}
	return found[0], nil
}

var errNoEntry = fault.New(fault.NotFound, "There is no such price.")

// Listed is a model on the price list.
type Listed struct {
	Provider, Model string
	Now             []Price // see Book.Holding; empty: none at the moment
	Entries         int     // that it has, those included which hold at other times
}

// FullName is the model as runs ask for it.
func (l Listed) FullName() string { return l.Provider + "/" + l.Model }

// Models returns every model of the Book, by provider and name.
func (b *Book) Models(at time.Time) []Listed {
	models := make([]Listed, 0, len(b.prices))
	for name, prices := range b.prices {
		models = append(models, Listed{name.provider, name.model, b.Holding(name.provider, name.model, at), len(prices)})
	}
	slices.SortFunc(models, func(a, b Listed) int {
		return cmp.Or(cmp.Compare(a.Provider, b.Provider), cmp.Compare(a.Model, b.Model))
	})
	return models
}
