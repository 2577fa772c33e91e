package activity

import (
	"context"

	"github.com/jackc/pgx/v5"
)

// readMembers counts the present members of each team, and the lessons that they
// completed.
func (c *count) readMembers(ctx context.Context, tx pgx.Tx) error {
	rows, err := tx.Query(ctx, `select team_id, user_id from public.team_members where $1::uuid[] is null or team_id = any ($1)`, c.q.TeamIDs)
	if err != nil {
		return err
	}
	return eachRaw(rows, func(row raw) {
		team := c.teams[row.uuid(0)]
		if team == nil {
			return
		}
		team.Members++
		if l := c.learners.find(row.uuid(1)); l != nil {
			team.Completed += int64(l.completed)
		}
	})
}
