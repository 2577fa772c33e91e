package run

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/promptcademy/promptops/internal/postgres"
)

const (
	heartbeatEvery = 2 * time.Second
	recoverEvery   = 10 * time.Second
	// A node whose connection breaks is missed by a node that starts at once, and by
	// the others after this: it may be alive and just about to connect again.
	silentAfter = 5 * time.Second
	// When the server itself began anew, all have this long to come back.
	missedAfter = 30 * time.Second
	// No run goes on for longer, with all its waiting.
	longestRun = 30 * time.Minute
	clockSkew  = 10 * time.Minute // between a node and the database, at most
)

// Presence is how a process shows the others that it is there, and how it notices
// that others are not: every node holds an advisory lock on a connection of its
// own, which Postgres lets go of the moment the process is gone. Whoever notices
// first closes the runs that were left behind.
type Presence struct {
	ID    uuid.UUID
	Alone bool // this process has only just started the database server: no other node can be alive

	pool    *pgxpool.Pool
	log     *slog.Logger
	version string
	conn    *pgx.Conn // holds the lock; nil while there is none
}

// Join registers this process as a node.
func Join(ctx context.Context, pool *pgxpool.Pool, version string, log *slog.Logger) (*Presence, error) {
	id, err := uuid.NewV7()
	if err != nil {
		return nil, err
	}
	p := &Presence{ID: id, pool: pool, log: log, version: version}
	if err := p.show(ctx); err != nil {
		return nil, postgres.Fault(fmt.Errorf("join the nodes: %w", err))
	}
	return p, nil
}

// Run shows this node and looks after the others until ctx is done.
func (p *Presence) Run(ctx context.Context) error {
	heartbeat, recovery := time.NewTicker(heartbeatEvery), time.NewTicker(recoverEvery)
	defer heartbeat.Stop()
	defer recovery.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-heartbeat.C:
			if err := p.show(ctx); err != nil && ctx.Err() == nil {
				p.log.Warn("node_not_seen", "error", err)
			}
		case <-recovery.C:
			if err := p.lookAfter(ctx, silentAfter, missedAfter); err != nil && ctx.Err() == nil {
				p.log.Warn("runs_not_recovered", "error", err)
			}
		}
	}
}

// show connects if need be, takes the lock and beats once.
func (p *Presence) show(ctx context.Context) (err error) {
	patience := commitTimeout
	if p.conn != nil {
		// Giving it up gives up the lock, and with it our runs, to whoever looks
		// first when a database that hangs goes on.
		patience = missedAfter
	}
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	defer func() {
		if err != nil && p.conn != nil {
			_ = p.conn.Close(context.WithoutCancel(ctx)) // the next beat opens another
			p.conn = nil
		}
	}()
	if p.conn == nil {
		if p.conn, err = pgx.ConnectConfig(ctx, p.pool.Config().ConnConfig); err != nil {
			return err
		}
		var locked bool
		if err := p.conn.QueryRow(ctx, `select pg_try_advisory_lock(`+lockOf(`$1::uuid`)+`)`, p.ID).Scan(&locked); err != nil {
			return err
		}
		if !locked {
			return errors.New("somebody else is looking after the runs of this node")
		}
	}
	host, _ := os.Hostname()
	_, err = p.conn.Exec(ctx, `
		insert into ops.nodes (id, host, version) values ($1, $2, $3)
		on conflict (id) do update set heartbeat_at = now()`, p.ID, host, p.version)
	return err
}

// lockOf is the SQL of a node's advisory lock.
func lockOf(id string) string { return `hashtextextended('promptops node ' || ` + id + `::text, 0)` }

// Leave ends the membership. Runs should have come to their end before; if some
// have not, or the database is away, the others notice by themselves that we are
// gone, and close them.
func (p *Presence) Leave() {
	if p.conn == nil {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), commitTimeout)
	defer cancel()
	_, err := p.conn.Exec(ctx, `
		delete from ops.nodes n
		where n.id = $1 and not exists (select from public.prompt_runs r where r.node_id = n.id and r.status = 'running' and r.id >= $2)`,
		p.ID, firstID(time.Now().Add(-longestRun-clockSkew)))
	if err = errors.Join(err, p.conn.Close(ctx)); err != nil {
		p.log.Warn("node_left_silently", "error", err)
	}
}

