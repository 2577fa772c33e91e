package run

import (
	"context"
	"errors"
	"log/slog"
	"strings"
	"sync/atomic"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/promptcademy/promptops/internal/fault"
	"github.com/promptcademy/promptops/internal/postgres"
)

// Store keeps runs: as started before the first byte goes to a provider, with
// their outcome before the answer goes to the caller. Runs that go on at the same
// time share round trips and transactions: what is asked is in lookup.go, how
// it is written in recorder.go and commit.go, what in statements.go.
type Store struct {
	pool *pgxpool.Pool
	node uuid.UUID      // the process that runs them
	zone *time.Location // where budget days begin
	log  *slog.Logger

	memory    memory
	questions gather[*question]
	// What is written, in two lanes: whoever begins need not wait for those who end,
	// whose transactions take longer. In each, one transaction at a time: what comes
	// meanwhile makes the next one larger.
	beginnings gather[*entry] // starts and holds
	outcomes   gather[*entry]
	pause      atomic.Int64 // of the last failed write; 0 after one that went well
	unwritten  atomic.Int64 // outcomes on their way to the database

	startPatience   time.Duration // with a database that is to let a run begin
	outcomePatience time.Duration // … or to record its outcome
}

// StoreOptions of a Store. The zero value is good.
type StoreOptions struct {
	Node uuid.UUID      // of Presence; zero: one of its own, which nobody misses
	Zone *time.Location // where budget days begin; nil: UTC
	Log  *slog.Logger   // nil: none
}

// NewStore returns a Store on a pool that should be its own, so that no page can
// make a run wait for a connection; see PoolOptions.
func NewStore(pool *pgxpool.Pool, options StoreOptions) *Store {
	s := &Store{
		pool: pool, node: options.Node, zone: options.Zone, log: options.Log,
		startPatience: 5 * time.Second, outcomePatience: 15 * time.Second,
	}
	if s.node == uuid.Nil {
		s.node = uuid.New()
	}
	if s.zone == nil {
		s.zone = time.UTC
	}
	if s.log == nil {
		s.log = slog.New(slog.DiscardHandler)
	}
	s.questions = gather[*question]{do: s.look, workers: 1, most: mostEntries}
	s.beginnings = gather[*entry]{do: s.write, workers: 1, most: mostEntries}
	s.outcomes = gather[*entry]{do: s.write, workers: 1, most: mostEntries}
	return s
}

// PoolOptions are for a Store's pool. All its statements touch a few rows by
// their keys, also while a table is so new that a planner who knows nothing of it
// would rather read all of it, again and again.
var PoolOptions = postgres.Options{
	MaxConns:        6,
	ApplicationName: "promptops runs",
	Session: `set plan_cache_mode = force_generic_plan; set enable_seqscan = off;
		set enable_hashjoin = off; set enable_mergejoin = off; set synchronous_commit = on`,
}

// day is the budget day of an instant.
func (s *Store) day(at time.Time) string { return at.In(s.zone).Format(time.DateOnly) }

// storable drops what Postgres cannot hold in a text.
func storable(text string) string { return strings.ReplaceAll(text, "\x00", "") }

// template returns the body of a template that the learner may use: an own one,
// a public one or one shared with a team of theirs. An operator may use any.
// fault.NotFound otherwise.
func (s *Store) template(ctx context.Context, id uuid.UUID, learnerID *uuid.UUID) (string, error) {
	var body string
	err := s.pool.QueryRow(ctx, `
		select t.body
		from public.prompt_templates t
		where t.id = $1
		  and ($2::uuid is null or t.is_public or t.owner_id = $2 or exists (
		    select from public.team_templates s
		    join public.team_members m using (team_id)
		    where s.template_id = t.id and m.user_id = $2))`, id, learnerID).Scan(&body)
	if errors.Is(err, pgx.ErrNoRows) {
		return "", fault.New(fault.NotFound, "There is no such template.")
	}
	return body, postgres.Fault(err)
}
