package price_test

import (
	"errors"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/promptcademy/promptops/internal/audit"
	"github.com/promptcademy/promptops/internal/fault"
	"github.com/promptcademy/promptops/internal/postgres/pgtest"
	"github.com/promptcademy/promptops/internal/price"
	"github.com/promptcademy/promptops/internal/provider"
)

var noon = time.Date(2026, 11, 24, 12, 0, 0, 0, time.UTC)

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// typed is a price as a form sends it: "field", "value", …
func typed(fields ...string) url.Values {
	values := url.Values{"provider": {"openai"}, "model": {"gpt-5-mini"}, "input": {"1"}, "output": {"2"}, "source": {"our contract"}}
	for i := 0; i < len(fields); i += 2 {
		values.Set(fields[i], fields[i+1])
	}
	return values
}

func parsed(t *testing.T, fields ...string) price.Price {
	t.Helper()
	p, err := price.Parse(typed(fields...), time.UTC)
	must(t, err)
	return p
}

func TestParse(t *testing.T) {
	berlin, err := time.LoadLocation("Europe/Berlin")
	must(t, err)
	values := typed("input", " $0.123456789012 ", "output", "2.50", "cacheRead", "0", "tierAbove", "200000", "tierInput", "3", "tierCacheWrite1h", "6.5",
		"from", "2026-10-31T14:00", "until", "2026-12-01", "dailyFrom", "22:30", "dailyTo", "06:00", "sourceDate", "2026-10-30", "note", "a note")
	p, err := price.Parse(values, berlin)
	must(t, err)
	if p.Input.String() != "0.123456789012" || p.CacheRead == nil || !p.CacheRead.IsZero() || p.CacheWrite5m != nil || *p.TierAboveInputTokens != 200000 ||
		!p.EffectiveFrom.Equal(instant(t, "2026-10-31T13:00:00Z")) || !p.EffectiveTo.Equal(instant(t, "2026-11-30T23:00:00Z")) || *p.DailyFrom != 22*time.Hour+30*time.Minute {
		t.Errorf("read %+v", p)
	}
	again, err := price.Parse(p.Values(berlin), berlin)
	must(t, err)
	if again.Values(time.UTC).Encode() != p.Values(time.UTC).Encode() {
		t.Errorf("read again: %s, before %s", again.Values(time.UTC).Encode(), p.Values(time.UTC).Encode())
	}
	// An instant that the zone's clock shows twice is not lost.
	twice := instant(t, "2026-10-25T01:30:00Z")
	p.EffectiveFrom = &twice
	if again, err := price.Parse(p.Values(berlin), berlin); err != nil || !again.EffectiveFrom.Equal(twice) {
		t.Errorf("the second 02:30 became %v (%v)", again.EffectiveFrom, err)
	}
}

func TestParseRefuses(t *testing.T) {
	for _, bad := range []struct {
		field  string
		fields []string
	}{
		{"input", []string{"input", ""}},
		{"input", []string{"input", "1,5"}},
		{"input", []string{"input", "1e3"}},
		{"input", []string{"input", "-1"}},
		{"input", []string{"input", "NaN"}},
		{"input", []string{"input", "0x10"}},
		{"input", []string{"input", ".5"}},
		{"input", []string{"input", "1000000.1"}},
		{"output", []string{"output", "0.1234567890123"}},
		{"output", []string{"output", strings.Repeat("9", 200)}},
		{"cacheRead", []string{"cacheRead", "free"}},
		{"tierAbove", []string{"tierInput", "3"}},
		{"tierAbove", []string{"tierAbove", "-3", "tierInput", "3"}},
		{"tierInput", []string{"tierAbove", "200000"}},
		{"from", []string{"from", "tomorrow"}},
		{"from", []string{"from", "0001-01-01"}},
		{"until", []string{"from", "2026-11-01", "until", "2026-11-01"}},
		{"dailyTo", []string{"dailyFrom", "22:00"}},
		{"dailyFrom", []string{"dailyFrom", "24:30", "dailyTo", "01:00"}},
		{"source", []string{"source", "  "}},
		{"source", []string{"source", strings.Repeat("s", 501)}},
		{"note", []string{"note", "a\nb"}},
		{"model", []string{"model", ""}},
		{"provider", []string{"provider", "a/b"}},
		{"sourceDate", []string{"sourceDate", "31.10.2026"}},
	} {
		_, err := price.Parse(typed(bad.fields...), time.UTC)
		f, ok := errors.AsType[*fault.Error](err)
		if !ok || f.Kind != fault.Invalid || !slices.ContainsFunc(f.Details, func(d fault.Field) bool { return d.Field == bad.field }) {
			t.Errorf("%v: %v, want a complaint about %s", bad.fields, err, bad.field)
		}
	}
}

