package demo

import (
	"context"
	"fmt"
	"runtime"
	"slices"
	"sync"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"golang.org/x/sync/errgroup"

	"github.com/promptcademy/promptops/internal/fault"
	"github.com/promptcademy/promptops/internal/key"
	"github.com/promptcademy/promptops/internal/postgres"
	"github.com/promptcademy/promptops/internal/price"
	budgets "github.com/promptcademy/promptops/internal/run"
)

// LoadMany fills in a demo of a size of its own, day by day, each in a transaction;
// progress, if not nil, is told how many attempts there are so far. It is for a
// database of its own: where there are learners or runs already it is
// fault.Conflict. What it could not finish, Clear removes.
//
// The sums of AI Usage are not made: what was written is marked for whoever makes
// them.
func (s *Store) LoadMany(ctx context.Context, book *price.Book, size Size, now time.Time, progress func(attempts int64)) error {
	if err := size.check(); err != nil {
		return err
	}
	// Whoever else loads or clears waits until all of it is there. This transaction
	// does nothing, so that nobody waits for it.
	return postgres.InTx(ctx, s.db, func(guard pgx.Tx) error {
		if err := alone(ctx, guard); err != nil {
			return postgres.Fault(err)
		}
		if err := s.mayLoadMany(ctx); err != nil {
			return err
		}
		if err := s.loadMany(ctx, newCrowd(book, size, now), progress); err != nil {
			return postgres.Fault(fmt.Errorf("load demo data: %w", err))
		}
		return nil
	})
}

func (s *Store) mayLoadMany(ctx context.Context) error {
	if err := mayLoad(ctx, s.db); err != nil {
		return err
	}
	var used bool
	err := s.db.QueryRow(ctx, `select exists (select from auth.users) or exists (select from public.prompt_runs)`).Scan(&used)
	if err != nil {
		return postgres.Fault(err)
	}
	if used {
		return fault.New(fault.Conflict, "This database has learners or runs of its own, among which so much demo data must not be mixed. Use an empty database, or leave out the number of attempts.")
	}
	return nil
}

func (s *Store) loadMany(ctx context.Context, c *crowd, progress func(int64)) error {
	if err := s.makeMonths(ctx, c.w.first, c.w.now); err != nil {
		return err
	}
	var fallback map[string]uuid.UUID
	err := postgres.InTx(ctx, s.db, func(tx pgx.Tx) (err error) {
		l := loader{tx, s.ring, &c.w}
		for _, step := range []func(context.Context) error{l.learners, l.teams, l.templates, l.lessons} {
			if err := step(ctx); err != nil {
				return err
			}
		}
		fallback, err = l.fallbackKeys(ctx)
		return err
	})
	if err != nil {
		return err
	}
	ran, err := s.loadDays(ctx, c, fallback, progress)
	if err != nil {
		return err
	}
	c.settle()
	err = postgres.InTx(ctx, s.db, func(tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, `lock table ops.budget_counters in share row exclusive mode`); err != nil {
			return err
		}
		l := loader{tx, s.ring, &c.w}
		if err := l.manyUserKeys(ctx); err != nil {
			return err
		}
		if err := l.lastSeen(ctx); err != nil {
			return err
		}
		if err := l.outreachOf(ctx, c.ranBefore(ran)); err != nil {
			return err
		}
		return budgets.NewBudgetStore(tx, s.zone).Recount(ctx, c.w.now)
	})
	if err != nil {
		return err
	}
	// Otherwise the first who read the rows would have to note that they are settled,
	// and Postgres would not know how many there are.
	_, err = s.db.Exec(ctx, `vacuum (analyze) public.prompt_runs, public.prompt_attempts, public.prompt_contents, public.template_events,
		public.user_progress, public.user_api_keys, public.team_members, auth.users, ops.key_health_days`)
	return err
}

// loadDays makes and stores the days, several at a time. It returns on which of them
// each learner ran something, as bits.
func (s *Store) loadDays(ctx context.Context, c *crowd, fallback map[string]uuid.UUID, progress func(int64)) ([][]uint64, error) {
	ran := make([][]uint64, len(c.w.learners))
	for i := range ran {
		ran[i] = make([]uint64, len(c.quotas)/64+1)
	}
	days := make(chan int)
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error {
		defer close(days)
		for n := range c.quotas {
			select {
			case days <- n:
			case <-ctx.Done():
				return ctx.Err()
			}
		}
		return nil
	})
	var mu sync.Mutex // of what days have in common
	finished := map[int]*crowdDay{}
	next, attempts := 0, int64(0)
	for range max(2, runtime.GOMAXPROCS(0)) {
		group.Go(func() error {
			for n := range days {
				d := c.day(n)
				if err := s.storeDay(ctx, c, d, fallback); err != nil {
					return err
				}
				d.runs, d.events = nil, nil
				mu.Lock()
				if attempts += d.attempts; progress != nil {
					progress(attempts)
				}
				finished[n] = d
				mu.Unlock()
			}
			return nil
		})
	}
	if err := group.Wait(); err != nil {
		return nil, err
	}
	for ; next < len(c.quotas); next++ {
		c.learn(finished[next], ran)
	}
	return ran, nil
}

