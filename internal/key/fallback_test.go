package key

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/promptcademy/promptops/internal/audit"
	"github.com/promptcademy/promptops/internal/fault"
	"github.com/promptcademy/promptops/internal/postgres"
	"github.com/promptcademy/promptops/internal/postgres/pgtest"
	"github.com/promptcademy/promptops/internal/price"
)

var marta = audit.Operator(uuid.MustParse("019a7b3c-52b1-7cc0-a2b4-0d3f8a1c9e55"), "marta@example.org")

// office is a Fallbacks on a database of the test's own.
type office struct {
	*Fallbacks
	t  *testing.T
	db postgres.DB
}

func newOffice(t *testing.T, db postgres.DB) office {
	t.Helper()
	exec(t, db, `insert into ops.operators (id, email, role) values ($1, 'marta@example.org', 'admin')`, marta.OperatorID)
	return office{NewFallbacks(db, ring(t, newKey), time.UTC), t, db}
}

func (o office) add(label string) uuid.UUID {
	o.t.Helper()
	added, err := o.Add(within(o.t), NewKey{Provider: "openai", Secret: Secret("sk-of-the-tests-" + label), Settings: Settings{Label: label}}, marta, noon.AddDate(0, -1, 0))
	if err != nil {
		o.t.Fatal(err)
	}
	return added.Key.ID
}

func (o office) overview() Overview {
	o.t.Helper()
	all, err := o.Overview(within(o.t), noon)
	if err != nil {
		o.t.Fatal(err)
	}
	return all
}

func (o office) find(id uuid.UUID) FallbackKey {
	o.t.Helper()
	k, err := o.overview().Find(id)
	if err != nil {
		o.t.Fatal(err)
	}
	return k
}

// order is "label:priority …" as the keys are used.
func (o office) order() string {
	o.t.Helper()
	var parts []string
	for _, k := range o.overview().Of("openai") {
		parts = append(parts, fmt.Sprintf("%s:%d", k.Label, k.Priority))
	}
	return strings.Join(parts, " ")
}

func (o office) wants(err error, kind fault.Kind, words string) {
	o.t.Helper()
	var f *fault.Error
	if !errors.As(err, &f) {
		o.t.Errorf("got %v, want a fault of kind %s", err, kind)
		return
	}
	said := f.Message
	for _, d := range f.Details {
		said += " " + d.Field + " " + d.Message
	}
	if f.Kind != kind || !strings.Contains(said, words) {
		o.t.Errorf("got %s: %s; want %s: …%s…", f.Kind, said, kind, words)
	}
}

// actions are what the audit log holds, which has to be whole.
func (o office) actions() []string {
	o.t.Helper()
	log := audit.NewStore(o.db)
	if _, broken, err := log.Verify(within(o.t)); err != nil || broken != 0 {
		o.t.Errorf("the audit log is broken at %d: %v", broken, err)
	}
	entries, err := log.List(within(o.t), audit.Filter{}, 1000)
	if err != nil {
		o.t.Fatal(err)
	}
	slices.Reverse(entries)
	var actions []string
	for _, e := range entries {
		actions = append(actions, e.Action)
	}
	return actions
}

// leaks looks for a secret in everything that is stored in the clear.
func (o office) leaks(secrets ...string) {
	o.t.Helper()
	for _, table := range []string{"ops.audit_log", "ops.key_events", "ops.fallback_keys"} {
		rows, err := o.db.Query(within(o.t), `select t::text from `+table+` t`)
		if err != nil {
			o.t.Fatal(err)
		}
		lines, err := pgx.CollectRows(rows, pgx.RowTo[string])
		if err != nil {
			o.t.Fatal(err)
		}
		for _, secret := range secrets {
			if strings.Contains(strings.Join(lines, "\n"), secret) {
				o.t.Errorf("%s holds %q", table, secret)
			}
		}
	}
}