// What operators set goes before what the program came with, today's and later ones.
func TestOperatorsPricesGoBefore(t *testing.T) {
	pool := pgtest.Database(t)
	store := price.NewStore(pool)
	_, err := store.Seed(t.Context())
	must(t, err)
	entries, err := store.History(t.Context(), "openai", "gpt-5-mini")
	must(t, err)
	id, changed, err := store.Set(t.Context(), price.Change{Price: parsed(t), Seen: price.Seen(entries)}, audit.CommandLine, noon)
	if err != nil || !changed {
		t.Fatalf("set: %v, %v", changed, err)
	}
	if added, err := store.Seed(t.Context()); err != nil || added != 0 {
		t.Errorf("seeding added %d (%v)", added, err)
	}
	// A newer version of the program knows a newer list price.
	_, err = pool.Exec(t.Context(), `
		insert into ops.model_prices (provider, model, input, output, effective_from, source, seeded) values ('openai', 'gpt-5-mini', 7, 7, '2026-12-01', 'vendor', true)`)
	must(t, err)
	book, err := store.Load(t.Context())
	must(t, err)
	if p, _ := book.Find("openai", "gpt-5-mini", noon.AddDate(0, 2, 0)); p.ID != id {
		t.Errorf("by then it is %+v", p)
	}
	entries, err = store.History(t.Context(), "openai", "gpt-5-mini")
	must(t, err)
	if entries[0].ID != id || entries[0].CreatedBy != "command line" || !entries[1].Seeded {
		t.Errorf("history: %+v", entries)
	}

	// Corrected, it is another entry; the old one can still be shown.
	fixed := price.Change{Price: parsed(t, "input", "1.5"), Corrects: id, Seen: price.Seen(entries)}
	fixedID, changed, err := store.Set(t.Context(), fixed, audit.CommandLine, noon)
	if err != nil || !changed {
		t.Fatalf("correct: %v, %v", changed, err)
	}
	old, err := store.Entry(t.Context(), id)
	if err != nil || old.WithdrawnAt == nil || old.ReplacedBy == nil || *old.ReplacedBy != fixedID || old.Input.String() != "1" {
		t.Errorf("the corrected one: %+v (%v)", old, err)
	}
	entries, err = store.History(t.Context(), "openai", "gpt-5-mini")
	must(t, err)
	fixed.Corrects, fixed.Seen = fixedID, price.Seen(entries)
	if same, changed, err := store.Set(t.Context(), fixed, audit.CommandLine, noon); err != nil || changed || same != fixedID {
		t.Errorf("the same once more: %d, %v, %v", same, changed, err)
	}

	// What came with the program stays; what an operator set goes when its name is typed.
	seeded := entries[1]
	if _, err := store.Withdraw(t.Context(), seeded.ID, "openai/gpt-5-mini", audit.CommandLine, noon); fault.KindOf(err) != fault.Invalid {
		t.Errorf("removing a seed: %v", err)
	}
	if _, err := store.Withdraw(t.Context(), fixedID, "gpt-5-mini", audit.CommandLine, noon); fault.KindOf(err) != fault.Invalid {
		t.Errorf("removing without its name: %v", err)
	}
	_, err = store.Withdraw(t.Context(), fixedID, "openai/gpt-5-mini", audit.CommandLine, noon)
	must(t, err)
	if _, err := store.Withdraw(t.Context(), fixedID, "openai/gpt-5-mini", audit.CommandLine, noon); fault.KindOf(err) != fault.Conflict {
		t.Errorf("removing it twice: %v", err)
	}
	book, err = store.Load(t.Context())
	must(t, err)
	if p, _ := book.Find("openai", "gpt-5-mini", noon); !p.Seeded {
		t.Errorf("now it is %+v", p)
	}
	var actions []string
	must(t, pool.QueryRow(t.Context(), `select array_agg(action order by id) from ops.audit_log where subject_type = 'price'`).Scan(&actions))
	if got := strings.Join(actions, " "); got != "price.set price.correct price.remove" {
		t.Errorf("the audit log has %s", got)
	}
}

