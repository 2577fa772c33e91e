package activity

import (
	"context"
	"slices"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/promptcademy/promptops/internal/period"
)

// plan says how to count exactly and with little work: which days are taken from
// what Keeper counted, and which rows are read. It holds for the snapshot in which
// it was made.
type plan struct {
	zone     string
	epoch    uuid.UUID   // of what is counted
	round    int64       // until which it is
	accounts string      // names what is visible of accounts; "": nothing may be remembered of it
	first    period.Day  // of the days that are looked at
	starts   []time.Time // of those days, and the end of the last one
	counted  daySet      // the days that are taken from what is counted, at least their beginning
	sums     []part      // the months, weeks and days of the period whose sums are taken
	every    []part      // days of the period and of the one before it that are counted
	from, to []time.Time // rows to read; the last ones have no end
	marked   []time.Time // quarters of an hour in which something has just changed
}

// part is a period that is counted: a month, a week, or a day, of which today is counted
// until its end only.
type part struct {
	Whole            string
	StartsAt, EndsAt time.Time
	Round            int64
	going            bool // it is a day that is not over
}

// endOfTime is later than everything.
func endOfTime() time.Time { return time.Date(9999, time.January, 1, 0, 0, 0, 0, time.UTC) }

// planRows is the plan that reads rows only.
func planRows(q Query) plan {
	first, last := q.scanned()
	starts := period.Starts(first, last, q.Zone)
	return plan{zone: q.Zone.String(), first: first, starts: starts, from: starts[:1], to: []time.Time{endOfTime()}}
}

// newPlan plans for what is counted at this moment.
func newPlan(ctx context.Context, tx pgx.Tx, q Query, now time.Time) (plan, error) {
	p := planRows(q)
	if numberOf(p.first) < 0 {
		return p, nil
	}
	// Whoever reads in a transaction that writes sees more than marks tell.
	if err := tx.QueryRow(ctx, `
		select epoch, round, case when accounts is null or pg_current_xact_id_if_assigned() is not null then '' else
		  concat_ws(' ', epoch, accounts, (select string_agg(xid::text, ' ' order by xid) from ops.account_marks)) end
		from ops.activity_round`).Scan(&p.epoch, &p.round, &p.accounts); err != nil {
		return plan{}, err
	}
	rows, err := tx.Query(ctx, `select distinct slot from ops.activity_marks order by slot`)
	if err != nil {
		return plan{}, err
	}
	if p.marked, err = pgx.CollectRows(rows, pgx.RowTo[time.Time]); err != nil {
		return plan{}, err
	}
	rows, err = tx.Query(ctx, `
		select whole, starts_at, ends_at, round from ops.activity_periods
		where zone = $1 and starts_at >= $2
		order by starts_at`, p.zone, p.starts[0])
	if err != nil {
		return plan{}, err
	}
	found, err := pgx.CollectRows(rows, pgx.RowToStructByName[part])
	if err != nil {
		return plan{}, err
	}
	counted := map[string]map[int64]part{"day": {}, "month": {}, "week": {}} // by their beginning
	before, _ := q.Before()
	for _, f := range found {
		switch {
		case p.isMarked(f.StartsAt, f.EndsAt):
		case f.Whole == "day":
			f.going = f.EndsAt.Before(period.DayOf(f.StartsAt, q.Zone).Plus(1).Start(q.Zone))
			counted["day"][f.StartsAt.Unix()] = f
			if !f.StartsAt.Before(before) && f.StartsAt.Before(q.To) {
				p.every = append(p.every, f)
			}
		case !f.StartsAt.Before(q.From) && !f.EndsAt.After(q.To):
			counted[f.Whole][f.StartsAt.Unix()] = f
		}
	}
	// A month rather than its weeks and days, and a week that is in no month rather
	// than its days.
	for day := q.FirstDay(); day.Until(q.LastDay()) >= 0; {
		start := day.Start(q.Zone).Unix()
		month, isMonth := counted["month"][start]
		week, isWeek := counted["week"][start]
		switch {
		case isMonth:
			p.sums, day = append(p.sums, month), monthOf(day.Plus(31))
		case isWeek && !crossesMonth(day, counted["month"], q.Zone):
			p.sums, day = append(p.sums, week), day.Plus(weekDays)
		default:
			if one, ok := counted["day"][start]; ok {
				p.sums = append(p.sums, one)
			}
			day = day.Plus(1)
		}
	}
	p.from, p.to = nil, nil
	last := later(period.DayOf(now, q.Zone), q.LastDay())
	for day := p.first; day.Until(last) >= 0; day = day.Plus(1) {
		start, end := day.Start(q.Zone), day.Plus(1).Start(q.Zone)
		if one, ok := counted["day"][start.Unix()]; ok {
			if i := p.first.Until(day); i < min(len(p.starts)-1, horizon) {
				p.counted.add(i)
			}
			start = one.EndsAt
		}
		p.rows(start, end)
	}
	p.rows(last.Plus(1).Start(q.Zone), endOfTime())
	return p, nil
}

// crossesMonth says whether one of the months begins within a week.
func crossesMonth(monday period.Day, months map[int64]part, zone *time.Location) bool {
	month := monthOf(monday.Plus(weekDays - 1))
	_, counted := months[month.Start(zone).Unix()]
	return monday.Until(month) > 0 && counted
}

// isMarked says whether something has just changed in a span of time.
func (p *plan) isMarked(from, to time.Time) bool {
	at, _ := slices.BinarySearchFunc(p.marked, from.Add(-markLength), func(slot, from time.Time) int {
		if slot.After(from) {
			return 1
		}
		return -1
	})
	return at < len(p.marked) && p.marked[at].Before(to)
}

// rows adds a span of rows to read. Spans that meet become one.
func (p *plan) rows(from, to time.Time) {
	if !from.Before(to) {
		return
	}
	if last := len(p.to) - 1; last >= 0 && p.to[last].Equal(from) {
		p.to[last] = to
		return
	}
	p.from, p.to = append(p.from, from), append(p.to, to)
}

// runIDs are where the ids of the runs of each span begin and end.
func (p *plan) runIDs() (from, to []uuid.UUID) {
	for i := range p.from {
		from, to = append(from, firstID(p.from[i])), append(to, firstID(p.to[i]))
	}
	return from, to
}
