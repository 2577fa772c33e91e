package price

import (
	"context"
	"fmt"
	"net/url"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/promptcademy/promptops/internal/audit"
	"github.com/promptcademy/promptops/internal/fault"
	"github.com/promptcademy/promptops/internal/postgres"
)

// Change is a price to be set.
type Change struct {
	Price
	Corrects int64  // the entry in the place of which it comes; 0: it comes beside the others
	Seen     string // what Seen said when the change was made up: two at once are noticed
}

var (
	errPricesChanged = fault.New(fault.Conflict, "Somebody else has changed the prices of this model meanwhile.")
	errRecomputing   = fault.New(fault.Conflict, "Costs of this model are being recomputed at the moment. Change its prices when that is done.")
	errSeeded        = fault.New(fault.Invalid, "This price came with the program and stays as it is. Set a price of your own: it goes before it.")
	errWithdrawn     = fault.New(fault.Conflict, "This price was removed or corrected by somebody else meanwhile.")
)

// Seen names the state of a model's prices.
func Seen(entries []Entry) string {
	var newest int64
	withdrawn := 0
	for _, e := range entries {
		newest = max(newest, e.ID)
		if e.WithdrawnAt != nil {
			withdrawn++
		}
	}
	return fmt.Sprintf("%d.%d.%d", len(entries), newest, withdrawn)
}

// Set puts a price on the list, for every run that starts from now on, on all nodes.
// It returns the entry's id, and false if there is such a price already. It is
// fault.Conflict when somebody else changed the model's prices since they were seen,
// when there is a price of an operator from the same instant on, or while costs of
// the model are recomputed.
func (s *Store) Set(ctx context.Context, c Change, actor audit.Actor, now time.Time) (id int64, changed bool, err error) {
	err = postgres.InTx(ctx, s.db, func(tx pgx.Tx) error {
		in := Store{tx}
		entries, err := in.lockModel(ctx, tx, c.Provider, c.Model)
		if err != nil {
			return err
		}
		if c.Seen != Seen(entries) {
			return errPricesChanged
		}
		action, details := "price.set", map[string]any{}
		if c.Corrects != 0 {
			old, err := entryIn(ctx, tx, c.Corrects, "for update")
			switch {
			case err != nil:
				return err
			case old.Provider != c.Provider || old.Model != c.Model:
				return errNoEntry
			case old.Seeded:
				return errSeeded
			case old.WithdrawnAt != nil:
				return errWithdrawn
			case old.Values(time.UTC).Encode() == c.Values(time.UTC).Encode():
				id = old.ID
				return nil
			}
			action, details["changes"] = "price.correct", differences(old.Values(time.UTC), c.Values(time.UTC))
			if err := withdraw(ctx, tx, old.ID, actor, now); err != nil {
				return err
			}
		}
		id, changed = 0, true
		if err := tx.QueryRow(ctx, `
			insert into ops.model_prices
			  (provider, model, input, output, cache_read, cache_write_5m, cache_write_1h,
			   tier_above_input_tokens, tier_input, tier_output, tier_cache_read, tier_cache_write_5m, tier_cache_write_1h,
			   context_window, effective_from, effective_to, daily_from, daily_to, source, source_date, note, created_at, created_by)
			values
			  ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14,
			   coalesce($15::timestamptz, '-infinity'), coalesce($16::timestamptz, 'infinity'), $17::interval::time, $18::interval::time,
			   $19, $20, $21, $22, $23)
			returning id`,
			c.Provider, c.Model, c.Input, c.Output, c.CacheRead, c.CacheWrite5m, c.CacheWrite1h,
			c.TierAboveInputTokens, c.TierInput, c.TierOutput, c.TierCacheRead, c.TierCacheWrite5m, c.TierCacheWrite1h,
			c.ContextWindow, c.EffectiveFrom, c.EffectiveTo, c.DailyFrom, c.DailyTo, c.Source, c.SourceDate, c.Note, now, actor.Name,
		).Scan(&id); err != nil {
			if postgres.IsUnique(err, "model_prices_set_key") {
				return fault.New(fault.Conflict, "There is a price of this model from the same instant on already. Correct that one, or choose another instant.")
			}
			return err
		}
		if c.Corrects != 0 {
			if _, err := tx.Exec(ctx, `update ops.model_prices set replaced_by = $2 where id = $1`, c.Corrects, id); err != nil {
				return err
			}
		}
		details["price"] = flat(c.Values(time.UTC))
		return audit.Add(ctx, tx, audit.Entry{
			At: now, Actor: actor, Action: action, SubjectType: "price", SubjectID: fmt.Sprint(id), SubjectLabel: c.Provider + "/" + c.Model, Details: details,
		})
	})
	if err != nil {
		return 0, false, postgres.Fault(err)
	}
	return id, changed, nil
}