func TestFallbackLife(t *testing.T) {
	t.Parallel()
	o := newOffice(t, pgtest.Tx(t))
	ctx := within(t)
	form := url.Values{
		"provider": {" openai "}, "secret": {"\t" + goodKey + "\n"}, "label": {"Main"}, "models": {"gpt-6-sol, gpt-5-mini\ngpt-5-mini"},
		"monthlyCapUsd": {"$ 50.00"}, "expires": {"2027-01-31"},
	}
	n, err := ParseNew(form, time.UTC)
	if err != nil {
		t.Fatal(err)
	}
	added, err := o.Add(ctx, n, marta, noon)
	if err != nil || added.Key.LastFour != "3CgE" || len(added.Odd) != 0 {
		t.Fatalf("added %+v, %v", added, err)
	}
	id := added.Key.ID
	k := o.find(id)
	if k.Priority != 10 || k.State(noon) != StateHealthy || !slices.Equal(k.Models, []string{"gpt-5-mini", "gpt-6-sol"}) ||
		!k.ExpiresAt.Equal(time.Date(2027, 2, 1, 0, 0, 0, 0, time.UTC)) || k.MonthlyCap.String() != "50" {
		t.Errorf("stored %+v", k)
	}
	if diff := cmp.Diff(url.Values{"label": {"Main"}, "models": {"gpt-5-mini, gpt-6-sol"}, "monthlyCapUsd": {"50"}, "expires": {"2027-01-31"}}, k.Settings().Values(time.UTC)); diff != "" {
		t.Errorf("values (-want +got):\n%s", diff)
	}

	_, err = o.Add(ctx, n, marta, noon)
	o.wants(err, fault.Conflict, `stored already, as "Main"`)
	var twin Twin
	if !errors.As(err, &twin) || twin.ID != id {
		t.Errorf("the twin is %v", twin)
	}
	hides(t, err, goodKey)

	odd, err := o.Add(ctx, NewKey{Provider: "openai", Secret: "what-is-this-then", Settings: Settings{Label: "Odd"}}, audit.CommandLine, noon)
	if err != nil || !slices.Equal(odd.Odd, []Oddity{OddShape}) || strings.Contains(OddShape.Words("openai"), "what") {
		t.Errorf("a strange key: %v, %v", odd.Odd, err)
	}
	if got := o.order(); got != "Main:10 Odd:20" {
		t.Errorf("the order is %s", got)
	}

	changed, err := o.Change(ctx, id, Settings{Label: "Main <b>", Models: nil, MonthlyCap: k.MonthlyCap, ExpiresAt: k.ExpiresAt}, k.Revision, marta, noon)
	if err != nil || !changed {
		t.Fatalf("changed %v, %v", changed, err)
	}
	if changed, err = o.Change(ctx, id, o.find(id).Settings(), k.Revision+1, marta, noon); err != nil || changed {
		t.Errorf("the same again: changed %v, %v", changed, err)
	}
	_, err = o.Change(ctx, id, Settings{Label: "Late"}, k.Revision, marta, noon)
	o.wants(err, fault.Conflict, "Somebody else")

	o.wants(o.Disable(ctx, id, "  ", marta, noon), fault.Invalid, "say why")
	if err := o.Disable(ctx, id, "Leaked in a screenshot", marta, noon); err != nil {
		t.Fatal(err)
	}
	o.wants(o.Disable(ctx, id, "again", marta, noon), fault.Conflict, "disabled already")
	if k = o.find(id); k.State(noon) != StateDisabled || k.StatusReason != "Leaked in a screenshot" || k.StatusBy != "marta@example.org" || !k.StatusAt.Equal(noon) {
		t.Errorf("disabled %+v", k)
	}
	if err := o.Enable(ctx, id, marta, noon); err != nil {
		t.Fatal(err)
	}
	o.wants(o.Enable(ctx, id, marta, noon), fault.Conflict, "not disabled")
	if k = o.find(id); k.State(noon) != StateHealthy || k.StatusReason != "" || k.StatusBy != "" {
		t.Errorf("enabled %+v", k)
	}

	_, err = o.Delete(ctx, id, "Main", marta, noon)
	o.wants(err, fault.Invalid, "not the label")
	if _, err := o.Delete(ctx, id, " Main <b> ", marta, noon); err != nil {
		t.Fatal(err)
	}
	o.wants(o.Enable(ctx, id, marta, noon), fault.NotFound, "no such fallback key")
	events, err := o.History(ctx, id, 100)
	if err != nil {
		t.Fatal(err)
	}
	var reasons []string
	for _, e := range events {
		reasons = append(reasons, fmt.Sprintf("%s→%s %s %s", e.From, e.To, e.Reason, e.Operator))
	}
	want := []string{
		"healthy→healthy Deleted. marta@example.org", "disabled→healthy Enabled. marta@example.org",
		"healthy→disabled Leaked in a screenshot marta@example.org",
		"healthy→healthy Changed: label from Main to Main <b>; models from gpt-5-mini, gpt-6-sol to none. marta@example.org",
		"healthy→healthy Added. marta@example.org",
	}
	if diff := cmp.Diff(want, reasons); diff != "" {
		t.Errorf("history (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff([]string{
		"fallback_key.add", "fallback_key.add", "fallback_key.change", "fallback_key.disable", "fallback_key.enable", "fallback_key.delete",
	}, o.actions()); diff != "" {
		t.Errorf("audit (-want +got):\n%s", diff)
	}
	o.leaks(goodKey, "what-is-this-then")
}

