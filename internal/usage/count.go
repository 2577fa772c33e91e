package usage

import (
	"context"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/promptcademy/promptops/internal/rollup"
)

// count counts sets of a query, of the same buckets and at the same moment.
type count struct {
	source
	known      rollup.Known
	boundaries []time.Time
	found      map[set]tallies

	batch *pgx.Batch
	spans []spans // whose rows are to be read with the next batch
	read  map[set]bool
}

// spans are stretches of time of which rows are read, once for several sets.
type spans struct {
	from, to []time.Time
	sets     []set
	only     []string
}

func newCount(src source, known rollup.Known, boundaries []time.Time) *count {
	return &count{source: src, known: known, boundaries: boundaries, found: map[set]tallies{}, batch: &pgx.Batch{}, read: map[set]bool{}}
}

func (c *count) plan(of set) rollup.Plan {
	kind := c.kind(of)
	if kind == "" {
		return rollup.Rows(c.q.From, c.q.To)
	}
	if of.bucket {
		return c.known.Plan(kind, c.boundaries)
	}
	return c.known.Plan(kind, []time.Time{c.q.From, c.q.To})
}

// ask asks for a set with the next batch: for some columns (nil is all) of some
// groups (likewise), and whether for durations, which rows come with in any case.
func (c *count) ask(of set, columns, only []string, durations bool) {
	plan := c.plan(of)
	if len(plan.Periods) > 0 {
		st := c.sums(of, plan, columns, only, durations)
		c.batch.Queue(st.sql.String(), st.args...).Query(func(rows pgx.Rows) error {
			cells, err := pgx.CollectRows(rows, pgx.RowToStructByName[Cell])
			for _, cell := range cells {
				c.into(of, cell)
			}
			return err
		})
	}
	c.wantRows(of, plan, only)
}

// askRows asks for the rows of a set that is asked for in full later, if they have to
// be read for another set anyway, or there is no index for some groups of them.
func (c *count) askRows(of set) {
	plan := c.plan(of)
	others := c.plan(set{group: true})
	indexed := c.q.Group == ByTeam || c.q.Group == ByLearner
	if !indexed || slices.EqualFunc(plan.From, others.From, time.Time.Equal) && slices.EqualFunc(plan.To, others.To, time.Time.Equal) {
		c.wantRows(of, plan, nil)
	}
}

func (c *count) wantRows(of set, plan rollup.Plan, only []string) {
	if c.read[of] || len(plan.From) == 0 {
		return
	}
	c.read[of] = true
	for i, s := range c.spans {
		if slices.EqualFunc(s.from, plan.From, time.Time.Equal) && slices.EqualFunc(s.to, plan.To, time.Time.Equal) && slices.Equal(s.only, only) {
			c.spans[i].sets = append(s.sets, of)
			return
		}
	}
	c.spans = append(c.spans, spans{plan.From, plan.To, []set{of}, only})
}

// send asks the database.
func (c *count) send(ctx context.Context, tx pgx.Tx) error {
	for _, s := range c.spans {
		st := c.rows(s.sets, s.from, s.to, c.boundaries, s.only)
		c.batch.Queue(st.sql.String(), st.args...).Query(func(rows pgx.Rows) error {
			cells, err := pgx.CollectRows(rows, pgx.RowToStructByName[cellOfSet])
			for _, cell := range cells {
				c.into(set{cell.ByBucket, cell.ByGroup, cell.BySub}, cell.Cell)
			}
			return err
		})
	}
	batch := c.batch
	c.batch, c.spans = &pgx.Batch{}, nil
	return tx.SendBatch(ctx, batch).Close()
}

func (c *count) into(of set, one Cell) {
	if c.found[of] == nil {
		c.found[of] = tallies{}
	}
	c.found[of].add(of, one)
}

// cellOfSet is a cell with the set that it is of.
type cellOfSet struct {
	ByBucket, ByGroup, BySub bool
	Cell
}