// storeDay stores a day. What it writes is old news, which a trigger would mark
// row by row: it is marked as a whole.
func (s *Store) storeDay(ctx context.Context, c *crowd, d *crowdDay, fallback map[string]uuid.UUID) error {
	begin := c.w.first.AddDate(0, 0, d.number)
	recent, _ := slices.BinarySearchFunc(d.runs, c.w.now.AddDate(0, 0, -contentDays), func(r run, since time.Time) int {
		if r.at.After(since) {
			return 1
		}
		return -1
	})
	said := d.runs[recent:]
	return postgres.InTx(ctx, s.db, func(tx pgx.Tx) error {
		_, err := tx.Exec(ctx, `
			select set_config('promptops.marks', 'off', true), set_config('synchronous_commit', 'off', true)`)
		if err != nil {
			return err
		}
		if err := copyRuns(ctx, tx, d.runs, said, fallback); err != nil {
			return err
		}
		if err := copyEvents(ctx, tx, d.events); err != nil {
			return err
		}
		_, err = tx.Exec(ctx, `
			insert into ops.usage_marks (slot, xid)
			select slot, pg_current_xact_id()
			from generate_series($1::timestamptz, $1 + interval '1 day' - interval '1 second', interval '15 minutes') slot`, begin)
		if err != nil {
			return err
		}
		_, err = tx.Exec(ctx, `
			insert into ops.key_health_marks (learner_id, attempts, xid)
			values ('00000000-0000-0000-0000-000000000000', true, pg_current_xact_id())`)
		return err
	})
}

// manyUserKeys is userKeys in three statements: nodes are told of each that changes
// keys.
func (l loader) manyUserKeys(ctx context.Context) error {
	var ids []uuid.UUID
	var made []*userKey
	var all []key.NewUser
	for _, p := range l.w.learners {
		for _, k := range p.keys {
			ids, made = append(ids, k.id), append(made, k)
			all = append(all, key.NewUser{LearnerID: p.id, Provider: k.provider, Label: "My " + k.provider + " key", Secret: k.secret(p)})
		}
	}
	if err := key.NewStore(l.tx, l.ring).AddUsers(ctx, ids, all); err != nil {
		return fmt.Errorf("learners' keys: %w", err)
	}
	_, err := l.tx.Exec(ctx, `
		create temporary table demo_pasts (id uuid, added_at timestamptz, used_at timestamptz, failed_at timestamptz, status text, class text, message text) on commit drop`)
	if err != nil {
		return err
	}
	err = copyRows(ctx, l.tx, "pg_temp.demo_pasts", "id added_at used_at failed_at status class message", made, func(k *userKey) []any {
		return append([]any{k.id, k.addedAt}, k.past()...)
	})
	if err != nil {
		return err
	}
	_, err = l.tx.Exec(ctx, `
		update public.user_api_keys k
		set created_at = p.added_at, last_verified_at = p.added_at, last_used_at = p.used_at, last_error_at = p.failed_at,
		    updated_at = greatest(p.added_at, p.used_at, p.failed_at), status = p.status, status_at = coalesce(p.failed_at, p.added_at),
		    last_error_class = p.class, last_error_message = p.message
		from demo_pasts p
		where k.id = p.id`)
	if err != nil {
		return err
	}
	return l.record(ctx, kindUserKey, ids)
}

// lastSeen corrects when learners were there last, which was not known when they
// were stored.
func (l loader) lastSeen(ctx context.Context) error {
	ids, times := idsOf(l.w.learners, learnerID), make([]time.Time, len(l.w.learners))
	for i, p := range l.w.learners {
		times[i] = latest(p.signedUpAt, p.lastRunAt)
	}
	_, err := l.tx.Exec(ctx, `
		update auth.users u
		set updated_at = seen.at, last_sign_in_at = seen.at
		from unnest($1::uuid[], $2::timestamptz[]) as seen (id, at)
		where u.id = seen.id and u.last_sign_in_at <> seen.at`, ids, times)
	return err
}