// RunOnce closes the runs of nodes that are gone, and forgets what has expired.
func (p *Presence) RunOnce(ctx context.Context, _ time.Time) error {
	missed := missedAfter
	if p.Alone {
		missed = 0
	}
	return p.lookAfter(ctx, 0, missed)
}

// lookAfter is RunOnce for nodes that have been silent for so long, or have been
// missed since the server began anew.
func (p *Presence) lookAfter(ctx context.Context, silent, missed time.Duration) error {
	_, err := p.recoverGone(ctx, silent, missed)
	_, sweepErr := p.pool.Exec(ctx, `delete from ops.idempotency where created_at <= now() - $1::interval`, idempotencyTTL)
	return errors.Join(err, postgres.Fault(sweepErr))
}

// recoverGone closes the runs of every node that is gone and returns how many
// that were.
func (p *Presence) recoverGone(ctx context.Context, silent, missed time.Duration) (closed int, err error) {
	rows, err := p.pool.Query(ctx, `select id from ops.nodes where id <> $1`, p.ID)
	if err != nil {
		return 0, postgres.Fault(err)
	}
	others, err := pgx.CollectRows(rows, pgx.RowTo[uuid.UUID])
	if err != nil {
		return 0, postgres.Fault(err)
	}
	for _, other := range others {
		n, err := p.recoverNode(ctx, other, silent, missed)
		if err != nil {
			return closed, err
		}
		closed += n
	}
	return closed, nil
}

// recoverNode closes the runs of another node if it is gone.
func (p *Presence) recoverNode(ctx context.Context, other uuid.UUID, silent, missed time.Duration) (closed int, err error) {
	var orphans []orphan
	err = postgres.InTx(ctx, p.pool, func(tx pgx.Tx) error {
		// With its lock in hand, the node cannot come back meanwhile.
		var gone bool
		var since time.Time
		err := tx.QueryRow(ctx, `
			select pg_try_advisory_xact_lock(`+lockOf(`n.id`)+`)
			       and n.heartbeat_at <= now() - $5::interval
			       and (n.heartbeat_at > pg_postmaster_start_time() or n.heartbeat_at <= now() - $2::interval),
			       greatest(n.started_at, n.heartbeat_at - $3::interval) - $4::interval
			from ops.nodes n where n.id = $1`, other, missed, longestRun, clockSkew, silent).Scan(&gone, &since)
		if errors.Is(err, pgx.ErrNoRows) || err == nil && !gone {
			return nil // somebody else has done it, or it lives
		}
		if err != nil {
			return err
		}
		if orphans, err = closeRuns(ctx, tx, `r.node_id = $1 and r.id >= $2`, other, firstID(since)); err != nil {
			return err
		}
		_, err = tx.Exec(ctx, `delete from ops.nodes where id = $1`, other)
		return err
	})
	if err != nil {
		return 0, postgres.Fault(fmt.Errorf("recover the runs of node %s: %w", other, err))
	}
	logOrphans(ctx, p.log, orphans)
	return len(orphans), nil
}

// firstID is not greater than the id of any run of that instant or later.
func firstID(at time.Time) uuid.UUID {
	id := NewID(at)
	clear(id[6:])
	return id
}

// Recover closes every run that no living node runs, however long ago, and
// returns how many that were. It is for a database whose nodes are all unknown,
// such as one that was restored. alone says that no node can be alive, as Presence.Alone does.
func Recover(ctx context.Context, pool *pgxpool.Pool, alone bool, log *slog.Logger) (closed int, err error) {
	p := &Presence{pool: pool, log: log}
	missed := missedAfter
	if alone {
		missed = 0
	}
	if closed, err = p.recoverGone(ctx, 0, missed); err != nil {
		return closed, err
	}
	var orphans []orphan
	err = postgres.InTx(ctx, pool, func(tx pgx.Tx) error {
		orphans, err = closeRuns(ctx, tx, `r.node_id is null or not exists (select from ops.nodes n where n.id = r.node_id)`)
		return err
	})
	logOrphans(ctx, log, orphans)
	return closed + len(orphans), postgres.Fault(err)
}

// orphan is a run whose process ended before it did.
type orphan struct {
	ID              uuid.UUID
	UserID          *uuid.UUID
	OperatorID      *uuid.UUID
	ClientRequestID *string
	DurationMs      int64
}

