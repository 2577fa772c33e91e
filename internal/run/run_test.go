package run

import (
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"

	"github.com/promptcademy/promptops/internal/key"
	"github.com/promptcademy/promptops/internal/price"
	"github.com/promptcademy/promptops/internal/provider"
)

func ptr[T any](v T) *T { return &v }

func usd(t testing.TB, s string) *price.USD {
	t.Helper()
	amount, err := price.ParseUSD(s)
	if err != nil {
		t.Fatal(err)
	}
	return &amount
}

// The whole answer to a run of three formats, and the same in the database.
func TestRun(t *testing.T) {
	w := makeWorld(t)
	for _, stream := range []bool{false, true} {
		call := w.call("openai/good", "anthropic/good", "google/good")
		call.ClientRequestID = "from the client"
		call.Request.System = "Be brief"
		call.Request.TeamID = &w.team
		call.Request.Stream = stream
		call.Request.Config = Config{Temperature: ptr(0.7), MaxTokens: ptr(512), TopP: ptr(1.0), Stop: []string{"\n\n", "é"}, TimeoutMs: ptr(30000)}
		heard := &hearing{}
		e := w.run(call, heard)

		tokens := func(write, reasoning int64) *Usage {
			return &Usage{InputTokens: 11, CachedInputTokens: 3, CacheWriteTokens: write, OutputTokens: 7, ReasoningTokens: reasoning, TotalTokens: 18, Source: "reported"}
		}
		result := func(id string, source key.Source, usage *Usage, cost string) Result {
			return Result{Model: id + "/good", Provider: id, Status: AttemptOK, Output: ptr(goodText), FinishReason: ptr("stop"), Usage: usage,
				Cost: usd(t, cost), CostSource: ptr(Computed), KeySource: &source, Attempts: 1}
		}
		want := []Result{
			result("openai", key.User, tokens(0, 2), "0.000070123456785"), // 8×0.123456789 + 3×0.000000001 + 7×9.87654321, per million
			result("anthropic", key.Fallback, tokens(4, 0), "0.0001299"),
			result("google", key.Fallback, tokens(0, 2), "0.0000007"),
		}
		if diff := cmp.Diff(want, steady(e.Results)); diff != "" {
			t.Error(diff)
		}
		if e.RequestID != call.ID || e.Status != Success || e.TotalTokens != 54 || e.Unpriced != 0 || e.TotalCost.String() != "0.000200723456785" {
			t.Errorf("got %s", encoded(t, e))
		}
		for i, r := range e.Results {
			if r.DurationMs < 0 || r.DurationMs > e.DurationMs || (r.FirstTokenMs != nil) != stream || stream && *r.FirstTokenMs > r.DurationMs {
				t.Errorf("result %d of a run of %d ms: %s", i, e.DurationMs, encoded(t, r))
			}
		}
		if strings.Contains(encoded(t, e), "unpriced") {
			t.Errorf("nothing is unpriced, and nothing should say so: %s", encoded(t, e))
		}
		w.checkRows(call, e, Success)
		w.checkSecrets(e, heard.deltas)

		content := w.contentRow(call.ID)
		want1 := contentRow{UserID: &w.ada, TeamID: &w.team, System: ptr("Be brief"), Messages: []provider.Message{{Role: provider.RoleUser, Content: "Explain RAG to a chef"}},
			Outputs: map[string]string{"openai/good": goodText, "anthropic/good": goodText, "google/good": goodText}}
		if diff := cmp.Diff(want1, content); diff != "" {
			t.Error(diff)
		}
		for _, row := range w.attemptRows(call.ID) {
			var input price.USD
			if row.PriceID == nil {
				t.Errorf("%s names no price", row.Model)
				continue
			}
			w.must(w.pool.QueryRow(w.ctx, `select input from ops.model_prices where id = $1 and provider || '/' || model = $2`, row.PriceID, row.Model).Scan(&input))
		}
	}
}

// Every run of the sandbox's providers: what it charges is what is stored.
func TestRunAgainstTheSandbox(t *testing.T) {
	w := makeWorld(t)
	_, err := price.NewStore(w.pool).Seed(w.ctx)
	w.must(err)
	w.must(w.Prices.RunOnce(w.ctx, w.Now()))
	_, _, err = w.Keys.AddFallback(w.ctx, key.NewFallback{Provider: "groq", Label: "Main", Secret: "sandbox-of-groq", Sandbox: true})
	w.must(err)
	call := w.call("mistral/mistral-small-2603", "groq/llama-3.3-70b-versatile", "mistral/nobody-knows")
	call.Request.Stream = true
	heard := &hearing{}
	e := w.run(call, heard)
	if e.Status != Success || e.Unpriced != 1 {
		t.Errorf("got %s", encoded(t, e))
	}
	for _, bill := range w.box.Billed() {
		u := resultOf(t, e, bill.Provider+"/"+bill.Model).Usage
		if u == nil || u.InputTokens != bill.Input || u.CachedInputTokens != bill.Cached || u.OutputTokens != bill.Output || u.ReasoningTokens != bill.Reasoning {
			t.Errorf("charged %+v, answered %s", bill, encoded(t, u))
		}
	}
	heard.check(t, e)
	w.checkRows(call, e, Success)
	w.checkSecrets(e)
}

