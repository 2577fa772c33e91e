package usage

import (
	"cmp"
	"context"
	"iter"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/promptcademy/promptops/internal/memo"
	"github.com/promptcademy/promptops/internal/rollup"
)

// count counts sets of a query, of the same buckets and at the same moment.
type count struct {
	source
	memory     *memory
	known      rollup.Known
	boundaries []time.Time
	found      map[set]tallies

	batch *pgx.Batch
	spans []spans      // whose rows are to be read with the next batch
	read  map[set]bool // sets whose rows askRows has asked for

	ranked []answer // lists of groups, the largest first
}

// spans are stretches of time of which rows are read, once for several sets.
type spans struct {
	rollup.Part
	sets []wanted
	only []string
}

// wanted is a set that is to be counted from rows.
type wanted struct {
	set
	columns   []string // nil: all
	durations bool
}

func (s *Store) newCount(src source, known rollup.Known, boundaries []time.Time) *count {
	return &count{source: src, memory: s.memory, known: known, boundaries: boundaries, found: map[set]tallies{}, batch: &pgx.Batch{}, read: map[set]bool{}}
}

func (c *count) parts(of set) []rollup.Part {
	if of.bucket {
		return c.known.Parts(c.kind(of), c.boundaries)
	}
	return c.known.Parts(c.kind(of), []time.Time{c.q.From, c.q.To})
}

// ask asks for a set with the next batch: for some columns (nil is all) of some
// groups (likewise), and whether for durations.
func (c *count) ask(of set, columns, only []string, durations bool) {
	only = slices.Clone(only)
	slices.Sort(only) // the same ones are the same question
	for _, part := range c.parts(of) {
		if len(part.Periods) > 0 {
			c.askSums(of, part, columns, only, durations)
		}
		if !c.read[of] {
			c.wantRows(wanted{of, columns, durations}, part, only)
		}
	}
}

// rank asks for what the groups are compared by: largest has the answer.
func (c *count) rank(columns []string) {
	for _, part := range c.parts(set{group: true}) {
		if c.read[set{group: true}] {
			part.From, part.To, part.RowsVersion = nil, nil, ""
		}
		c.rankPart(part, columns)
	}
}

func (c *count) rankPart(part rollup.Part, columns []string) {
	var statements []statement
	if len(part.Periods) > 0 {
		statements = append(statements, c.sums(set{group: true}, part.Plan, columns, nil, false))
	}
	if len(part.From) > 0 {
		statements = append(statements, c.rows([]wanted{{set{group: true}, columns, false}}, part.From, part.To, c.boundaries, nil))
	}
	asked, repeatable := c.source.ask(part.Version+part.RowsVersion, statements...)
	if repeatable {
		if sorted, known := c.memory.Get(asked); known {
			c.ranked = append(c.ranked, sorted)
			return
		}
	}
	var cells []Cell
	for i, st := range statements {
		c.batch.Queue(st.sql, st.args...).Query(func(rows pgx.Rows) error {
			some, err := pgx.CollectRows(rows, pgx.RowToStructByNameLax[cellOfSet])
			for _, cell := range some {
				cells = append(cells, cell.Cell)
			}
			if err != nil || i < len(statements)-1 {
				return err
			}
			sorted := rankedBy(c.q.Metric, cells)
			if repeatable {
				c.memory.Put(asked, sorted)
			}
			c.ranked = append(c.ranked, sorted)
			return nil
		})
	}
}

// largest are the largest of the groups that rank asked for. There may be very many:
// of the longest list are looked at only the first ones, and those of which
// there is something elsewhere.
func (c *count) largest(most int) (parts []part, count int) {
	groups := set{group: true}
	slices.SortFunc(c.ranked, func(a, b answer) int { return cmp.Compare(len(b), len(a)) })
	for _, a := range c.ranked[min(1, len(c.ranked)):] {
		c.into(groups, a.all(), a.about())
	}
	left := 0
	if len(c.ranked) > 0 {
		known := map[string]bool{}
		for k := range c.found[groups] {
			known[k.group] = true
		}
		var some iter.Seq[Cell]
		some, left = c.ranked[0].first(most, known)
		c.into(groups, some, most+len(known))
	}
	parts, count = c.found[groups].largest(c.q.Metric, most)
	return parts, count + left
}

// askRows asks for all rows of a set and once for all: whatever is asked of it later,
// with whatever columns, is what sums have to add.
func (c *count) askRows(of set, columns []string, durations bool) {
	for _, part := range c.parts(of) {
		c.wantRows(wanted{of, columns, durations}, part, nil)
	}
	c.read[of] = true
}

// alongside says whether the rows of a set have to be read for the groups anyway, or
// there is no index for some groups of them.
func (c *count) alongside(of set) bool {
	return !c.indexed() || slices.EqualFunc(c.parts(of), c.parts(set{group: true}), func(a, b rollup.Part) bool { return sameRows(a.Plan, b.Plan) })
}

