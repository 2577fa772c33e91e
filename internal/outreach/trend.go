package outreach

import (
	"context"
	"fmt"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
)

// trendDays is how far back the trend goes.
const trendDays = 90

// Day is one day of the trend: the learners as they were when it was counted.
type Day struct {
	Day           time.Time // at midnight UTC: a date
	Learners      int
	Usable        int
	Broken        int
	ActiveWithout int
}

// Trend returns the snapshots of the last 90 days before today, oldest first, of
// all learners or of one team. Days that nobody counted are not among them.
// Whether the caller may see the team has been found out before.
func (s *Store) Trend(ctx context.Context, teamID *uuid.UUID, now time.Time) (days []Day, err error) {
	today := now.In(s.zone)
	of := "team_id = $1::uuid" // the index knows equality, and null, but not both at once
	if teamID == nil {
		of = "team_id is null and $1::uuid is null"
	}
	err = s.reader.Read(ctx, func(tx pgx.Tx) error {
		rows, err := tx.Query(ctx, `
			select day, learners, usable, broken, active_without
			from ops.key_health_days
			where `+of+` and provider = 'any' and day >= $2::text::date and day < $3::text::date
			order by day`, teamID, today.AddDate(0, 0, -trendDays).Format(time.DateOnly), today.Format(time.DateOnly))
		if err != nil {
			return err
		}
		days, err = pgx.CollectRows(rows, pgx.RowToStructByName[Day])
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("read the trend: %w", err)
	}
	return days, nil
}

// Today is the date on which a snapshot taken now would be.
func (s *Store) Today(now time.Time) time.Time {
	y, m, d := now.In(s.zone).Date()
	return time.Date(y, m, d, 0, 0, 0, 0, time.UTC)
}
