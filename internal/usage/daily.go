package usage

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/promptcademy/promptops/internal/price"
)

// DayCost is what a day cost.
type DayCost struct {
	Cost     price.USD
	Fallback price.USD // the part that fallback keys paid
	Unpriced int64     // attempts that ended and are not in Cost
}

// DailyCost returns what each day between boundaries cost, by the filters of a query
// and not by its days. counted says that it was counted: it is not where that would
// mean to read everything. It fails like Report.
func (s *Store) DailyCost(ctx context.Context, q Query, boundaries []time.Time) (days []DayCost, counted bool, err error) {
	q = q.withDefaults()
	q.From, q.To = boundaries[0], boundaries[len(boundaries)-1]
	learner, err := s.learner(ctx, q.Learner)
	if err != nil {
		return nil, false, fmt.Errorf("count cost by day: %w", err)
	}
	src, byDay := s.source(q, learner), set{bucket: true}
	if src.kind(byDay) == "" && !src.few() {
		return nil, false, nil
	}
	days = make([]DayCost, len(boundaries)-1)
	err = s.read(ctx, func(tx pgx.Tx) error {
		known, err := s.known(ctx, tx, q, q.From)
		if err != nil {
			return err
		}
		c := s.newCount(src, known, boundaries)
		c.ask(byDay, []string{"cost", "fallback_cost", "unpriced"}, nil, false)
		if err := c.send(ctx, tx); err != nil {
			return err
		}
		for place, t := range c.found[byDay] {
			days[place.bucket-1] = DayCost{t.Cost, t.FallbackCost, t.Unpriced}
		}
		return nil
	})
	if err != nil {
		return nil, false, fmt.Errorf("count cost by day: %w", err)
	}
	return days, true, nil
}

// few says whether the rows that pass are few and found without reading all others of
// the same time.
func (s source) few() bool { return s.q.TeamID != nil || s.q.TeamIDs != nil || s.learner != nil }