// A model without a price has a cost that is unknown, not one that is nothing.
func TestUnpriced(t *testing.T) {
	w := makeWorld(t)
	call := w.call("openai/dear", "openai/good", "google/cheap")
	e := w.run(call, nil)
	for _, model := range []string{"openai/dear", "google/cheap"} {
		r := resultOf(t, e, model)
		if r.Status != AttemptOK || r.Cost != nil || r.CostSource == nil || *r.CostSource != Unpriced || r.Usage.TotalTokens != 18 {
			t.Errorf("got %s", encoded(t, r))
		}
	}
	if e.Unpriced != 2 || e.TotalCost.String() != "0.000070123456785" || e.TotalTokens != 54 {
		t.Errorf("got %s", encoded(t, e))
	}
	w.checkRows(call, e, Success)
	var null int
	w.must(w.pool.QueryRow(w.ctx, `select count(*) from public.prompt_attempts where run_id = $1 and cost_usd is null and price_id is null and cost_source = 'unpriced'`, call.ID).Scan(&null))
	if null != 2 {
		t.Errorf("%d attempts are stored without a cost, want 2", null)
	}

	// Only unpriced ones: the total is what is known, nothing.
	call = w.call("openai/dear")
	e = w.run(call, nil)
	if e.Unpriced != 1 || !e.TotalCost.IsZero() || !strings.Contains(encoded(t, e), `"cost":null,"costSource":"unpriced"`) {
		t.Errorf("got %s", encoded(t, e))
	}
	w.checkRows(call, e, Success)
}

// The price is that of the moment of the call.
func TestPriceOfTheMoment(t *testing.T) {
	w := makeWorld(t)
	w.exec(`
		insert into ops.model_prices (provider, model, input, output, effective_from, effective_to, source)
		values ('openai', 'dated', 1, 1, '-infinity', '2026-11-24 12:00Z', 'test'), ('openai', 'dated', 2, 2, '2026-11-24 12:00Z', 'infinity', 'test')`)
	w.must(w.Prices.RunOnce(w.ctx, w.Now()))
	noon := time.Date(2026, 11, 24, 12, 0, 0, 0, time.UTC)
	_, err := EnsureMonths(w.ctx, w.pool, noon, noon)
	w.must(err)
	for now, want := range map[time.Time]string{noon.Add(-time.Millisecond): "0.000018", noon: "0.000036"} {
		w.Now = func() time.Time { return now }
		call := w.call("openai/dated")
		e := w.run(call, nil)
		if got := e.Results[0].Cost.String(); got != want {
			t.Errorf("at %s it costs %s, want %s", now, got, want)
		}
		w.checkRows(call, e, Success)
	}
}

// Without a usable key nothing is called, and the learner learns why.
func TestMissingKey(t *testing.T) {
	w := makeWorld(t)
	w.exec(`update ops.fallback_keys set status = 'billing' where provider = 'anthropic'`)
	w.exec(`update ops.fallback_keys set models = '{other}' where provider = 'google'`)
	call := w.call("anthropic/good", "openai/good", "google/good", "groq/any")
	call.Request.Stream = true
	heard := &hearing{}
	e := w.run(call, heard)
	for model, says := range map[string]string{
		"anthropic/good": "No fallback key for Anthropic can be used at the moment.",
		"google/good":    "No fallback key for Google can be used at the moment.",
		"groq/any":       "There is no key for Groq.",
	} {
		r := resultOf(t, e, model)
		if r.Status != AttemptError || r.Error == nil || r.Error.Class != provider.ClassMissingKey || !strings.HasPrefix(r.Error.Message, says) ||
			r.KeySource != nil || r.Usage != nil || r.Output != nil || r.Cost == nil || !r.Cost.IsZero() || r.Attempts != 0 {
			t.Errorf("%s: %s", model, encoded(t, r))
		}
	}
	if e.Status != Partial || e.Unpriced != 0 || e.TotalTokens != 18 {
		t.Errorf("got %s", encoded(t, e))
	}
	if n := w.double.calls.Load(); n != 1 {
		t.Errorf("%d calls, want 1", n)
	}
	heard.check(t, e)
	w.checkRows(call, e, Partial)

	call = w.call("groq/any")
	e = w.run(call, nil)
	if e.Status != Failed || len(e.Results) != 1 {
		t.Errorf("got %s", encoded(t, e))
	}
	w.checkRows(call, e, Failed)
}

