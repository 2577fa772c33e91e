package run

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgtype"

	"github.com/promptcademy/promptops/internal/fault"
	"github.com/promptcademy/promptops/internal/key"
	"github.com/promptcademy/promptops/internal/price"
)

// commit writes a batch in one transaction: one round trip, or two where
// something has to be decided first.
//
// When it fails, the batch may have been committed all the same. So every
// statement does to a run only what has not been done to it yet, and an entry may
// be tried again as often as it takes. Only again, though, does it look for rows that
// are there already, or for an account that is gone: it is rare, and looking costs more
// than a tenth of all. What is met unawares makes the statement fail; see isMet.
//
// Rows that several nodes change are locked in one order: idempotency keys, pace,
// counters (the platform's first), runs.
func (s *Store) commit(batch []*entry, again bool) error {
	ctx, cancel := context.WithTimeout(context.Background(), commitTimeout)
	defer cancel()
	var starts []*starting
	var holds []*holding
	var finishes []*finishing
	decisions := false
	for _, e := range batch {
		decisions = decisions || e.needsDecision()
		switch {
		case e.start != nil:
			starts = append(starts, e.start)
		case e.hold != nil:
			holds = append(holds, e.hold)
		default:
			finishes = append(finishes, e.finish)
		}
	}
	if !recording {
		for _, start := range starts {
			start.grantAll()
		}
		return nil
	}
	conn, err := s.pool.Acquire(ctx)
	if err != nil {
		return fmt.Errorf("connect: %w", err)
	}
	defer conn.Release() // one in the middle of a transaction is closed, which rolls it back

	var writes pgx.Batch
	if decisions {
		if err := s.decide(ctx, conn.Conn(), batch, finishes); err != nil {
			return err
		}
	} else {
		for _, start := range starts {
			start.grantAll()
		}
		queueAnswerLocks(&writes, finishes)
	}
	s.queueFinishes(&writes, finishes, again)
	s.queueStarts(&writes, starts, again)
	s.queueHolds(&writes, holds)
	if decisions {
		writes.Queue("commit")
	}
	if err := conn.SendBatch(ctx, &writes).Close(); err != nil {
		return fmt.Errorf("write runs: %w", err)
	}
	return nil
}

// grantAll is the decision where there is nothing to decide.
func (s *starting) grantAll() {
	s.refusal, s.stale = nil, false
	s.decided = make([]granted, len(s.wishes))
	for i, w := range s.wishes {
		s.decided[i] = counters{}.granted(w)
	}
}

func (c counters) granted(w wish) granted {
	if len(w.keys) == 0 {
		return granted{index: -1}
	}
	index, holds, full := c.grant(w)
	return granted{index, holds, full}
}

// decide opens a transaction, locks what the batch's decisions depend on, and
// takes them.
func (s *Store) decide(ctx context.Context, conn *pgx.Conn, batch []*entry, finishes []*finishing) error {
	var reads pgx.Batch
	reads.Queue("begin")
	owners := map[idempotencyID]uuid.UUID{}
	queueClaims(&reads, batch, owners)
	queueAnswerLocks(&reads, finishes)
	paces := map[uuid.UUID]*pace{}
	queuePaces(&reads, batch, paces)
	sums := counters{}
	queueCounters(&reads, batch, sums)
	known := map[uuid.UUID]bool{}
	queueKnown(&reads, batch, known)
	held := map[*holding]bool{}
	queueKnownHolds(&reads, batch, held)
	queuePlans(&reads, batch)
	var version int64
	queueVersion(&reads, batch, &version)
	if err := conn.SendBatch(ctx, &reads).Close(); err != nil {
		return fmt.Errorf("lock limits: %w", err)
	}
	now := time.Now()
	for _, e := range batch {
		switch {
		case e.start != nil && known[e.start.call.ID]:
			// Committed before we lost the connection: what was decided then holds.
			e.start.known = true
		case e.start != nil && e.start.version != 0 && e.start.version != version:
			e.start.stale = true
		case e.start != nil:
			e.start.decide(owners, paces, sums, now)
		case e.hold != nil && held[e.hold]: // likewise
		case e.hold != nil:
			e.hold.decided = sums.granted(e.hold.wish)
		}
	}
	var changes pgx.Batch
	queueUnclaims(&changes, batch)
	queuePaceChanges(&changes, paces)
	if changes.Len() == 0 {
		return nil
	}
	return conn.SendBatch(ctx, &changes).Close()
}

// decide whether a run may start, and with which keys.
func (s *starting) decide(owners map[idempotencyID]uuid.UUID, paces map[uuid.UUID]*pace, sums counters, now time.Time) {
	s.refusal, s.stale, s.decided = nil, false, nil
	if s.call.IdempotencyKey != "" && owners[s.call.idempotencyID()] != s.call.ID {
		s.refusal = errClaimed
		return
	}
	if s.paced() {
		if refusal, wait := paces[*s.call.LearnerID].admit(s.budgets, now); refusal != "" {
			s.refusal = fault.New(fault.RateLimited, "%s", refusal).After(max(wait, time.Second))
			return
		}
	}
	s.decided = make([]granted, len(s.wishes))
	for i, w := range s.wishes {
		s.decided[i] = sums.granted(w)
	}
}

