package demo

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/promptcademy/promptops/internal/postgres"
	budgets "github.com/promptcademy/promptops/internal/run"
)

// Counts says how much the demo is.
type Counts struct {
	Learners     int64
	Teams        int64
	Templates    int64
	Lessons      int64
	FallbackKeys int64
	Runs         int64
	Attempts     int64
}

// demoRuns finds the runs that are part of the demo: those of demo learners, and
// whosever a fallback key of the demo was used for, since that reached no real
// provider.
const demoRuns = `
	select id, created_at from public.prompt_runs
	where user_id in (select id from ops.demo_records where kind = 'learner')
	union
	select run_id, created_at from public.prompt_attempts
	where fallback_key_id in (select id from ops.demo_records where kind = 'fallback_key')`

// Count says what Clear would remove.
func (s *Store) Count(ctx context.Context) (Counts, error) {
	counts, err := count(ctx, s.db)
	return counts, postgres.Fault(err)
}

func count(ctx context.Context, db postgres.DB) (Counts, error) {
	rows, err := db.Query(ctx, `
		with runs as (`+demoRuns+`)
		select count(*) filter (where kind = 'learner') as learners,
		       count(*) filter (where kind = 'team') as teams,
		       count(*) filter (where kind = 'template') as templates,
		       count(*) filter (where kind = 'lesson') as lessons,
		       count(*) filter (where kind = 'fallback_key') as fallback_keys,
		       (select count(*) from runs) as runs,
		       (select count(*) from public.prompt_attempts where (run_id, created_at) in (select id, created_at from runs)) as attempts
		from ops.demo_records`)
	if err != nil {
		return Counts{}, err
	}
	return pgx.CollectExactlyOneRow(rows, pgx.RowToStructByName[Counts])
}

// Clear removes the demo, all of it or, if anything fails, nothing, and says how
// much it was. Where there is none it does nothing.
//
// With demo learners goes whatever is theirs, also what they did after Load. With
// demo teams, lessons and templates go real learners' memberships, progress and
// events there. Real learners' runs stay, without the demo team or template they
// were made with; but runs that a demo key answered go, as they cost nothing. What
// is left of this month is what counts against budgets. What was counted of Key
// Health while the demo was there goes, too.
func (s *Store) Clear(ctx context.Context, now time.Time) (Counts, error) {
	var counts Counts
	err := postgres.InTx(ctx, s.db, func(tx pgx.Tx) (err error) {
		if err := alone(ctx, tx); err != nil {
			return err
		}
		months, err := s.largeMonths(ctx, tx)
		if err != nil {
			return err
		}
		// Otherwise a run that starts meanwhile would be left behind. The order is
		// that in which a run takes them. To empty a month, nobody may read it.
		mode := "share row exclusive"
		if len(months) > 0 {
			mode = "access exclusive"
		}
		for _, sql := range []string{
			`lock table ops.budget_counters in share row exclusive mode`,
			`lock table public.prompt_runs, public.prompt_attempts, public.prompt_contents in ` + mode + ` mode`,
		} {
			if _, err := tx.Exec(ctx, sql); err != nil {
				return err
			}
		}
		emptied, err := empty(ctx, tx, months)
		if err != nil {
			return err
		}
		if counts, err = count(ctx, tx); err != nil {
			return err
		}
		counts.Runs += emptied.Runs
		counts.Attempts += emptied.Attempts
		for _, sql := range []string{
			`create temporary table demo_runs on commit drop as ` + demoRuns,
			`delete from public.prompt_contents where (run_id, created_at) in (select id, created_at from demo_runs)`,
			`delete from public.prompt_attempts where (run_id, created_at) in (select id, created_at from demo_runs)`,
			`delete from public.prompt_runs where (id, created_at) in (select id, created_at from demo_runs)`,

			`update public.prompt_runs set team_id = null ` + ofDemo("team_id", kindTeam),
			`update public.prompt_attempts set team_id = null ` + ofDemo("team_id", kindTeam),
			`update public.prompt_contents set team_id = null ` + ofDemo("team_id", kindTeam),
			`update public.prompt_runs set template_id = null ` + ofDemo("template_id", kindTemplate),
			`update public.prompt_attempts set template_id = null ` + ofDemo("template_id", kindTemplate),

			// Memberships, keys, shares, events and progress go along.
			`delete from public.prompt_templates ` + ofDemo("owner_id", kindLearner),
			`delete from public.prompt_templates ` + ofDemo("id", kindTemplate),
			`delete from public.lessons ` + ofDemo("id", kindLesson),
			`delete from public.teams ` + ofDemo("id", kindTeam),
			`delete from public.template_events ` + ofDemo("user_id", kindLearner),
			`delete from auth.users ` + ofDemo("id", kindLearner),
			`delete from ops.key_health_days where demo`,
			`delete from ops.fallback_stretch`, // sums of attempts that are gone
			`delete from ops.fallback_sums`,
			`delete from ops.last_runs`,
			`delete from ops.team_fallbacks`,
			`delete from ops.key_health_learners`, // what was counted with them
			`delete from ops.key_health_keys`,
			`delete from ops.key_health_sums`,
			`delete from ops.key_health_bans`,
			`delete from ops.fallback_keys ` + ofDemo("id", kindFallbackKey),
			`delete from ops.demo_records`,
		} {
			if _, err := tx.Exec(ctx, sql); err != nil {
				return err
			}
		}
		return budgets.NewBudgetStore(tx, s.zone).Recount(ctx, now)
	})
	if err != nil {
		return Counts{}, postgres.Fault(fmt.Errorf("clear demo data: %w", err))
	}
	return counts, nil
}

func ofDemo(column, kind string) string {
	return fmt.Sprintf(`where %s in (select id from ops.demo_records where kind = '%s')`, column, kind)
}
