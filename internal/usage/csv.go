package usage

import (
	"context"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/promptcademy/promptops/internal/sheet"
)

// MostInCSV is how many lines a file holds.
const MostInCSV = 100_000

// Line is what one group did in one bucket of time, or one part of it.
type Line struct {
	Start      time.Time
	Group, Sub Value
	Sums
}

// Value is what attempts of a Line have in common.
type Value struct{ ID, Name string }

// Lines are all that happened, group by group, by time; those of all groups and
// not only of the largest. cut says that there are more than MostInCSV. It fails
// like Report.
func (s *Store) Lines(ctx context.Context, q Query) (lines []Line, cut bool, err error) {
	q = q.withDefaults()
	learner, err := s.learner(ctx, q.Learner)
	if err != nil {
		return nil, false, fmt.Errorf("list usage: %w", err)
	}
	all, boundaries := set{bucket: true, group: true, sub: q.Sub != ""}, q.boundaries()
	var found tallies
	err = s.read(ctx, func(tx pgx.Tx) error {
		known, err := s.known(ctx, tx, q, q.From)
		if err != nil {
			return err
		}
		c := s.newCount(s.source(q, learner), known, boundaries)
		c.ask(all, nil, nil, false)
		err = c.send(ctx, tx)
		found = c.found[all]
		return err
	})
	if err != nil {
		return nil, false, fmt.Errorf("list usage: %w", err)
	}
	keys := make([]key, 0, len(found))
	for k, t := range found {
		if t.Attempts > 0 {
			keys = append(keys, k)
		}
	}
	slices.SortFunc(keys, key.compare)
	if cut = len(keys) > MostInCSV; cut {
		keys = keys[:MostInCSV]
	}
	var groups, subs []string
	for _, k := range keys {
		groups, subs = append(groups, k.group), append(subs, k.sub)
	}
	groupNames, err := s.names(ctx, q.Group, sortedUnique(groups, strings.Compare))
	if err != nil {
		return nil, false, err
	}
	subNames, err := s.names(ctx, q.Sub, sortedUnique(subs, strings.Compare))
	if err != nil {
		return nil, false, err
	}
	for _, k := range keys {
		t, line := found[k], Line{Start: boundaries[k.bucket-1], Group: Value{ID: k.group}, Sub: Value{ID: k.sub}}
		line.Group.Name, _ = groupNames.of(q.Group, k.group)
		line.Sub.Name, _ = subNames.of(q.Sub, k.sub)
		line.Sums = Sums{t.Sum, t.runs}
		lines = append(lines, line)
	}
	return lines, cut, nil
}

// WriteCSV writes lines of a query, as RFC 4180 asks for. Amounts have all their
// digits; one that is unknown is empty, not 0.
func WriteCSV(w io.Writer, q Query, lines []Line) error {
	q = q.withDefaults()
	head := []string{map[Bucket]string{Hours: "hour", Days: "date", Weeks: "week"}[q.Bucket]}
	head = append(head, q.Group.columns("")...)
	if q.Sub != "" {
		head = append(head, q.Sub.columns(q.Group)...)
	}
	out := sheet.New(w, append(head, "attempts", "errors",
		"input_tokens", "cached_input_tokens", "cache_write_tokens", "output_tokens", "reasoning_tokens", "total_tokens",
		"cost_usd", "unpriced", "runs", "running", "cancelled", "fallback_attempts", "fallback_cost_usd", "unknown_usage")...)
	for _, l := range lines {
		var cost any
		if known := l.KnownCost(); known != nil {
			cost = *known
		}
		at := l.Start.Format(time.DateOnly)
		if q.Bucket == Hours {
			at = l.Start.Format(time.RFC3339)
		}
		cells := append([]any{at}, q.Group.cells("", l.Group)...)
		if q.Sub != "" {
			cells = append(cells, q.Sub.cells(q.Group, l.Sub)...)
		}
		out.Row(append(cells, l.Attempts, l.Errors,
			l.Input, l.CachedInput, l.CacheWrite, l.Output, l.Reasoning, l.Tokens.Total(),
			cost, l.Unpriced, l.Runs, l.Running, l.Cancelled, l.Fallback, l.FallbackCost, l.UnknownUsage)...)
	}
	return out.End()
}

// columns are the head of a dimension's cells beside those of another one.
func (d Dimension) columns(beside Dimension) []string {
	switch d {
	case ByKey:
		return []string{"key_source"}
	case ByProvider:
		return []string{"provider"}
	case ByModel:
		if beside == ByProvider {
			return []string{"model"}
		}
		return []string{"provider", "model"}
	default:
		return []string{string(d) + "_id", string(d)}
	}
}

func (d Dimension) cells(beside Dimension, v Value) []any {
	switch d {
	case ByKey, ByProvider:
		return []any{v.ID}
	case ByModel:
		if beside == ByProvider {
			return []any{v.ID}
		}
		provider, _, _ := strings.Cut(v.ID, "/")
		return []any{provider, v.ID}
	default:
		return []any{v.ID, v.Name}
	}
}

func (k key) compare(o key) int {
	if k.bucket != o.bucket {
		return int(k.bucket - o.bucket)
	}
	if k.group != o.group {
		return strings.Compare(k.group, o.group)
	}
	return strings.Compare(k.sub, o.sub)
}