func TestFallbackFormsAreRefused(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		form url.Values
		want string
	}{
		"nothing": {url.Values{}, "provider secret label"},
		"everything": {url.Values{
			"provider": {"o\x00"}, "secret": {"sk-…1234"}, "label": {strings.Repeat("x", 201)}, "models": {"a\x00b"}, "monthlyCapUsd": {"25,00"}, "expires": {"soon"},
		}, "provider secret label models monthlyCapUsd expires"},
		"money": {url.Values{"provider": {"openai"}, "secret": {"sk-a"}, "label": {"x"}, "monthlyCapUsd": {"-1"}}, "monthlyCapUsd"},
		"huge":  {url.Values{"provider": {"openai"}, "secret": {"sk-a"}, "label": {"x"}, "monthlyCapUsd": {"1e10"}}, "monthlyCapUsd"},
		"fine":  {url.Values{"provider": {"openai"}, "secret": {"sk-a"}, "label": {"x"}, "monthlyCapUsd": {"0.0000000001"}}, "monthlyCapUsd"},
		"never": {url.Values{"provider": {"openai"}, "secret": {"sk-a"}, "label": {"x"}, "expires": {"9999-01-01"}}, "expires"},
	} {
		_, err := ParseNew(tt.form, time.UTC)
		var f *fault.Error
		if !errors.As(err, &f) || f.Kind != fault.Invalid {
			t.Errorf("%s: %v", name, err)
			continue
		}
		var fields []string
		for _, d := range f.Details {
			fields = append(fields, d.Field)
		}
		if got := strings.Join(fields, " "); got != tt.want {
			t.Errorf("%s: refused %s, want %s", name, got, tt.want)
		}
	}
	o := newOffice(t, pgtest.Tx(t))
	_, err := o.Add(within(t), NewKey{Provider: "openai", Secret: "sk-a", Settings: Settings{Label: "x", ExpiresAt: &noon}}, marta, noon)
	o.wants(err, fault.Invalid, "has passed")
}

func TestFallbackOrder(t *testing.T) {
	t.Parallel()
	o := newOffice(t, pgtest.Tx(t))
	ctx := within(t)
	a, b, c := o.add("a"), o.add("b"), o.add("c")
	if err := o.Reorder(ctx, "openai", []uuid.UUID{a, b, c}, Moved([]uuid.UUID{a, b, c}, c, -2), marta, noon); err != nil {
		t.Fatal(err)
	}
	if got := o.order(); got != "c:10 a:20 b:30" {
		t.Errorf("the order is %s", got)
	}
	now := []uuid.UUID{c, a, b}
	o.wants(o.Reorder(ctx, "openai", []uuid.UUID{a, b, c}, now, marta, noon), fault.Conflict, "changed meanwhile")
	for _, wanted := range [][]uuid.UUID{nil, {c, a}, {c, a, a}, {c, a, b, uuid.New()}, {c, a, uuid.New()}} {
		o.wants(o.Reorder(ctx, "openai", now, wanted, marta, noon), fault.Invalid, "every key")
	}
	for places, want := range map[int][]uuid.UUID{0: now, -5: {b, c, a}, -1: {c, b, a}, 1: now, 7: now} {
		if got := Moved(now, b, places); !slices.Equal(got, want) {
			t.Errorf("moved by %d: %v, want %v", places, got, want)
		}
	}
	if got := o.add("d"); got == uuid.Nil || o.order() != "c:10 a:20 b:30 d:40" {
		t.Errorf("the order is %s", o.order())
	}
}

