package key

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/promptcademy/promptops/internal/price"
	"github.com/promptcademy/promptops/internal/rollup"
)

func isNoRows(err error) bool { return errors.Is(err, pgx.ErrNoRows) }

const spendDays = 7

// spending fills in what the keys have spent, and returns how many attempts found
// no key, by provider.
//
// The month is the counter that the cap is kept by. Days are nowhere counted by key,
// so they are added up: once for each period that package rollup knows to be over, and
// from the rows for the rest.
func (f *Fallbacks) spending(ctx context.Context, tx pgx.Tx, keys []FallbackKey, now time.Time) (missing map[string]int, err error) {
	begins := f.days(now)
	month := now.In(f.zone).Format("2006-01-") + "01"
	byKey := map[uuid.UUID]*FallbackKey{}
	first := map[uuid.UUID]int{} // of the seven days, the first one to count
	for i := range keys {
		byKey[keys[i].ID] = &keys[i]
		first[keys[i].ID] = dayOf(begins, keys[i].CreatedAt)
	}
	missing = map[string]int{}
	known, err := rollup.Read(ctx, tx, f.zone, begins[0], begins[spendDays+1])
	if err != nil {
		return nil, err
	}
	plan := known.Plan(rollup.Key, begins)
	spends, unread := f.spent.find(plan.Periods)
	var rest []keySpend
	var batch pgx.Batch
	batch.Queue(`
		select subject, used_usd from ops.budget_counters where scope = 'key' and period = $1::date`, month,
	).Query(func(rows pgx.Rows) error {
		var id uuid.UUID
		var usd price.USD
		_, err := pgx.ForEachRow(rows, []any{&id, &usd}, func() error {
			if k := byKey[id]; k != nil {
				k.Spent.Month = usd
			}
			return nil
		})
		return err
	})
	take := func(found pgx.Rows) error {
		some, err := pgx.CollectRows(found, pgx.RowToStructByPos[keySpend])
		rest = append(rest, some...)
		return err
	}
	batch.Queue(`
		select fallback_key_id, provider, width_bucket(created_at, $3::timestamptz[]), `+keySpends+`
		from unnest($1::timestamptz[], $2::timestamptz[]) span (from_at, to_at)
		join public.prompt_attempts a on a.created_at >= span.from_at and a.created_at < span.to_at
		where `+spendsOrMisses+`
		group by 1, 2, 3`, plan.From, plan.To, begins).Query(take)
	if len(unread) > 0 {
		batch.Queue(`
			select p.id, fallback_key_id, provider, 0, `+keySpends+`
			from ops.usage_periods p
			join public.prompt_attempts a on a.created_at >= p.starts_at and a.created_at < p.ends_at
			where p.id = any ($1) and (`+spendsOrMisses+`)
			group by 1, 2, 3`, unread).Query(func(rows pgx.Rows) error {
			var id int64
			var one keySpend
			_, err := pgx.ForEachRow(rows, []any{&id, &one.KeyID, &one.Provider, &one.Day, &one.USD, &one.Missing}, func() error {
				spends[id] = append(spends[id], one)
				return nil
			})
			return err
		})
	}
	// An id of a run begins with its time, which leads to the few of today.
	batch.Queue(`
		select (a ->> 'keyId')::uuid, sum((a ->> 'held')::numeric)
		from public.prompt_runs r, jsonb_array_elements(r.plan -> 'attempts') a
		where r.id >= $1 and r.created_at >= $2 and r.created_at < $3 and r.status = 'running' and a ->> 'held' is not null
		group by 1`, idFrom(begins[spendDays]), begins[spendDays], begins[spendDays+1],
	).Query(func(rows pgx.Rows) error {
		var id *uuid.UUID
		var usd price.USD
		_, err := pgx.ForEachRow(rows, []any{&id, &usd}, func() error {
			if id != nil && byKey[*id] != nil {
				byKey[*id].Spent.Today = byKey[*id].Spent.Today.Add(usd)
			}
			return nil
		})
		return err
	})
	if err := tx.SendBatch(ctx, &batch).Close(); err != nil {
		return nil, err
	}
	f.spent.keep(spends)
	for i, id := range plan.Periods {
		for _, one := range spends[id] {
			one.Day = int(plan.Buckets[i])
			rest = append(rest, one)
		}
	}
	for _, spent := range rest {
		missing[spent.Provider] += spent.Missing
		if spent.KeyID == nil || spent.USD == nil || byKey[*spent.KeyID] == nil {
			continue
		}
		k := byKey[*spent.KeyID]
		if spent.Day > spendDays {
			k.Spent.Today = k.Spent.Today.Add(*spent.USD)
			continue
		}
		k.Spent.Week = k.Spent.Week.Add(*spent.USD)
		first[k.ID] = min(first[k.ID], spent.Day)
	}
	for id, k := range byKey {
		k.Spent.Days = spendDays + 1 - first[id]
	}
	return missing, nil
}

// keySpend is what a key has spent on a day, and how many attempts found none.
type keySpend struct {
	KeyID    *uuid.UUID
	Provider string
	Day      int // from 1; today is the one after the seven
	USD      *price.USD
	Missing  int
}

const (
	keySpends      = `sum(cost_usd), count(*) filter (where error_class = 'missing_key')`
	spendsOrMisses = `key_source = 'fallback' and cost_usd is not null or error_class = 'missing_key'`
)

// periodMemory remembers what was spent in periods of package rollup: eight days can
// be a million rows. What a period holds never changes; where a row of it does, another
// period takes its place.
type periodMemory struct {
	mu    sync.Mutex
	spent map[int64][]keySpend // by the id of the period
}

// find returns what is known of some periods, and which of them are not known.
func (m *periodMemory) find(ids []int64) (spent map[int64][]keySpend, unread []int64) {
	m.mu.Lock()
	defer m.mu.Unlock()
	spent = make(map[int64][]keySpend, len(ids))
	for _, id := range ids {
		if all, known := m.spent[id]; known {
			spent[id] = all
		} else {
			spent[id] = nil
			unread = append(unread, id)
		}
	}
	return spent, unread
}

// keep remembers these periods, and forgets all others.
func (m *periodMemory) keep(spent map[int64][]keySpend) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.spent = spent
}

// days are the beginnings of the seven days before today, of today and of
// tomorrow.
func (f *Fallbacks) days(now time.Time) []time.Time {
	local := now.In(f.zone)
	begins := make([]time.Time, 0, spendDays+2)
	for i := -spendDays; i <= 1; i++ {
		begins = append(begins, dayBegin(f.zone, local.Year(), local.Month(), local.Day()+i))
	}
	return begins
}

// dayBegin is the first instant of a date. Where clocks are put forward at midnight
// that is not midnight.
func dayBegin(zone *time.Location, year int, month time.Month, day int) time.Time {
	date := time.Date(year, month, day, 0, 0, 0, 0, time.UTC)
	at := time.Date(year, month, day, 0, 0, 0, 0, zone)
	if at.Day() != date.Day() { // midnight was left out, and this is before the gap
		_, at = at.ZoneBounds()
	}
	return at
}

// dayOf is the first of these days that began when the key was there, counted
// from 1.
func dayOf(begins []time.Time, created time.Time) int {
	for i, begin := range begins[:spendDays+1] {
		if !begin.Before(created) {
			return i + 1
		}
	}
	return spendDays + 1
}

// idFrom is the smallest id of a run of that time.
func idFrom(at time.Time) uuid.UUID {
	var id uuid.UUID
	ms := at.UnixMilli()
	for i := range 6 {
		id[i] = byte(ms >> (8 * (5 - i)))
	}
	return id
}