// closeRuns closes running runs as interrupted. What they used is not known, so
// it is not made up: tokens and cost are null. What had been set aside for them
// is given back, and their idempotency keys may be used again.
//
// Like commit, it locks idempotency keys and pace first, each in their order.
func closeRuns(ctx context.Context, tx pgx.Tx, which string, args ...any) ([]orphan, error) {
	running := `from public.prompt_runs r where r.status = 'running' and (` + which + `)`
	for _, lock := range []string{
		`select from ops.idempotency where run_id in (select r.id ` + running + `) order by owner_id, key for update`,
		`select from ops.learner_pace where user_id in (select r.user_id ` + running + `) order by user_id for update`,
	} {
		if _, err := tx.Exec(ctx, lock, args...); err != nil {
			return nil, err
		}
	}
	rows, err := tx.Query(ctx, `
		with closed as (
		  update public.prompt_runs r
		  set status = 'interrupted', finished_at = now(), node_id = null,
		      duration_ms = least(greatest(extract(epoch from now() - r.created_at) * 1000, 0), 2147483647)::int,
		      total_tokens = 0, total_cost_usd = 0, unpriced = cardinality(r.models)
		  where r.status = 'running' and (`+which+`)
		  returning r.*
		), attempts as (
		  select closed.*, a.value as attempt, (a.ordinality - 1)::smallint as ordinal
		  from closed, jsonb_array_elements(closed.plan -> 'attempts') with ordinality a
		), given_back as (
		  insert into ops.budget_counters as c (scope, subject, period, used_usd)
		  select s.scope, s.subject, s.period, -sum((a.attempt ->> 'held')::numeric)
		  from attempts a
		  cross join lateral (values
		    ('platform', '00000000-0000-0000-0000-000000000000'::uuid, (a.plan ->> 'day')::date),
		    ('key', (a.attempt ->> 'keyId')::uuid, date_trunc('month', (a.plan ->> 'day')::date)::date),
		    ('learner', a.user_id, (a.plan ->> 'day')::date)) s (scope, subject, period)
		  where a.attempt ? 'held' and s.subject is not null
		  group by s.scope, s.subject, s.period
		  order by s.scope <> 'platform', s.scope, s.subject, s.period
		  on conflict (scope, subject, period) do update set used_usd = c.used_usd + excluded.used_usd
		), paced as (
		  update ops.learner_pace p
		  set running = greatest(p.running - ended.runs, 0)
		  from (select user_id, count(*)::int as runs from closed where (plan ->> 'paced')::bool group by user_id) as ended
		  where p.user_id = ended.user_id
		), forgotten as (
		  delete from ops.idempotency i using closed where i.run_id = closed.id and i.answer is null
		), written as (
		  insert into public.prompt_attempts
		    (run_id, created_at, user_id, operator_id, team_id, template_id, ordinal, provider, model, status,
		     key_source, user_key_id, fallback_key_id, tries, error_class, error_message, duration_ms)
		  select a.id, a.created_at, a.user_id, a.operator_id, a.team_id, a.template_id, a.ordinal,
		         a.attempt ->> 'provider', a.attempt ->> 'model', 'interrupted', a.attempt ->> 'keySource',
		         case a.attempt ->> 'keySource' when 'user' then (a.attempt ->> 'keyId')::uuid end,
		         case a.attempt ->> 'keySource' when 'fallback' then (a.attempt ->> 'keyId')::uuid end,
		         case when a.attempt ->> 'keyId' is null then 0 else 1 end,
		         'interrupted', 'The server ended before the model was done.', a.duration_ms
		  from attempts a
		  on conflict (run_id, created_at, ordinal) do nothing
		)
		select id, user_id, operator_id, client_request_id, duration_ms from closed`, args...)
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(rows, pgx.RowToStructByName[orphan])
}

func logOrphans(ctx context.Context, log *slog.Logger, orphans []orphan) {
	for _, o := range orphans {
		clientID := ""
		if o.ClientRequestID != nil {
			clientID = *o.ClientRequestID
		}
		log.LogAttrs(ctx, slog.LevelError, "ai_run_error", append(Identity(o.ID, clientID, o.UserID, o.OperatorID),
			slog.String("error", "interrupted: the server ended before the run did"), slog.Int("status", statusInterrupted), slog.Int64("durationMs", o.DurationMs))...)
	}
}