func TestFallbackRotation(t *testing.T) {
	t.Parallel()
	o := newOffice(t, pgtest.Tx(t))
	ctx := within(t)
	a, b := o.add("a"), o.add("b")
	limit, err := price.ParseUSD("12.5")
	if err != nil {
		t.Fatal(err)
	}
	exec(t, o.db, `update ops.fallback_keys set models = '{m}', monthly_cap_usd = $2, sandbox = true where id = $1`, a, limit)
	_, err = o.Rotate(ctx, a, Rotation{Secret: "sk-of-the-tests-b", Label: "", Overlap: time.Hour}, marta, noon)
	o.wants(err, fault.Conflict, `stored already, as "b"`)
	_, err = o.Rotate(ctx, a, Rotation{Secret: "sk-new", Label: "", Overlap: MaxOverlap + 1}, marta, noon)
	o.wants(err, fault.Invalid, "overlap")
	_, err = o.Rotate(ctx, a, Rotation{Secret: " ", Label: "", Overlap: time.Hour}, marta, noon)
	o.wants(err, fault.Invalid, "secret")

	added, err := o.Rotate(ctx, a, Rotation{Secret: "sk-rotated-in-the-tests", Label: "", Overlap: 24 * time.Hour}, marta, noon)
	if err != nil {
		t.Fatal(err)
	}
	if got := o.order(); got != "a:10 a:20 b:30" {
		t.Errorf("the order is %s", got)
	}
	fresh, old := o.find(added.Key.ID), o.find(a)
	if fresh.Priority != 10 || !fresh.Sandbox || !slices.Equal(fresh.Models, []string{"m"}) || fresh.MonthlyCap.Cmp(limit) != 0 || fresh.State(noon) != StateHealthy {
		t.Errorf("the new key is %+v", fresh)
	}
	if *old.ReplacedBy != fresh.ID || !old.RetireAt.Equal(noon.Add(24*time.Hour)) || old.State(noon) != StateHealthy || old.State(noon.Add(24*time.Hour)) != StateRetired {
		t.Errorf("the old key is %+v", old)
	}
	_, err = o.Rotate(ctx, a, Rotation{Secret: "sk-another", Label: "", Overlap: time.Hour}, marta, noon)
	o.wants(err, fault.Conflict, "replaced already")

	o.wants(o.Keep(ctx, a, marta, noon.Add(25*time.Hour)), fault.Conflict, "retired already")
	if err := o.Keep(ctx, a, marta, noon); err != nil {
		t.Fatal(err)
	}
	o.wants(o.Keep(ctx, b, marta, noon), fault.Conflict, "not about to retire")
	if old = o.find(a); old.RetireAt != nil || old.ReplacedBy != nil {
		t.Errorf("kept %+v", old)
	}

	if _, err = o.Rotate(ctx, b, Rotation{Secret: "sk-b-at-once", Label: "b2", Overlap: 0}, marta, noon); err != nil {
		t.Fatal(err)
	}
	if got := o.order(); got != "a:10 a:20 b2:30 b:40" {
		t.Errorf("the order is %s", got)
	}
	if gone := o.find(b); gone.State(noon) != StateDisabled || !strings.Contains(gone.StatusReason, `Replaced by "b2"`) {
		t.Errorf("replaced at once: %+v", gone)
	}
	if err := o.Enable(ctx, b, marta, noon); err != nil {
		t.Fatal(err)
	}
	if back := o.find(b); back.RetireAt != nil || back.ReplacedBy != nil || back.State(noon) != StateHealthy {
		t.Errorf("enabled again: %+v", back)
	}
	o.leaks("sk-rotated-in-the-tests", "sk-b-at-once")
}

