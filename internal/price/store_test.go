package price_test

import (
	"bytes"
	"context"
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/jackc/pgx/v5"
	"github.com/shopspring/decimal"
	"golang.org/x/sync/errgroup"

	"github.com/promptcademy/promptops/internal/postgres"
	"github.com/promptcademy/promptops/internal/postgres/pgtest"
	"github.com/promptcademy/promptops/internal/price"
	"github.com/promptcademy/promptops/internal/provider"
)

func usdOf(value int64, exponent int32) price.USD {
	return price.NewUSD(decimal.New(value, exponent))
}

// seededBook is the price list as the program comes with it, by way of the
// database.
func seededBook(t *testing.T) *price.Book {
	t.Helper()
	return seed(t, pgtest.Tx(t))
}

func seed(t *testing.T, db postgres.DB) *price.Book {
	t.Helper()
	store := price.NewStore(db)
	if _, err := store.Seed(t.Context()); err != nil {
		t.Fatal(err)
	}
	book, err := store.Load(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return book
}

func TestUSDInPostgres(t *testing.T) {
	tx := pgtest.Tx(t)
	for _, mode := range []pgx.QueryExecMode{pgx.QueryExecModeCacheStatement, pgx.QueryExecModeExec, pgx.QueryExecModeSimpleProtocol} {
		for _, want := range []string{"0", "0.001934", "-1.5", "1500", "0.000000000000000000000001", "123456789012345678901234567890.123456789"} {
			var got price.USD
			var text string
			err := tx.QueryRow(t.Context(), `select $1::numeric, ($1::numeric)::text`, mode, usd(t, want)).Scan(&got, &text)
			if err != nil || got.String() != want || text != want {
				t.Errorf("%v: %s came back as %s, in Postgres it was %s (%v)", mode, want, got, text, err)
			}
		}
		amount := usd(t, "1")
		unknown := &amount
		if err := tx.QueryRow(t.Context(), `select $1::numeric`, mode, (*price.USD)(nil)).Scan(&unknown); err != nil || unknown != nil {
			t.Errorf("%v: an unknown amount came back as %v (%v)", mode, unknown, err)
		}
		known := (*price.USD)(nil)
		if err := tx.QueryRow(t.Context(), `select $1::numeric`, mode, &amount).Scan(&known); err != nil || known == nil || !known.Equal(amount) {
			t.Errorf("%v: 1 came back as %v (%v)", mode, known, err)
		}
	}
	for _, sql := range []string{`select null::numeric`, `select 'NaN'::numeric`, `select 'Infinity'::numeric`} {
		var got price.USD
		if err := tx.QueryRow(t.Context(), sql).Scan(&got); err == nil {
			t.Errorf("%s was read as %s", sql, got)
		}
	}
}

func TestSeedAddsOnlyWhatIsMissing(t *testing.T) {
	tx := pgtest.Tx(t)
	store := price.NewStore(tx)
	// What an operator entered for the same dates stays.
	_, err := tx.Exec(t.Context(), `
		insert into ops.model_prices (provider, model, input, output, source)
		values ('openai', 'gpt-5-mini', 9, 9, 'our contract')`)
	if err != nil {
		t.Fatal(err)
	}

	added, err := store.Seed(t.Context())
	if err != nil || added < 100 {
		t.Fatalf("added %d (%v)", added, err)
	}
	if again, err := store.Seed(t.Context()); err != nil || again != 0 {
		t.Errorf("added %d more (%v)", again, err)
	}
	book, err := store.Load(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if p, _ := book.Find("openai", "gpt-5-mini", time.Now()); p.Source != "our contract" || p.Input.String() != "9" {
		t.Errorf("the operator's price became %+v", p)
	}

	if _, err := tx.Exec(t.Context(), `delete from ops.model_prices where model = 'gpt-5-nano'`); err != nil {
		t.Fatal(err)
	}
	if back, err := store.Seed(t.Context()); err != nil || back != 1 {
		t.Errorf("brought %d rows back (%v), want 1", back, err)
	}
}

func TestSeedFromFourNodesAtOnce(t *testing.T) {
	pool := pgtest.Database(t)
	if _, err := pool.Exec(t.Context(), `delete from ops.model_prices`); err != nil {
		t.Fatal(err)
	}
	var group errgroup.Group
	added := make([]int, 4)
	for i := range added {
		group.Go(func() (err error) {
			added[i], err = price.NewStore(pool).Seed(t.Context())
			return err
		})
	}
	if err := group.Wait(); err != nil {
		t.Fatal(err)
	}
	var rows int
	if err := pool.QueryRow(t.Context(), `select count(*) from ops.model_prices`).Scan(&rows); err != nil {
		t.Fatal(err)
	}
	if sum := added[0] + added[1] + added[2] + added[3]; sum != rows || rows == 0 {
		t.Errorf("four nodes say they added %v, the table has %d rows", added, rows)
	}
}

func TestLoadKeepsEveryColumn(t *testing.T) {
	tx := pgtest.Tx(t)
	_, err := tx.Exec(t.Context(), `
		insert into ops.model_prices overriding system value values
		  (7, 'p', 'full', 1.1, 2.2, 0.1, 1.2, 1.3, 1000, 3.1, 4.2, 0.3, 3.2, 3.3, 2000,
		   '2026-01-01T00:00Z', '2027-01-01T00:00Z', '22:30', '01:00', 'page', '2026-02-03', 'note'),
		  (8, 'p', 'bare', 1, 2, null, null, null, null, null, null, null, null, null, null,
		   default, default, null, null, 'page', null, '')`)
	if err != nil {
		t.Fatal(err)
	}
	book, err := price.NewStore(tx).Load(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	rate := func(s string) *price.USD { v := usd(t, s); return &v }
	hm := func(h, m int) *time.Duration {
		d := time.Duration(h)*time.Hour + time.Duration(m)*time.Minute
		return &d
	}
	day := func(s string) *time.Time { at := instant(t, s); return &at }
	tier, window := int64(1000), int64(2000)
	for _, want := range []price.Price{
		{ID: 7, Provider: "p", Model: "full", Input: usd(t, "1.1"), Output: usd(t, "2.2"),
			CacheRead: rate("0.1"), CacheWrite5m: rate("1.2"), CacheWrite1h: rate("1.3"),
			TierAboveInputTokens: &tier, TierInput: rate("3.1"), TierOutput: rate("4.2"),
			TierCacheRead: rate("0.3"), TierCacheWrite5m: rate("3.2"), TierCacheWrite1h: rate("3.3"),
			ContextWindow: &window, EffectiveFrom: day("2026-01-01T00:00:00Z"), EffectiveTo: day("2027-01-01T00:00:00Z"),
			DailyFrom: hm(22, 30), DailyTo: hm(1, 0), Source: "page", SourceDate: day("2026-02-03T00:00:00Z"), Note: "note"},
		{ID: 8, Provider: "p", Model: "bare", Input: usd(t, "1"), Output: usd(t, "2"), Source: "page"},
	} {
		got, ok := book.Find("p", want.Model, instant(t, "2026-06-01T23:00:00Z"))
		if !ok {
			t.Fatalf("%s was not found", want.Model)
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", want.Model, diff)
		}
	}
}

// The ratio that a tier's cache writes keep has to divide without rest, or
// seeding would round.
func TestSeededTiersAreExact(t *testing.T) {
	tx := pgtest.Tx(t)
	p, ok := seed(t, tx).Find("anthropic", "claude-sonnet-4-5", time.Now())
	if !ok || p.TierCacheWrite5m.String() != "7.5" || p.TierCacheWrite1h.String() != "12" {
		t.Errorf("claude-sonnet-4-5 above its tier: %v, %v", p.TierCacheWrite5m, p.TierCacheWrite1h)
	}
	var inexact []string
	err := tx.QueryRow(t.Context(), `
		select array_agg(provider || '/' || model)
		from ops.model_prices
		where tier_cache_write_5m * input <> cache_write_5m * tier_input
		   or tier_cache_write_1h * input <> cache_write_1h * tier_input
		   or (tier_input is not null and
		       (cache_write_5m is null) <> (tier_cache_write_5m is null))`).Scan(&inexact)
	if err != nil || len(inexact) > 0 {
		t.Errorf("not exact: %v (%v)", inexact, err)
	}
}

func TestPricesReload(t *testing.T) {
	pool := pgtest.Database(t)
	prices := price.NewPrices(price.NewStore(pool), slog.New(slog.DiscardHandler))
	now := time.Now()
	if _, ok := prices.Book().Find("p", "m", now); ok {
		t.Fatal("an empty book has a price")
	}
	insert := func(input int, from string) {
		t.Helper()
		_, err := pool.Exec(t.Context(), `
			insert into ops.model_prices (provider, model, input, output, effective_from, source)
			values ('p', 'm', $1, 1, $2, 'test')`, input, from)
		if err != nil {
			t.Fatal(err)
		}
		if err := prices.RunOnce(t.Context(), now); err != nil {
			t.Fatal(err)
		}
	}
	insert(1, "2020-01-01T00:00Z")
	before := prices.Book()
	insert(2, "2021-01-01T00:00Z")
	for book, want := range map[*price.Book]string{before: "0.000001", prices.Book(): "0.000002"} {
		p, ok := book.Find("p", "m", now)
		if got := price.Cost(p, provider.Usage{Input: 1}); !ok || got.String() != want {
			t.Errorf("cost %s, want %s", got, want)
		}
	}

	pool.Close()
	latest := prices.Book()
	if err := prices.RunOnce(t.Context(), now); err == nil {
		t.Error("reading from a closed pool went well")
	}
	if prices.Book() != latest {
		t.Error("a failed reload lost the book")
	}
}

func TestPricesRunGoesOnAfterFailures(t *testing.T) {
	pool := pgtest.Database(t)
	pool.Close()
	synctest.Test(t, func(t *testing.T) {
		var log bytes.Buffer
		prices := price.NewPrices(price.NewStore(pool), slog.New(slog.NewTextHandler(&log, nil)))
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error)
		go func() { done <- prices.Run(ctx) }()
		time.Sleep(95 * time.Second)
		cancel()
		if err := <-done; err != nil {
			t.Errorf("Run: %v", err)
		}
		if failures := strings.Count(log.String(), "prices_not_reloaded"); failures != 4 {
			t.Errorf("%d failures in 95 s, want 4:\n%s", failures, log.String())
		}
	})
}
