package drift_test

import (
	"context"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/promptcademy/promptops/internal/drift"
	"github.com/promptcademy/promptops/internal/postgres"
	"github.com/promptcademy/promptops/internal/postgres/pgtest"
)

// watched is a pool whose refused statements are counted, and its recorder.
func watched(t *testing.T) (*pgxpool.Pool, *drift.Denials, *drift.Recorder, *drift.Store) {
	t.Helper()
	denials := drift.NewDenials()
	pool, err := postgres.Open(t.Context(), pgtest.URL(t), postgres.Options{Denied: denials.Note})
	must(t, err)
	t.Cleanup(pool.Close)
	store := drift.NewStore(pool)
	return pool, denials, drift.NewRecorder(denials, store, slog.New(slog.DiscardHandler)), store
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// refuse sends a statement as a learner and wants it to be refused.
func refuse(t testing.TB, ctx context.Context, db postgres.DB, sql string) {
	t.Helper()
	err := postgres.AsLearner(ctx, db, uuid.New(), func(tx pgx.Tx) error {
		_, err := tx.Exec(ctx, sql)
		return err
	})
	if err == nil || !strings.Contains(err.Error(), "42501") {
		t.Fatalf("%s: %v", sql, err)
	}
}

func TestRefusedStatementsAreKept(t *testing.T) {
	pool, denials, recorder, store := watched(t)
	ctx := t.Context()
	page := drift.OnRoute(ctx, "GET /keys/health")
	began := time.Now().Add(-time.Second)

	refuse(t, page, pool, `select ciphertext from public.user_api_keys`)
	refuse(t, page, pool, `select ciphertext from public.user_api_keys`)
	refuse(t, ctx, pool, `insert into public.prompt_templates (owner_id, title, body) values (gen_random_uuid(), 'x', 'x')`)
	refuse(t, ctx, pool, `select from ops.operators`)
	// In a batch, and as nobody but ourselves.
	err := postgres.AsLearner(ctx, pool, uuid.New(), func(tx pgx.Tx) error {
		var batch pgx.Batch
		batch.Queue(`select 1`)
		batch.Queue(`delete from public.teams`)
		return tx.SendBatch(ctx, &batch).Close()
	})
	if err == nil {
		t.Error("a batch was not refused")
	}
	err = postgres.NewReader(pool).As(uuid.New()).Read(page, func(tx pgx.Tx) error {
		_, err := tx.CopyFrom(page, pgx.Identifier{"public", "lessons"}, []string{"slug", "title"}, pgx.CopyFromRows([][]any{{"a", "b"}}))
		return err
	})
	if err == nil {
		t.Error("a copy was not refused")
	}
	_, err = pool.Exec(ctx, `do $$ begin raise exception 'no such luck' using errcode = '42501', hint = 'Ask.'; end $$`)
	if err == nil {
		t.Error("our own was not refused")
	}
	if denials.Total() != 7 {
		t.Errorf("%d were counted, want 7", denials.Total())
	}
	must(t, recorder.RunOnce(ctx, time.Now()))
	must(t, recorder.RunOnce(ctx, time.Now()))

	groups, err := store.Errors(ctx, began, time.Now())
	must(t, err)
	got := map[string]string{}
	for _, g := range groups {
		if g.FirstAt.Before(began) || g.LastAt.Before(g.FirstAt) || g.Recent != g.N {
			t.Errorf("times and counts of %+v", g)
		}
		got[g.Object+"|"+g.Message] = fmt.Sprintf("%s role=%s route=%s hint=%s n=%d", g.Reason, g.Role, g.Route, g.Hint, g.N)
	}
	delete(got, "table lessons|permission denied for table lessons") // or "cannot execute COPY FROM in a read-only transaction", by version
	want := map[string]string{
		"table user_api_keys|permission denied for table user_api_keys":                                  "grant role=authenticated route=GET /keys/health hint= n=2",
		`table prompt_templates|new row violates row-level security policy for table "prompt_templates"`: "policy role=authenticated route= hint= n=1",
		"schema ops|permission denied for schema ops":                                                    "grant role=authenticated route= hint= n=1",
		"table teams|permission denied for table teams":                                                  "grant role=authenticated route= hint= n=1",
		"|no such luck": "other role= route= hint=Ask. n=1",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("kept (-want +got):\n%s", diff)
	}
	// Counts add up, and old ones go.
	refuse(t, page, pool, `select ciphertext from public.user_api_keys`)
	must(t, recorder.RunOnce(ctx, time.Now()))
	if groups, err = store.Errors(ctx, began, time.Now()); err != nil || groups[0].Object != "table user_api_keys" || groups[0].N != 3 {
		t.Errorf("%v, %+v", err, groups)
	}
	must(t, recorder.RunOnce(ctx, time.Now().Add(31*24*time.Hour)))
	if groups, err = store.Errors(ctx, began, time.Now()); err != nil || len(groups) > 0 {
		t.Errorf("%v, %+v", err, groups)
	}
}

// A table that does not let itself be written is not a reason to fail, or to count
// for ever; and any number of kinds takes only so much memory.
func TestDenialsAreBoundedAndWait(t *testing.T) {
	pool, denials, recorder, store := watched(t)
	ctx := t.Context()
	var together sync.WaitGroup
	for worker := range 4 {
		together.Go(func() {
			for i := range 400 {
				denials.Note(ctx, "anon", &pgconn.PgError{Code: "42501", Message: fmt.Sprintf("permission denied for table t%d_%d \x00%s", worker, i, strings.Repeat("ä", 400))})
			}
		})
	}
	together.Wait()
	_, err := pool.Exec(ctx, `alter table ops.rls_errors rename to gone`)
	must(t, err)
	if err := recorder.RunOnce(ctx, time.Now()); err == nil {
		t.Error("written where there is no table")
	}
	_, err = pool.Exec(ctx, `alter table ops.gone rename to rls_errors`)
	must(t, err)
	must(t, recorder.RunOnce(ctx, time.Now()))
	groups, err := store.Errors(ctx, time.Now().Add(-time.Hour), time.Now())
	must(t, err)
	var rows, sum int64
	must(t, pool.QueryRow(ctx, `select count(*), sum(n) from ops.rls_errors`).Scan(&rows, &sum))
	if len(groups) != 200 || sum != 1600 || rows > 502 || denials.Total() != 1600 {
		t.Errorf("%d groups, %d rows with %d, %d counted", len(groups), rows, sum, denials.Total())
	}
}

func TestParseDenial(t *testing.T) {
	for message, want := range map[string]drift.Denial{
		`permission denied for table user_api_keys`:                                             {Reason: "grant", Object: "table user_api_keys"},
		`permission denied for function led_team_ids`:                                           {Reason: "grant", Object: "function led_team_ids"},
		`must be owner of table lessons`:                                                        {Reason: "grant", Object: "table lessons"},
		`new row violates row-level security policy for table "a "b" c"`:                        {Reason: "policy", Object: `table a "b" c`},
		`new row violates row-level security policy "own" for table "notes"`:                    {Reason: "policy", Object: "table notes", Policy: "own"},
		`new row violates row-level security policy (USING expression) for table "notes"`:       {Reason: "policy", Object: "table notes"},
		`new row violates row-level security policy "own" (USING expression) for table "notes"`: {Reason: "policy", Object: "table notes", Policy: "own"},
		`query would be affected by row-level security policy for table "notes"`:                {Reason: "policy", Object: "table notes"},
		`keine Berechtigung für Tabelle user_api_keys`:                                          {Reason: "other"},
	} {
		want.Message = message
		if diff := cmp.Diff(want, drift.ParseDenial(&pgconn.PgError{Message: message})); diff != "" {
			t.Errorf("%s:\n%s", message, diff)
		}
	}
}
