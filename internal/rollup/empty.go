package rollup

import (
	"context"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"
)

// Span is a stretch of time.
type Span struct {
	From time.Time
	To   time.Time // before this instant
}

// Sought is what somebody looks for among attempts: such as have sums of a kind for
// which a condition holds.
type Sought struct {
	Kind  Kind
	Where string // on ops.usage_sums s; @names are Args
	Args  pgx.NamedArgs
}

// Among returns the stretches of the time between from and to in which there can be
// attempts with everything that is sought, in their order: all but the periods that
// have no such sum. Like Read, it is true of the snapshot.
func (k Known) Among(ctx context.Context, tx pgx.Tx, all []Sought, from, to time.Time) ([]Span, error) {
	var holding []map[int64]bool
	for _, sought := range all {
		has, err := k.holding(ctx, tx, sought)
		if err != nil {
			return nil, err
		}
		holding = append(holding, has)
	}
	return k.among(func(p summed) bool {
		for i, sought := range all {
			if p.told(sought.Kind) && !holding[i][p.id] {
				return false
			}
		}
		return true
	}, from, to), nil
}

// told says whether it is worth asking what a period has: the shorter ones are only of
// the last hours, which are as quickly looked through.
func (s summed) told(kind Kind) bool { return s.level >= quarterDay && s.level.has(kind) }

// holding are the periods that have what is sought.
func (k Known) holding(ctx context.Context, tx pgx.Tx, sought Sought) (map[int64]bool, error) {
	var ids []int64
	for _, p := range k.periods {
		if p.told(sought.Kind) {
			ids = append(ids, p.id)
		}
	}
	args := pgx.NamedArgs{"periods": ids, "kind": sought.Kind}
	for name, value := range sought.Args {
		args[name] = value
	}
	rows, err := tx.Query(ctx, `
		select distinct s.period_id
		from unnest(@periods::bigint[]) p (id)
		join ops.usage_sums s on s.period_id = p.id
		where s.kind = @kind and s.attempts > 0 and (`+sought.Where+`)`, args)
	if err != nil {
		return nil, err
	}
	found, err := pgx.CollectRows(rows, pgx.RowTo[int64])
	if err != nil {
		return nil, err
	}
	has := make(map[int64]bool, len(found))
	for _, id := range found {
		has[id] = true
	}
	return has, nil
}

// among leaves out the periods that may not hold anything, the longest ones first.
func (k Known) among(may func(summed) bool, from, to time.Time) []Span {
	var left []Span
	add := func(from, to time.Time) {
		if !from.Before(to) {
			return
		}
		if last := len(left) - 1; last >= 0 && left[last].To.Equal(from) {
			left[last].To = to
			return
		}
		left = append(left, Span{from, to})
	}
	at, _ := slices.BinarySearchFunc(k.periods, from, func(s summed, t time.Time) int { return s.from.Compare(t) })
	for ; at < len(k.periods) && k.periods[at].from.Before(to); at++ {
		p := k.periods[at]
		if p.from.Before(from) || p.to.After(to) || p.level < quarterDay || may(p) {
			continue
		}
		add(from, p.from)
		from = p.to
	}
	add(from, to)
	return left
}
