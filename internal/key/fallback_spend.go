package key

import (
	"context"
	"errors"
	"slices"
	"sync"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/promptcademy/promptops/internal/price"
)

func isNoRows(err error) bool { return errors.Is(err, pgx.ErrNoRows) }

const spendDays = 7

// spending fills in what the keys have spent, and returns how many attempts found
// no key, by provider.
//
// The month is the counter that the cap is kept by. Today is the same for a day:
// it is nowhere counted by key, so it is added up.
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
	var today []daySpend
	batch.Queue(daySpendQuery, begins[spendDays], begins[spendDays+1], begins[:spendDays+1]).Query(func(rows pgx.Rows) (err error) {
		today, err = pgx.CollectRows(rows, pgx.RowToStructByPos[daySpend])
		return err
	})
	week, from := f.week.find(begins[0], now)
	if from < spendDays {
		batch.Queue(daySpendQuery, begins[from], begins[spendDays], begins[:spendDays+1]).Query(func(rows pgx.Rows) (err error) {
			read, err := pgx.CollectRows(rows, pgx.RowToStructByPos[daySpend])
			week = append(week, read...)
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
	if from < spendDays {
		f.week.keep(begins[0], now, week, from == 0)
	}
	for _, spent := range slices.Concat(week, today) {
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

// daySpend is what a key has spent on a day, and how many attempts found none.
type daySpend struct {
	KeyID    *uuid.UUID
	Provider string
	Day      int // from 1; today is the one after the seven
	USD      *price.USD
	Missing  int
}

const daySpendQuery = `
	select fallback_key_id, provider, width_bucket(created_at, $3::timestamptz[]), sum(cost_usd), count(*) filter (where error_class = 'missing_key')
	from public.prompt_attempts
	where created_at >= $1 and created_at < $2
	  and (key_source = 'fallback' and cost_usd is not null or error_class = 'missing_key')
	group by 1, 2, 3`

// weekMemory remembers the days that are over, of which millions of rows have to be
// read where a platform is busy. Hardly any run ends on the next day, so that for
// yesterday a minute is soon enough to notice, and for the days before it an hour.
type weekMemory struct {
	mu    sync.Mutex
	begin time.Time // of the seven days
	whole time.Time // when all of them were read
	read  time.Time // when yesterday was
	spent []daySpend
}

const (
	weekFresh = time.Minute
	daysFresh = time.Hour
)

// find returns what is known of the days before the day number from, counted from 0:
// that one and those after it have to be read.
func (w *weekMemory) find(begin, now time.Time) (spent []daySpend, from int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	young := func(read time.Time, most time.Duration) bool {
		age := now.Sub(read)
		return w.begin.Equal(begin) && age >= 0 && age < most
	}
	switch {
	case young(w.read, weekFresh) && young(w.whole, daysFresh):
		return slices.Clone(w.spent), spendDays
	case young(w.whole, daysFresh):
		return slices.DeleteFunc(slices.Clone(w.spent), func(s daySpend) bool { return s.Day == spendDays }), spendDays - 1
	default:
		return nil, 0
	}
}

// keep remembers the days; whole says that all of them were read.
func (w *weekMemory) keep(begin, now time.Time, spent []daySpend, whole bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if whole {
		w.whole = now
	}
	w.begin, w.read, w.spent = begin, now, spent
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