// indexed says whether there is an index for the rows of some groups.
func (c *count) indexed() bool { return c.q.Group == ByTeam || c.q.Group == ByLearner }

func (c *count) askSums(of set, part rollup.Part, columns, only []string, durations bool) {
	st := c.sums(of, part.Plan, columns, only, durations)
	asked, repeatable := c.source.ask(part.Version, st)
	if repeatable {
		if cells, known := c.memory.Get(asked); known {
			c.into(of, cells.all(), cells.about())
			return
		}
	}
	c.batch.Queue(st.sql, st.args...).Query(func(rows pgx.Rows) error {
		cells, err := pgx.CollectRows(rows, pgx.RowToStructByNameLax[Cell])
		if err == nil && repeatable {
			c.memory.Put(asked, answerOf(cells))
		}
		c.into(of, slices.Values(cells), len(cells))
		return err
	})
}

func sameRows(a, b rollup.Plan) bool {
	return slices.EqualFunc(a.From, b.From, time.Time.Equal) && slices.EqualFunc(a.To, b.To, time.Time.Equal)
}

func (c *count) wantRows(want wanted, part rollup.Part, only []string) {
	if len(part.From) == 0 {
		return
	}
	if asked, repeatable := c.askOfRows(part, want, only); repeatable {
		if cells, known := c.memory.Get(asked); known {
			c.into(want.set, cells.all(), cells.about())
			return
		}
	}
	for i, s := range c.spans {
		if s.RowsVersion == part.RowsVersion && sameRows(s.Plan, part.Plan) && slices.Equal(s.only, only) {
			c.spans[i].sets = append(s.sets, want)
			return
		}
	}
	c.spans = append(c.spans, spans{part, []wanted{want}, only})
}

// askOfRows is the question for one set of rows, whichever are read along with it.
func (c *count) askOfRows(part rollup.Part, of wanted, only []string) (memo.Key, bool) {
	if part.RowsVersion == "" {
		return memo.Key{}, false
	}
	return c.source.ask(part.RowsVersion, c.rows([]wanted{of}, part.From, part.To, c.boundaries, only))
}

// send asks the database.
func (c *count) send(ctx context.Context, tx pgx.Tx) error {
	for _, s := range c.spans {
		st := c.rows(s.sets, s.From, s.To, c.boundaries, s.only)
		c.batch.Queue(st.sql, st.args...).Query(func(rows pgx.Rows) error {
			found, err := pgx.CollectRows(rows, pgx.RowToStructByNameLax[cellOfSet])
			if err == nil {
				c.intoAll(s, found)
			}
			return err
		})
	}
	batch := c.batch
	c.batch, c.spans = &pgx.Batch{}, nil
	if batch.Len() == 0 {
		return nil
	}
	return tx.SendBatch(ctx, batch).Close()
}

// intoAll puts what was counted of several sets where it belongs.
func (c *count) intoAll(s spans, found []cellOfSet) {
	cells := map[set][]Cell{}
	for _, cell := range found {
		of := set{cell.ByBucket, cell.ByGroup, cell.BySub}
		cells[of] = append(cells[of], cell.packed())
	}
	for _, want := range s.sets {
		some := cells[want.set]
		for i := range some {
			some[i] = some[i].only(want)
		}
		c.into(want.set, slices.Values(some), len(some))
		if asked, repeatable := c.askOfRows(s.Part, want, s.only); repeatable {
			c.memory.Put(asked, answerOf(some))
		}
	}
}

func (c *count) into(of set, cells iter.Seq[Cell], about int) {
	if c.found[of] == nil {
		c.found[of] = make(tallies, about)
	}
	for cell := range cells {
		c.found[of].add(of, &cell)
	}
}

// cellOfSet is a cell with the set that it is of, as it is counted from rows.
type cellOfSet struct {
	ByBucket, ByGroup, BySub bool
	Cell
	Durations   []int32 // ms; of the attempts that were ok
	FirstTokens []int32
}

func (c cellOfSet) packed() Cell {
	c.Latency, c.FirstToken = rollup.Pack(c.Durations), rollup.Pack(c.FirstTokens)
	return c.Cell
}

// only is what was wanted of a cell: it may have been counted along with others, of
// which more was.
func (c Cell) only(want wanted) Cell {
	if !want.durations {
		c.Latency, c.FirstToken = nil, nil
	}
	if want.columns == nil {
		return c
	}
	less := Cell{Bucket: c.Bucket, Grp: c.Grp, Sub: c.Sub, Latency: c.Latency, FirstToken: c.FirstToken}
	for _, m := range measures() {
		switch {
		case !slices.Contains(want.columns, m.name):
		case m.count != nil:
			*m.count(&less) = *m.count(&c)
		default:
			*m.money(&less) = *m.money(&c)
		}
	}
	return less
}