// Of eight who set a price at once, having seen the same, one does.
func TestSetAtOnce(t *testing.T) {
	pool := pgtest.Database(t)
	store := price.NewStore(pool)
	outcomes := make([]error, 8)
	var group errgroup.Group
	for i := range outcomes {
		p := parsed(t, "from", time.Date(2026, 1, 1+i, 0, 0, 0, 0, time.UTC).Format(time.DateOnly))
		group.Go(func() error {
			_, _, outcomes[i] = store.Set(t.Context(), price.Change{Price: p, Seen: price.Seen(nil)}, audit.CommandLine, noon)
			return nil
		})
	}
	must(t, group.Wait())
	done := 0
	for _, err := range outcomes {
		if err == nil {
			done++
		} else if fault.KindOf(err) != fault.Conflict {
			t.Error(err)
		}
	}
	var rows int
	must(t, pool.QueryRow(t.Context(), `select count(*) from ops.model_prices where not seeded`).Scan(&rows))
	if done != 1 || rows != 1 {
		t.Errorf("%d were told that it is set, there are %d prices", done, rows)
	}
}

func TestTheSameInstantTwice(t *testing.T) {
	store := price.NewStore(pgtest.Database(t))
	_, _, err := store.Set(t.Context(), price.Change{Price: parsed(t), Seen: price.Seen(nil)}, audit.CommandLine, noon)
	must(t, err)
	entries, err := store.History(t.Context(), "openai", "gpt-5-mini")
	must(t, err)
	_, _, err = store.Set(t.Context(), price.Change{Price: parsed(t, "input", "5"), Seen: price.Seen(entries)}, audit.CommandLine, noon)
	if f, ok := errors.AsType[*fault.Error](err); !ok || f.Kind != fault.Conflict || !strings.Contains(f.Message, "same instant") {
		t.Errorf("a second price from the beginning: %v", err)
	}
}

// Whoever starts a run with the number that the database has now is priced by what
// was set before, on every node.
func TestAtLeast(t *testing.T) {
	pool := pgtest.Database(t)
	store := price.NewStore(pool)
	here, there := price.NewPrices(store, discard), price.NewPrices(store, discard)
	must(t, here.RunOnce(t.Context(), noon))
	must(t, there.RunOnce(t.Context(), noon))
	_, _, err := store.Set(t.Context(), price.Change{Price: parsed(t), Seen: price.Seen(nil)}, audit.CommandLine, noon)
	must(t, err)
	var version int64
	must(t, pool.QueryRow(t.Context(), `select prices from ops.facts_version`).Scan(&version))
	for _, node := range []*price.Prices{here, there} {
		node.AtLeast(t.Context(), version)
		p, ok := node.Book().Find("openai", "gpt-5-mini", noon)
		if got := price.Cost(p, provider.Usage{Input: 1_000_000}); !ok || got.String() != "1" {
			t.Errorf("a million tokens cost %s", got)
		}
	}
	latest := there.Book()
	pool.Close()
	there.AtLeast(t.Context(), version) // nothing is asked
	there.AtLeast(t.Context(), version+1)
	if there.Book() != latest {
		t.Error("the book was lost")
	}
}