// A key that cannot be opened is no key, and no reason to fail the run.
func TestUnreadableKey(t *testing.T) {
	w := makeWorld(t)
	w.exec(`update ops.fallback_keys set ciphertext = (select ciphertext from ops.fallback_keys where provider = 'google') where provider = 'anthropic'`)
	call := w.call("anthropic/good", "google/good")
	e := w.run(call, nil)
	if r := e.Results[0]; r.Error == nil || r.Error.Class != provider.ClassMissingKey || r.KeySource == nil || r.Attempts != 0 {
		t.Errorf("got %s", encoded(t, r))
	}
	if e.Status != Partial || !strings.Contains(w.logs.String(), `"event":"key_unreadable"`) {
		t.Errorf("got %s, logged %s", encoded(t, e), w.logs)
	}
	w.checkRows(call, e, Partial)
	w.checkSecrets(e)
}

// The playground runs as an operator, with fallback keys only.
func TestOperator(t *testing.T) {
	w := makeWorld(t)
	operator := uuid.New()
	call := w.call("openai/good")
	call.LearnerID, call.OperatorID = nil, &operator
	e := w.run(call, nil)
	if r := e.Results[0]; *r.KeySource != key.Fallback || r.Status != AttemptOK {
		t.Errorf("got %s", encoded(t, r))
	}
	w.checkRows(call, e, Success)
	w.checkSecrets(e)
}

// An account that goes while its run is on takes nothing of the books with it.
func TestLearnerGoesMeanwhile(t *testing.T) {
	w := makeWorld(t)
	w.double.before = func(string) { w.exec(`delete from auth.users where id = $1`, w.ada) }
	call := w.call("google/good")
	e := w.run(call, nil)
	if row := w.runRow(call.ID); row.Status != "success" || *row.UserID != w.ada {
		t.Errorf("got %+v", row)
	}
	if content := w.contentRow(call.ID); content.UserID != nil {
		t.Errorf("what was said is still %v's", content.UserID)
	}
	if e.Status != Success {
		t.Errorf("got %s", encoded(t, e))
	}
}

// Which keys were used is noted, for the next choice.
func TestUsesAreNoted(t *testing.T) {
	w := makeWorld(t)
	now := time.Now().Truncate(time.Millisecond)
	w.Now = func() time.Time { return now }
	w.run(w.call("openai/good", "google/401", "groq/any"), nil)
	w.must(w.Uses.Flush(w.ctx))
	var used []string
	rows, err := w.pool.Query(w.ctx, `
		select provider || ' user' from public.user_api_keys where last_used_at = $1
		union all select provider || ' fallback' from ops.fallback_keys where last_used_at = $1 order by 1`, now)
	w.must(err)
	defer rows.Close()
	for rows.Next() {
		var name string
		w.must(rows.Scan(&name))
		used = append(used, name)
	}
	w.must(rows.Err())
	if diff := cmp.Diff([]string{"google fallback", "openai user"}, used); diff != "" {
		t.Error(diff)
	}
}

// A run's id and its row tell the same time.
func TestNewID(t *testing.T) {
	for _, at := range []time.Time{
		time.Date(2026, 11, 24, 12, 0, 0, 123_456_789, time.UTC), time.Date(2026, 12, 31, 23, 59, 59, 999_999_999, time.UTC), time.UnixMilli(0), time.Now(),
	} {
		id := NewID(at)
		if got, want := CreatedAt(id), at.UTC().Truncate(time.Millisecond); !got.Equal(want) || got.Location() != time.UTC {
			t.Errorf("the id of %s says %s", want, got)
		}
		if id.Version() != 7 || id.Variant() != uuid.RFC4122 || NewID(at) == id {
			t.Errorf("%s is no id", id)
		}
	}
}

// A price that somebody sets prices the run that starts next, whichever node it
// starts on: nobody has told this one.
func TestANewPricePricesTheNextRun(t *testing.T) {
	w := makeWorld(t)
	if r := resultOf(t, w.run(w.call("openai/dear"), nil), "openai/dear"); *r.CostSource != Unpriced {
		t.Fatalf("got %s", encoded(t, r))
	}
	for _, input := range []string{"1000000", "2000000"} { // a dollar, then two, for each token
		_, err := w.pool.Exec(w.ctx, `
			insert into ops.model_prices (provider, model, input, output, effective_from, source) values ('openai', 'dear', $1::numeric, 0, now() - interval '1 hour' / $1::numeric, 'test')`, input)
		w.must(err)
		r := resultOf(t, w.run(w.call("openai/dear"), nil), "openai/dear")
		if want := usd(t, map[string]string{"1000000": "11", "2000000": "22"}[input]); r.Cost == nil || !r.Cost.Equal(*want) {
			t.Errorf("at %s per million tokens: %s", input, encoded(t, r))
		}
	}
}
