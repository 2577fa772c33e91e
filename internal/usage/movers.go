package usage

import (
	"context"
	"fmt"
	"regexp"
	"strconv"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/promptcademy/promptops/internal/period"
	"github.com/promptcademy/promptops/internal/price"
)

const (
	// MostMovers is how many groups that rose and how many that fell are worth a line.
	MostMovers = 5

	// MostDaysOfLearners is for how many days learners are compared: there are so many
	// that over more it takes too long for a page.
	MostDaysOfLearners = 31
)

// Moved are the groups of a query that cost most more and most less than in as many
// days before, the largest change first; equal ones by ID.
type Moved struct {
	From, To time.Time // of the time before
	Partial  bool      // the query's last day is not over: From to To ends at the same hour
	Up, Down []Mover
}

// Mover is a group that cost more or less than before.
type Mover struct {
	ID     string // of the dimension, as Group has it
	Name   string
	Filter string // how the URL filters by it; "": it cannot
	Before price.USD
	After  price.USD
}

// Change is how much more it cost; negative: less.
func (m Mover) Change() price.USD { return m.After.Sub(m.Before) }

// Movers compares the groups of a query with those of Previous. counted says that it
// did: it does not where that would mean to read everything, or too many learners. It
// fails like Report.
func (s *Store) Movers(ctx context.Context, q Query, now time.Time) (moved Moved, counted bool, err error) {
	q = q.withDefaults()
	learner, err := s.learner(ctx, q.Learner)
	if err != nil {
		return Moved{}, false, fmt.Errorf("compare usage: %w", err)
	}
	after, before := source{q, learner}, source{q.Previous(), learner}
	many := q.Group == ByLearner && q.days() > MostDaysOfLearners
	if (many || after.kind(set{group: true}) == "") && !after.indexed() {
		return Moved{}, false, nil
	}
	if moved.Partial = now.Before(q.To) && !now.Before(q.From); moved.Partial {
		before.q.To = q.sameHourBefore(now)
	}
	moved.From, moved.To = before.q.From, before.q.To
	err = s.read(ctx, func(tx pgx.Tx) error {
		known, err := s.known(ctx, tx, q, before.q.From)
		if err != nil {
			return err
		}
		var all statement
		all.add(`
			with parts as (select ''::text as grp, 0::numeric as before, 0::numeric as after where false`)
		newCount(after, known, []time.Time{after.q.From, after.q.To}).embedCost(&all, "0, cost")
		newCount(before, known, []time.Time{before.q.From, before.q.To}).embedCost(&all, "cost, 0")
		all.add(`),
			groups as (select grp as id, sum(before) as before, sum(after) as after from parts group by grp)
			(select * from groups where after > before order by after - before desc, id collate "C" limit ?)
			union all
			(select * from groups where after < before order by after - before, id collate "C" limit ?)`, MostMovers, MostMovers)
		type line struct {
			ID            string
			Before, After price.USD
		}
		lines, err := collect[line](ctx, tx, all.sql.String(), all.args...)
		for _, l := range lines {
			m := Mover{ID: l.ID, Before: l.Before, After: l.After}
			if l.After.Cmp(l.Before) > 0 {
				moved.Up = append(moved.Up, m)
			} else {
				moved.Down = append(moved.Down, m)
			}
		}
		return err
	})
	if err == nil {
		err = s.nameMovers(ctx, q.Group, moved.Up, moved.Down)
	}
	if err != nil {
		return Moved{}, false, fmt.Errorf("compare usage: %w", err)
	}
	return moved, true, nil
}

// sameHourBefore is as long after the beginning of a day of Previous as now is after
// that of its day; a day that was shorter ends earlier.
func (q Query) sameHourBefore(now time.Time) time.Time {
	today := period.DayOf(now, q.Zone)
	day := today.Plus(-q.days())
	return earlier(day.Start(q.Zone).Add(now.Sub(today.Start(q.Zone))), day.Plus(1).Start(q.Zone))
}

// embedCost adds what each group cost to a statement that began with a select of
// groups; columns are what the two amounts of it are.
func (c *count) embedCost(all *statement, columns string) {
	of := set{group: true}
	plan := c.plan(of)
	if len(plan.Periods) > 0 {
		all.add(` union all select grp, ` + columns + ` from (`)
		all.embed(c.sums(of, plan, []string{"cost"}, nil, false))
		all.add(`) s`)
	}
	if len(plan.From) > 0 {
		all.add(` union all select grp, ` + columns + ` from (`)
		all.embed(c.rows([]set{of}, plan.From, plan.To, c.boundaries, nil))
		all.add(`) r`)
	}
}

var placeholder = regexp.MustCompile(`\$\d+`)

// embed appends a whole statement, whose arguments get new numbers.
func (st *statement) embed(o statement) {
	offset := len(st.args)
	st.sql.WriteString(placeholder.ReplaceAllStringFunc(o.sql.String(), func(number string) string {
		n, _ := strconv.Atoi(number[1:]) // digits only
		return "$" + strconv.Itoa(n+offset)
	}))
	st.args = append(st.args, o.args...)
}

func (s *Store) nameMovers(ctx context.Context, by Dimension, lists ...[]Mover) error {
	var ids []string
	for _, list := range lists {
		for _, m := range list {
			ids = append(ids, m.ID)
		}
	}
	names, err := s.names(ctx, by, ids)
	for _, list := range lists {
		for i := range list {
			list[i].Name, list[i].Filter = names.of(by, list[i].ID)
		}
	}
	return err
}
