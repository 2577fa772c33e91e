package usage

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"
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
	after, before := s.source(q, learner), s.source(q.Previous(), learner)
	many := q.Group == ByLearner && q.days() > MostDaysOfLearners
	if (many || after.kind(set{group: true}) == "") && !after.few() {
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
		var sides [2]tallies
		for i, src := range []source{before, after} {
			c := s.newCount(src, known, []time.Time{src.q.From, src.q.To})
			c.ask(set{group: true}, []string{"cost"}, nil, false)
			if err := c.send(ctx, tx); err != nil {
				return err
			}
			sides[i] = c.found[set{group: true}]
		}
		moved.compare(sides[0], sides[1])
		return nil
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

// compare finds the groups that moved most.
func (m *Moved) compare(before, after tallies) {
	add := func(id string, before, after price.USD) {
		one := Mover{ID: id, Before: before, After: after}
		switch one.Change().Cmp(price.USD{}) {
		case 1:
			m.Up = insertMover(m.Up, one, func(a, b Mover) int { return cmp.Or(b.Change().Cmp(a.Change()), strings.Compare(a.ID, b.ID)) })
		case -1:
			m.Down = insertMover(m.Down, one, func(a, b Mover) int { return cmp.Or(a.Change().Cmp(b.Change()), strings.Compare(a.ID, b.ID)) })
		}
	}
	for k, t := range after {
		var was price.USD
		if old := before[k]; old != nil {
			was = old.Cost
		}
		add(k.group, was, t.Cost)
	}
	for k, t := range before {
		if after[k] == nil {
			add(k.group, t.Cost, price.USD{})
		}
	}
}

// insertMover keeps the first MostMovers in order.
func insertMover(movers []Mover, one Mover, order func(a, b Mover) int) []Mover {
	at, _ := slices.BinarySearchFunc(movers, one, order)
	movers = slices.Insert(movers, at, one)
	return movers[:min(len(movers), MostMovers)]
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
