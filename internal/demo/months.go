package demo

import (
	"context"
	"time"

	"github.com/jackc/pgx/v5"
)

// largeMonths are those that hold very many attempts of a demo: "2026_11".
func (s *Store) largeMonths(ctx context.Context, tx pgx.Tx) ([]string, error) {
	rows, err := tx.Query(ctx, `
		select substr(c.relname, length('prompt_attempts_') + 1)
		from pg_inherits i
		join pg_class c on c.oid = i.inhrelid
		where i.inhparent = 'public.prompt_attempts'::regclass and c.relname ~ '^prompt_attempts_[0-9]{4}_[0-9]{2}$' and c.reltuples >= $1
		  and exists (select from ops.demo_records)
		order by 1`, s.largeMonth)
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(rows, pgx.RowTo[string])
}

// empty empties those of the months in which there is nothing but the demo: deleting
// millions of rows one by one takes many times as long as making them. It says how
// many runs and attempts that were. The tables have to be locked.
func empty(ctx context.Context, tx pgx.Tx, months []string) (emptied Counts, err error) {
	const learners = `(select id from ops.demo_records where kind = 'learner')`
	for _, month := range months {
		runs, attempts, contents := "ops.prompt_runs_"+month, "ops.prompt_attempts_"+month, "ops.prompt_contents_"+month
		var only bool
		err := tx.QueryRow(ctx, `
			select not exists (select from `+runs+` where user_id is null or user_id not in `+learners+`)
			   and not exists (select from `+attempts+` where user_id is null or user_id not in `+learners+`)
			   and not exists (select from `+contents+` where user_id is null or user_id not in `+learners+`)`).Scan(&only)
		if err != nil {
			return Counts{}, err
		}
		if !only {
			continue
		}
		var c Counts
		if err := tx.QueryRow(ctx, `select (select count(*) from `+runs+`), (select count(*) from `+attempts+`)`).Scan(&c.Runs, &c.Attempts); err != nil {
			return Counts{}, err
		}
		if _, err := tx.Exec(ctx, `truncate `+runs+`, `+attempts+`, `+contents); err != nil {
			return Counts{}, err
		}
		begin, err := time.Parse("2006_01", month)
		if err != nil {
			return Counts{}, err
		}
		// No trigger says this of a part of a table.
		_, err = tx.Exec(ctx, `
			insert into ops.usage_marks (slot, xid)
			select slot, pg_current_xact_id()
			from generate_series($1::timestamptz, $2::timestamptz - interval '1 second', interval '15 minutes') slot
			on conflict do nothing`, begin, begin.AddDate(0, 1, 0))
		if err != nil {
			return Counts{}, err
		}
		emptied.Runs += c.Runs
		emptied.Attempts += c.Attempts
	}
	return emptied, nil
}