// errClaimed: another run has the idempotency key; looking again says which.
var errClaimed = fault.New(fault.Conflict, "The first request with this Idempotency-Key is still running. Try again in a moment.").After(time.Second)

// queueClaims claims idempotency keys; owners tells which run has each.
func queueClaims(batch *pgx.Batch, entries []*entry, owners map[idempotencyID]uuid.UUID) {
	var claims []*starting
	for _, e := range entries {
		if e.start != nil && e.start.call.IdempotencyKey != "" {
			claims = append(claims, e.start)
		}
	}
	if len(claims) == 0 {
		return
	}
	slices.SortFunc(claims, func(a, b *starting) int {
		x, y := a.call.idempotencyID(), b.call.idempotencyID()
		if c := slices.Compare(x.owner[:], y.owner[:]); c != 0 {
			return c
		}
		return strings.Compare(x.key, y.key)
	})
	n := len(claims)
	ids, keys, users, hashes, runs := make(uuids, n), make(texts, n), make(maybeUUIDs, n), make([][]byte, n), make(uuids, n)
	for i, c := range claims {
		ids[i], keys[i], users[i], hashes[i], runs[i] = c.call.owner(), c.call.IdempotencyKey, c.call.LearnerID, c.call.RequestHash, c.call.ID
	}
	batch.Queue(`
		delete from ops.idempotency i using unnest($1::uuid[], $2::text[]) as u (owner_id, key)
		where (i.owner_id, i.key) = (u.owner_id, u.key) and i.created_at <= now() - $3::interval`, ids, keys, idempotencyTTL)
	batch.Queue(`
		insert into ops.idempotency (owner_id, key, user_id, request_hash, run_id, created_at)
		select u.owner_id, u.key, u.user_id, u.request_hash, u.run_id, now()
		from unnest($1::uuid[], $2::text[], $3::uuid[], $4::bytea[], $5::uuid[]) as u (owner_id, key, user_id, request_hash, run_id)
		on conflict (owner_id, key) do nothing`, ids, keys, users, hashes, runs)
	batch.Queue(`
		select i.owner_id, i.key, i.run_id
		from unnest($1::uuid[], $2::text[]) as u (owner_id, key)
		join ops.idempotency i using (owner_id, key)`, ids, keys).Query(func(rows pgx.Rows) error {
		var id idempotencyID
		var run uuid.UUID
		_, err := pgx.ForEachRow(rows, []any{&id.owner, &id.key, &run}, func() error {
			owners[id] = run
			return nil
		})
		return err
	})
}

// queueUnclaims lets go of the idempotency keys of those that do not start after
// all: they may come again.
func queueUnclaims(batch *pgx.Batch, entries []*entry) {
	var runs uuids
	for _, e := range entries {
		if e.start != nil && e.start.call.IdempotencyKey != "" && (e.start.refusal != nil || e.start.stale) {
			runs = append(runs, e.start.call.ID)
		}
	}
	if len(runs) > 0 {
		batch.Queue(`delete from ops.idempotency where run_id = any($1)`, runs)
	}
}

// queuePaces locks the pace of every learner whose start it decides, and of those
// whose runs end in the same transaction: once it has the counters it is too late
// for that.
func queuePaces(batch *pgx.Batch, entries []*entry, paces map[uuid.UUID]*pace) {
	var ids uuids
	for _, e := range entries {
		var id *uuid.UUID
		switch {
		case e.start != nil && e.start.paced():
			id = e.start.call.LearnerID
		case e.finish != nil && e.finish.budgets.limitsPace():
			id = e.finish.call.LearnerID
		}
		if id != nil && paces[*id] == nil {
			paces[*id] = &pace{}
			ids = append(ids, *id)
		}
	}
	if len(ids) == 0 {
		return
	}
	slices.SortFunc(ids, func(a, b uuid.UUID) int { return slices.Compare(a[:], b[:]) })
	batch.Queue(`insert into ops.learner_pace (user_id) select unnest($1::uuid[]) on conflict do nothing`, ids)
	batch.Queue(`
		select user_id, running, starts from ops.learner_pace where user_id = any($1) order by user_id for update`, ids).Query(func(rows pgx.Rows) error {
		var id uuid.UUID
		var running int
		var starts []time.Time
		_, err := pgx.ForEachRow(rows, []any{&id, &running, &starts}, func() error {
			*paces[id] = pace{running: running, starts: slices.Clone(starts)}
			return nil
		})
		return err
	})
}

func queuePaceChanges(batch *pgx.Batch, paces map[uuid.UUID]*pace) {
	for id, p := range paces {
		if !p.changed {
			continue
		}
		batch.Queue(`update ops.learner_pace set running = $2, starts = $3 where user_id = $1`, id, p.running, p.starts)
	}
}