// Withdraw takes a price that an operator set off the list. typed has to be the
// model's full name. Attempts that it priced keep what they cost, and can still show
// it, until they are recomputed.
func (s *Store) Withdraw(ctx context.Context, id int64, typed string, actor audit.Actor, now time.Time) (Entry, error) {
	var old Entry
	err := postgres.InTx(ctx, s.db, func(tx pgx.Tx) (err error) {
		if old, err = entryIn(ctx, tx, id, ""); err != nil {
			return err
		}
		in := Store{tx}
		if _, err := in.lockModel(ctx, tx, old.Provider, old.Model); err != nil {
			return err
		}
		if old, err = entryIn(ctx, tx, id, "for update"); err != nil {
			return err
		}
		name := old.Provider + "/" + old.Model
		switch {
		case old.Seeded:
			return errSeeded
		case old.WithdrawnAt != nil:
			return errWithdrawn
		case strings.TrimSpace(typed) != name:
			return fault.InvalidFields([]fault.Field{{Field: "confirm", Message: "must be the model’s name exactly as it is written above"}})
		}
		if err := withdraw(ctx, tx, id, actor, now); err != nil {
			return err
		}
		return audit.Add(ctx, tx, audit.Entry{
			At: now, Actor: actor, Action: "price.remove", SubjectType: "price", SubjectID: fmt.Sprint(id), SubjectLabel: name,
			Details: map[string]any{"price": flat(old.Values(time.UTC))},
		})
	})
	return old, postgres.Fault(err)
}

func withdraw(ctx context.Context, tx pgx.Tx, id int64, actor audit.Actor, now time.Time) error {
	_, err := tx.Exec(ctx, `update ops.model_prices set withdrawn_at = $2, withdrawn_by = $3 where id = $1`, id, now, actor.Name)
	return err
}

// lockModel makes whoever changes a model's prices or recomputes its costs take
// turns, and returns its prices.
func (s *Store) lockModel(ctx context.Context, tx pgx.Tx, provider, model string) ([]Entry, error) {
	if _, err := tx.Exec(ctx, `select pg_advisory_xact_lock(hashtext('ops.model_prices'))`); err != nil {
		return nil, err
	}
	var running bool
	err := tx.QueryRow(ctx, `
		select exists (select from ops.price_jobs where status = 'running' and not preview and provider = $1 and model = $2)`, provider, model).Scan(&running)
	if err != nil {
		return nil, err
	}
	if running {
		return nil, errRecomputing
	}
	return s.History(ctx, provider, model)
}

// flat is one value of each field, for the audit log.
func flat(values url.Values) map[string]string {
	all := make(map[string]string, len(values))
	for field := range values {
		all[field] = values.Get(field)
	}
	return all
}

func differences(before, after url.Values) map[string]audit.Change {
	changes := map[string]audit.Change{}
	for _, values := range []url.Values{before, after} {
		for field := range values {
			if was, is := before.Get(field), after.Get(field); was != is {
				changes[field] = audit.Change{From: was, To: is}
			}
		}
	}
	return changes
}