// Many admins at once, while the run path notes uses and rests: nobody waits for
// ever, nothing is lost, and every place is taken once.
func TestFallbackChangesAtOnce(t *testing.T) {
	t.Parallel()
	db := pgtest.Database(t)
	o := newOffice(t, db)
	var ids []uuid.UUID
	for i := range 6 {
		ids = append(ids, o.add(fmt.Sprintf("k%d", i)))
	}
	ctx := within(t)
	store := NewStore(db, ring(t, newKey))
	var all sync.WaitGroup
	var mu sync.Mutex
	done := map[string]int{}
	try := func(what string, act func(ctx context.Context) error) {
		all.Go(func() {
			err := act(ctx)
			mu.Lock()
			defer mu.Unlock()
			switch {
			case err == nil:
				done[what]++
			case fault.KindOf(err) == fault.Conflict, fault.KindOf(err) == fault.NotFound:
			default:
				t.Errorf("%s: %v", what, err)
			}
		})
	}
	revision := o.find(ids[2]).Revision
	for i := range 8 {
		try("reorder", func(ctx context.Context) error {
			return o.Reorder(ctx, "openai", ids, Moved(ids, ids[i%3], 1+i%3), marta, noon)
		})
		try("edit", func(ctx context.Context) error {
			_, err := o.Change(ctx, ids[2], Settings{Label: fmt.Sprintf("edited %d", i)}, revision, marta, noon)
			return err
		})
		try("rotate", func(ctx context.Context) error {
			_, err := o.Rotate(ctx, ids[1], Rotation{Secret: Secret(fmt.Sprintf("sk-rotated-%d", i)), Label: "", Overlap: time.Hour}, marta, noon)
			return err
		})
		try("delete", func(ctx context.Context) error {
			_, err := o.Delete(ctx, ids[5], "k5", marta, noon)
			return err
		})
		try("disable", func(ctx context.Context) error { return o.Disable(ctx, ids[0], "test", marta, noon) })
		try("add", func(ctx context.Context) error {
			_, err := o.Add(ctx, NewKey{Provider: "openai", Secret: "sk-the-same-for-all", Settings: Settings{Label: "twin"}}, marta, noon)
			return err
		})
		try("use", func(ctx context.Context) error {
			uses := NewUses(store, nil)
			for _, id := range ids {
				uses.Touch(Key{ID: id, Source: Fallback}, noon)
			}
			return uses.Flush(ctx)
		})
	}
	all.Wait()
	for _, once := range []string{"edit", "rotate", "delete", "disable", "add"} {
		if done[once] != 1 {
			t.Errorf("%s went well %d times, want once", once, done[once])
		}
	}
	if done["reorder"] > 1 || done["use"] != 8 {
		t.Errorf("%v", done)
	}
	keys := o.overview().Of("openai")
	places := map[int]bool{}
	for _, k := range keys {
		places[k.Priority] = true
	}
	if len(keys) != 7 || len(places) != 7 {
		t.Errorf("the order is %s", o.order())
	}
	if got := len(o.actions()); got != 6+done["reorder"]+5 {
		t.Errorf("%d entries in the audit log, want %d", got, 6+done["reorder"]+5)
	}
}

func TestFallbackStates(t *testing.T) {
	t.Parallel()
	at := func(d time.Duration) *time.Time { return new(noon.Add(d)) }
	one, err := price.ParseUSD("1")
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		name string
		key  FallbackKey
		want State
	}{
		{"healthy", FallbackKey{Status: Healthy}, StateHealthy},
		{"cooling", FallbackKey{Status: Cooling, CoolingUntil: at(time.Second)}, StateCooling},
		{"cooling, and known why", FallbackKey{Status: Cooling, CoolingUntil: at(time.Second), Suspect: new("rate_limited")}, StateCooling},
		{"rested", FallbackKey{Status: Cooling, CoolingUntil: at(0)}, StateTrial},
		{"refused", FallbackKey{Status: Cooling, CoolingUntil: at(time.Minute), Suspect: new("invalid_key")}, StateChecking},
		{"refused, no end", FallbackKey{Status: Cooling, Suspect: new("billing")}, StateChecking},
		{"refused, and over", FallbackKey{Status: Cooling, CoolingUntil: at(-1), Suspect: new("invalid_key")}, StateTrial},
		{"invalid", FallbackKey{Status: Invalid}, StateInvalid},
		{"billing", FallbackKey{Status: Billing}, StateBilling},
		{"disabled goes before all", FallbackKey{Status: Disabled, ExpiresAt: at(-1), RetireAt: at(-1)}, StateDisabled},
		{"retired", FallbackKey{Status: Healthy, RetireAt: at(0), ExpiresAt: at(-1)}, StateRetired},
		{"about to retire", FallbackKey{Status: Healthy, RetireAt: at(1)}, StateHealthy},
		{"expired", FallbackKey{Status: Invalid, ExpiresAt: at(0)}, StateExpired},
		{"at its cap", FallbackKey{Status: Cooling, MonthlyCap: &one, Spent: Spent{Month: one}}, StateOverCap},
		{"below its cap", FallbackKey{Status: Healthy, MonthlyCap: &one}, StateHealthy},
		{"no money allowed", FallbackKey{Status: Healthy, MonthlyCap: &price.USD{}}, StateOverCap},
	} {
		if got := tt.key.State(noon); got != tt.want {
			t.Errorf("%s: %s, want %s", tt.name, got, tt.want)
		}
	}
	for offset, want := range map[time.Duration]bool{-1: false, 0: false, time.Hour: true, ExpiresSoon - 1: true, ExpiresSoon: false} {
		if got := (FallbackKey{ExpiresAt: at(offset)}).Expiring(noon); got != want {
			t.Errorf("expiring in %s: %v", offset, got)
		}
	}
}