// queueCounters locks the counters that decisions depend on.
func queueCounters(batch *pgx.Batch, entries []*entry, sums counters) {
	var wishes []wish
	for _, e := range entries {
		switch {
		case e.start != nil:
			wishes = append(wishes, e.start.wishes...)
		case e.hold != nil:
			wishes = append(wishes, e.hold.wish)
		}
	}
	for _, w := range wishes {
		for _, k := range w.keys {
			if k.Source == key.Fallback && w.budgets.limitsFallback(k) {
				for _, id := range countersOf(w.day, k.ID, w.learnerID) {
					sums.at(id)
				}
			}
		}
	}
	if len(sums) == 0 {
		return
	}
	var c counterColumns
	for id := range sums {
		c.add(id)
	}
	batch.Queue(`
		insert into ops.budget_counters (scope, subject, period)
		select * from unnest($1::text[], $2::uuid[], $3::date[]) as u (scope, subject, period)
		order by scope <> 'platform', scope, subject, period
		on conflict do nothing`, c.scopes, c.subjects, c.periods)
	batch.Queue(`
		select c.scope, c.subject, c.period::text, c.used_usd
		from unnest($1::text[], $2::uuid[], $3::date[]) as u (scope, subject, period)
		join ops.budget_counters c using (scope, subject, period)
		order by c.scope <> 'platform', c.scope, c.subject, c.period
		for update of c`, c.scopes, c.subjects, c.periods).Query(func(rows pgx.Rows) error {
		var id counterID
		var used price.USD
		_, err := pgx.ForEachRow(rows, []any{&id.Scope, &id.Subject, &id.Period, &used}, func() error {
			sums.at(id).used = used
			return nil
		})
		return err
	})
}

// counterColumns are counters as parameters.
type counterColumns struct {
	scopes   texts
	subjects uuids
	periods  dates
}

func (c *counterColumns) add(id counterID) {
	day, err := time.Parse(time.DateOnly, id.Period)
	if err != nil { // it is ours
		panic(err)
	}
	c.scopes, c.subjects = append(c.scopes, string(id.Scope)), append(c.subjects, id.Subject)
	c.periods = append(c.periods, pgtype.Date{Time: day, Valid: true})
}

// queueVersion reads, and holds, the version of the facts that starts depend on.
func queueVersion(batch *pgx.Batch, entries []*entry, version *int64) {
	for _, e := range entries {
		if e.start != nil && e.start.version != 0 {
			batch.Queue(`select version from ops.facts_version for share`).QueryRow(func(row pgx.Row) error { return row.Scan(version) })
			return
		}
	}
}

// queueKnown looks which starts that are tried again have been committed already.
func queueKnown(batch *pgx.Batch, entries []*entry, known map[uuid.UUID]bool) {
	var ids uuids
	var created times
	for _, e := range entries {
		if e.start != nil && e.tries > 0 {
			ids, created = append(ids, e.start.call.ID), append(created, CreatedAt(e.start.call.ID))
		}
	}
	if len(ids) == 0 {
		return
	}
	batch.Queue(`
		select r.id from unnest($1::uuid[], $2::timestamptz[]) as u (id, created_at)
		join public.prompt_runs r using (id, created_at)`, ids, created).Query(func(rows pgx.Rows) error {
		var id uuid.UUID
		_, err := pgx.ForEachRow(rows, []any{&id}, func() error {
			known[id] = true
			return nil
		})
		return err
	})
}

// queueKnownHolds looks which changes that are tried again have been committed
// already.
func queueKnownHolds(batch *pgx.Batch, entries []*entry, known map[*holding]bool) {
	for _, e := range entries {
		if e.hold == nil || e.tries == 0 {
			continue
		}
		batch.Queue(`
			select coalesce((plan -> 'attempts' -> $3::int ->> 'number')::int, 0) from public.prompt_runs where id = $1 and created_at = $2`,
			e.hold.runID, CreatedAt(e.hold.runID), e.hold.ordinal).Query(func(rows pgx.Rows) error {
			var number int
			_, err := pgx.ForEachRow(rows, []any{&number}, func() error {
				known[e.hold] = number == e.hold.number
				return nil
			})
			return err
		})
	}
}

// queuePlans asks what is set aside for runs that end and do not know it, and
// keeps it so.
func queuePlans(batch *pgx.Batch, entries []*entry) {
	for _, e := range entries {
		if e.finish == nil || !e.finish.unsure() {
			continue
		}
		id := e.finish.call.ID
		batch.Queue(`
			select plan from public.prompt_runs where id = $1 and created_at = $2 and status = 'running' for update`,
			id, CreatedAt(id)).Query(func(rows pgx.Rows) error {
			var intended plan
			_, err := pgx.ForEachRow(rows, []any{&intended}, func() error {
				e.finish.holdsOf(intended)
				return nil
			})
			return err
		})
	}
}
