package rollup

import (
	"context"
	"slices"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
)

// Known are the periods of a stretch of time whose sums hold. It is true of the
// snapshot in which it was read: use it in the same repeatable-read transaction.
type Known struct {
	periods []summed // by start, the longest first
}

type summed struct {
	id       int64
	level    Level
	from, to time.Time
	at       time.Time // when it was summed
}

// Read is Periods.Read where nothing is worth remembering.
func Read(ctx context.Context, tx pgx.Tx, zone *time.Location, from, to time.Time) (Known, error) {
	return new(Periods).Read(ctx, tx, zone, from, to)
}

// Periods remembers which periods are summed for as long as they are the same, since
// every page asks several times. The zero value knows nothing yet.
type Periods struct {
	mu     sync.Mutex
	state  state
	byZone map[string][]summed
}

// state tells apart what is summed: see migrations/0022.
type state struct {
	last, periods int64
	at            int64
}

// Read finds out which sums between from and to hold, of the days of a zone and of
// shorter periods.
func (p *Periods) Read(ctx context.Context, tx pgx.Tx, zone *time.Location, from, to time.Time) (known Known, err error) {
	var last *int64
	var at *time.Time
	var now state
	var marked []time.Time
	if err := tx.QueryRow(ctx, `select last, periods, summed_at, marked from public.usage_state()`).Scan(&last, &now.periods, &at, &marked); err != nil {
		return Known{}, err
	}
	if last == nil {
		return Known{}, nil
	}
	now.last, now.at = *last, at.UnixMicro()
	all, found := p.remembered(now, zone.String())
	if !found {
		if all, err = readPeriods(ctx, tx, zone); err != nil {
			return Known{}, err
		}
		p.remember(now, zone.String(), all)
	}
	for _, s := range all {
		if !s.from.Before(from) && !s.to.After(to) && !s.marked(marked) {
			known.periods = append(known.periods, s)
		}
	}
	return known, nil
}

func (p *Periods) remembered(now state, zone string) ([]summed, bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.state != now {
		return nil, false
	}
	all, found := p.byZone[zone]
	return all, found
}

func (p *Periods) remember(now state, zone string, all []summed) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.state != now || p.byZone == nil {
		p.state, p.byZone = now, map[string][]summed{}
	}
	p.byZone[zone] = all
}

func readPeriods(ctx context.Context, tx pgx.Tx, zone *time.Location) (all []summed, err error) {
	rows, err := tx.Query(ctx, `
		select id, level, starts_at, ends_at, summed_at from public.usage_periods($1)
		order by starts_at, ends_at desc`, zone.String())
	if err != nil {
		return nil, err
	}
	var s summed
	_, err = pgx.ForEachRow(rows, []any{&s.id, &s.level, &s.from, &s.to, &s.at}, func() error {
		all = append(all, s)
		return nil
	})
	return all, err
}

// marked says whether one of some marks, which are in order, is in a period.
func (s summed) marked(slots []time.Time) bool {
	at, _ := slices.BinarySearchFunc(slots, s.from.Add(-slotLength), func(slot, from time.Time) int {
		if slot.After(from) {
			return 1
		}
		return -1
	})
	return at < len(slots) && slots[at].Before(s.to)
}

// Plan says how to read some buckets of time exactly and with little work: sums of
// periods, and the rows of the rest. No moment is in it twice.
type Plan struct {
	Periods []int64     // ids of ops.usage_periods
	Buckets []int32     // in which each of them is, from 1
	From    []time.Time // rows to take: created_at >= From[i] and < To[i]
	To      []time.Time

	sums []summed // that Periods are the ids of
}

// mostSpans is how many spans of rows are worth reading one by one.
const mostSpans = 40

// Rows is the plan that reads every row.
func Rows(from, to time.Time) Plan {
	return Plan{From: []time.Time{from}, To: []time.Time{to}}
}

// Plan covers the buckets between boundaries with the fewest sums of a kind; of none
// where it is "".
func (k Known) Plan(kind Kind, boundaries []time.Time) Plan {
	if kind == "" {
		return Rows(boundaries[0], boundaries[len(boundaries)-1])
	}
	var plan Plan
	for i := range len(boundaries) - 1 {
		plan.cover(k.periods, kind, int32(i+1), boundaries[i], boundaries[i+1])
	}
	if len(plan.From) > mostSpans { // very much has just changed
		return Rows(boundaries[0], boundaries[len(boundaries)-1])
	}
	return plan
}

func (p *Plan) cover(periods []summed, kind Kind, bucket int32, from, to time.Time) {
	at, _ := slices.BinarySearchFunc(periods, from, func(s summed, t time.Time) int { return s.from.Compare(t) })
	for ; at < len(periods) && periods[at].from.Before(to); at++ {
		s := periods[at]
		if s.from.Before(from) || s.to.After(to) || !s.level.has(kind) {
			continue // within what is taken already, too long, or without such sums
		}
		p.rows(from, s.from)
		p.sums, p.Periods, p.Buckets = append(p.sums, s), append(p.Periods, s.id), append(p.Buckets, bucket)
		from = s.to
	}
	p.rows(from, to)
}

// rows adds a span to read row by row. Spans that meet become one.
func (p *Plan) rows(from, to time.Time) {
	if !from.Before(to) {
		return
	}
	if last := len(p.To) - 1; last >= 0 && p.To[last].Equal(from) {
		p.To[last] = to
		return
	}
	p.From, p.To = append(p.From, from), append(p.To, to)
}