// What the page says was spent is what the attempts cost, to the last digit.
func TestFallbackSpending(t *testing.T) {
	t.Parallel()
	db := pgtest.Database(t)
	kathmandu, err := time.LoadLocation("Asia/Kathmandu")
	if err != nil {
		t.Fatal(err)
	}
	o := newOffice(t, db)
	o.Fallbacks = NewFallbacks(db, ring(t, newKey), kathmandu)
	main, spare := o.add("main"), o.add("spare")
	fresh, err := o.Add(within(t), NewKey{Provider: "openai", Secret: "sk-fresh", Settings: Settings{Label: "fresh"}}, marta, noon.Add(-50*time.Hour))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := db.Exec(within(t), `select ops.ensure_partitions('2026-10-01', '2026-12-01')`); err != nil {
		t.Fatal(err)
	}
	midnight := time.Date(2026, 11, 24, 0, 0, 0, 0, kathmandu)
	who := uuid.New()
	spend := func(id uuid.UUID, at time.Time, usd string) {
		exec(t, db, `
			insert into public.prompt_attempts (run_id, ordinal, created_at, user_id, provider, model, status, key_source, fallback_key_id, cost_usd)
			values (gen_random_uuid(), 0, $1, $2, 'openai', 'openai/m', 'ok', 'fallback', $3, $4::numeric)`, at, who, id, usd)
	}
	spend(main, midnight, "0.1")
	spend(main, midnight.Add(12*time.Hour), "0.000000001")
	spend(main, midnight.Add(-time.Millisecond), "0.7") // yesterday there, today in UTC
	spend(main, midnight.AddDate(0, 0, -7), "1.4")
	spend(main, midnight.AddDate(0, 0, -7).Add(-time.Millisecond), "100")
	spend(fresh.Key.ID, midnight.Add(-time.Hour), "3")
	exec(t, db, `
		insert into public.prompt_attempts (run_id, ordinal, created_at, user_id, provider, model, status, error_class)
		select gen_random_uuid(), 0, $1, $2, p, p || '/m', 'error', 'missing_key' from unnest('{xai,xai,openai}'::text[]) p`, noon, who)
	running := idFrom(noon)
	exec(t, db, `
		insert into public.prompt_runs (id, created_at, user_id, models, plan)
		values ($1, $2, $3, '{openai/m}', jsonb_build_object('attempts', jsonb_build_array(jsonb_build_object('keyId', $4::uuid, 'held', '0.25'))))`, running, noon, who, spare)
	exec(t, db, `
		insert into ops.budget_counters (scope, subject, period, used_usd)
		values ('key', $1, '2026-11-01', 102.200000001), ('key', $1, '2026-10-01', 7), ('key', $2, '2026-11-01', 0.25)`, main, spare)
	cap, err := price.ParseUSD("103.200000001")
	if err != nil {
		t.Fatal(err)
	}
	exec(t, db, `update ops.fallback_keys set monthly_cap_usd = $1`, cap)

	all := o.overview()
	for _, tt := range []struct {
		id                 uuid.UUID
		today, month, week string
		days               int
		runway             Runway
	}{
		{main, "0.100000001", "102.200000001", "2.1", 7, Runway{RunwayDays, 1 / 2.1 * 7}},
		{spare, "0.25", "0.25", "0", 7, Runway{Kind: RunwayUnused}},
		{fresh.Key.ID, "0", "0", "3", 1, Runway{RunwayDays, 103.200000001 / 3}},
	} {
		k, err := all.Find(tt.id)
		if err != nil {
			t.Fatal(err)
		}
		if got := k.Spent; got.Today.String() != tt.today || got.Month.String() != tt.month || got.Week.String() != tt.week || got.Days != tt.days {
			t.Errorf("%s spent %+v, want %+v", k.Label, got, tt)
		}
		if got := k.Runway(); got.Kind != tt.runway.Kind || got.Days-tt.runway.Days > 1e-9 || tt.runway.Days-got.Days > 1e-9 {
			t.Errorf("%s: the runway is %+v, want %+v", k.Label, got, tt.runway)
		}
	}
	if all.Missing["xai"] != 2 || all.Missing["openai"] != 1 {
		t.Errorf("without a key: %v", all.Missing)
	}
	if got := all.Forsaken(noon); !slices.Equal(got, []string{"xai"}) {
		t.Errorf("forsaken are %v", got)
	}
	exec(t, db, `update ops.fallback_keys set status = 'invalid'`)
	if got := o.overview().Forsaken(noon); !slices.Equal(got, []string{"openai", "xai"}) {
		t.Errorf("forsaken are %v", got)
	}
}
