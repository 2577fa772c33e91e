package activity

import (
	"context"
	"sync"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
)

// accounts remembers between reports of everybody who has an account and who is in which
// team: tens of thousands of rows, which seldom change. It holds for one version, see
// migrations/0024, and is forgotten for another.
type accounts struct {
	mu      sync.Mutex
	version string
	known   everybody
}

// everybody is never changed once others may have seen it.
type everybody struct {
	signUps []signUp
	members map[uuid.UUID][]uuid.UUID // by team
}

// mostAccounts is how many are remembered; of more nothing is.
const mostAccounts = 200_000

// open returns what is visible to a transaction, whose snapshot has that version.
func (a *accounts) open(ctx context.Context, tx pgx.Tx, version string) (everybody, error) {
	if version != "" {
		a.mu.Lock()
		known, current := a.known, a.version == version
		a.mu.Unlock()
		if current {
			return known, nil
		}
	}
	all := everybody{members: map[uuid.UUID][]uuid.UUID{}}
	var err error
	if all.signUps, err = readSignUps(ctx, tx, time.Time{}, endOfTime(), nil); err != nil {
		return everybody{}, err
	}
	rows, err := tx.Query(ctx, `select team_id, user_id from public.team_members`)
	if err != nil {
		return everybody{}, err
	}
	if err := eachRaw(rows, func(row raw) {
		team := row.uuid(0)
		all.members[team] = append(all.members[team], row.uuid(1))
	}); err != nil {
		return everybody{}, err
	}
	if version != "" && len(all.signUps) <= mostAccounts {
		a.mu.Lock()
		a.version, a.known = version, all
		a.mu.Unlock()
	}
	return all, nil
}

// readSignUps reads the accounts that were made from since on and before to, and when
// each first had a key that is still there, if that was before to. Deleted and anonymous
// accounts do not count.
func readSignUps(ctx context.Context, tx pgx.Tx, since, to time.Time, ids []uuid.UUID) ([]signUp, error) {
	rows, err := tx.Query(ctx, `
		select u.id, u.created_at, k.first_at
		from auth.users u
		left join (
		  select user_id, min(created_at) as first_at from public.user_api_keys
		  where created_at < $2 and ($3::uuid[] is null or user_id = any ($3))
		  group by user_id) k on k.user_id = u.id
		where u.created_at >= $1 and u.created_at < $2 and u.deleted_at is null and not u.is_anonymous and ($3::uuid[] is null or u.id = any ($3))`,
		since, to, ids)
	if err != nil {
		return nil, err
	}
	var all []signUp
	err = eachRaw(rows, func(row raw) {
		all = append(all, signUp{ID: row.uuid(0), CreatedAt: row.time(1), FirstKey: row.time(2)})
	})
	return all, err
}

// signedUpSince is from when on sign-ups count: in the period, in the one before it and
// in the weeks of the cohorts.
func (q Query) signedUpSince() time.Time {
	first, _ := q.cohorts()
	since, _ := q.Before()
	if start := first.Start(q.Zone); start.Before(since) {
		return start
	}
	return since
}

// readEverybody reads accounts and members, of everybody.
func (c *count) readEverybody(ctx context.Context, tx pgx.Tx) error {
	all, err := c.accounts.open(ctx, tx, c.plan.accounts)
	if err != nil {
		return err
	}
	since := c.q.signedUpSince()
	c.signUps = make([]signUp, 0, len(all.signUps))
	for _, s := range all.signUps {
		if s.CreatedAt.Before(since) || !s.CreatedAt.Before(c.q.To) {
			continue
		}
		if !s.FirstKey.Before(c.q.To) {
			s.FirstKey = time.Time{}
		}
		c.signUps = append(c.signUps, s)
	}
	for id, members := range all.members {
		c.countMembers(id, members...)
	}
	return nil
}

// readTeams reads the members of the teams asked for.
func (c *count) readTeams(ctx context.Context, tx pgx.Tx) error {
	rows, err := tx.Query(ctx, `select team_id, user_id from public.team_members where team_id = any ($1)`, c.q.TeamIDs)
	if err != nil {
		return err
	}
	return eachRaw(rows, func(row raw) { c.countMembers(row.uuid(0), row.uuid(1)) })
}

// countMembers counts members of a team for which something was run, and the lessons
// that they completed.
func (c *count) countMembers(id uuid.UUID, members ...uuid.UUID) {
	team := c.teams[id]
	if team == nil {
		return
	}
	team.Members += int64(len(members))
	for _, member := range members {
		if l := c.learners.find(member); l != nil {
			team.Completed += int64(l.completed)
		}
	}
}

// findSignUps finds what those who signed up did.
func (c *count) findSignUps(ctx context.Context, tx pgx.Tx) error {
	var unsure []uuid.UUID
	for i := range c.signUps {
		s := &c.signUps[i]
		s.did = c.learners.place(s.ID)
		// Who did something before the period and signed up in it is rare, but can be.
		if s.did >= 0 && c.learners.all[s.did].before && !s.CreatedAt.Before(c.q.From) {
			unsure = append(unsure, s.ID)
		}
	}
	if len(unsure) == 0 {
		return nil
	}
	return c.lookUp(ctx, tx, unsure)
}
