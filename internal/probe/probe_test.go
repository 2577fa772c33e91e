package probe

import (
	"context"
	"errors"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/shopspring/decimal"

	"github.com/promptcademy/promptops/internal/postgres"
	"github.com/promptcademy/promptops/internal/postgres/pgtest"
	"github.com/promptcademy/promptops/internal/price"
	"github.com/promptcademy/promptops/internal/runbook"
)

func usd(s string) price.USD { return price.NewUSD(decimal.RequireFromString(s)) }
func ptr[T any](v T) *T      { return &v }

func TestVerdicts(t *testing.T) {
	now := time.Date(2026, 11, 24, 12, 0, 0, 0, time.UTC)
	for name, test := range map[string]struct {
		reading runbook.Reading
		want    runbook.Verdict
		says    string
	}{
		"keys: none":               {FallbackKeys(nil), runbook.Critical, "No fallback keys"},
		"keys: all usable":         {FallbackKeys([]KeyState{{Provider: "A"}, {Provider: "A"}, {Provider: "B"}}), runbook.OK, "Only one usable key: B."},
		"keys: one of two":         {FallbackKeys([]KeyState{{Provider: "A"}, {Provider: "A", Reason: "out of credit"}}), runbook.Warning, "A: 1 of 2 can be used (out of credit)."},
		"keys: ours is off":        {FallbackKeys([]KeyState{{Provider: "A"}, {Provider: "A", Reason: "disabled", Off: true}}), runbook.OK, "1 of 2 usable"},
		"keys: one provider none":  {FallbackKeys([]KeyState{{Provider: "A"}, {Provider: "A", Reason: "x"}, {Provider: "B", Reason: "disabled", Off: true}}), runbook.Critical, "B: none of 1 can be used (disabled)."},
		"keys: critical stays":     {FallbackKeys([]KeyState{{Provider: "A", Reason: "x"}, {Provider: "B"}, {Provider: "B", Reason: "y"}}), runbook.Critical, "B: 1 of 2"},
		"learners: nobody":         {JudgeKeyless(KeylessLearners{}), runbook.OK, "No active learners"},
		"learners: some":           {JudgeKeyless(KeylessLearners{Active: 10, Keyless: 4}), runbook.OK, "4 of 10 active learners"},
		"learners: half":           {JudgeKeyless(KeylessLearners{Active: 10, Keyless: 5}), runbook.Warning, "5 of 10"},
		"learners: few":            {JudgeKeyless(KeylessLearners{Active: 1, Keyless: 1}), runbook.OK, "1 of 1 active learner"},
		"learners: missed":         {JudgeKeyless(KeylessLearners{Active: 10, Missed: 1}), runbook.Critical, "1 learner found no key"},
		"master: open":             {MasterKeys(2, 0, ""), runbook.OK, "2 of 2"},
		"master: one not":          {MasterKeys(2, 1, ""), runbook.Critical, "1 of 2 do not open"},
		"master: missing":          {MasterKeys(0, 0, "It lacks 3."), runbook.Critical, "It lacks 3."},
		"master: nothing to try":   {MasterKeys(0, 0, ""), runbook.Unknown, "Nothing to try"},
		"errors: no calls":         {JudgeErrors([]ClassCount{{"", 0, 90}, {"timeout", 0, 10}}), runbook.OK, "10 of 100 failed"},
		"errors: few":              {JudgeErrors([]ClassCount{{"", 1, 1}, {"timeout", 4, 4}}), runbook.OK, "4 of 5 calls failed"},
		"errors: some":             {JudgeErrors([]ClassCount{{"", 95, 95}, {"timeout", 5, 5}}), runbook.Warning, "timeout 5 (5 in 24 h)"},
		"errors: many":             {JudgeErrors([]ClassCount{{"", 20, 20}, {"timeout", 3, 5}, {"billing", 2, 2}}), runbook.Critical, "billing 2"},
		"errors: of many":          {JudgeErrors([]ClassCount{{"", 1000, 1000}, {"timeout", 20, 20}}), runbook.OK, "20 of 1020"},
		"latency: none":            {JudgeLatency(Latency{}), runbook.OK, "No runs"},
		"latency: fast":            {JudgeLatency(Latency{100, 2 * time.Second}), runbook.OK, "P95 2.0 s"},
		"latency: close":           {JudgeLatency(Latency{100, 13 * time.Second}), runbook.Warning, "close"},
		"latency: slow":            {JudgeLatency(Latency{20, 15*time.Second + 1}), runbook.Critical, "P95 15.0 s"},
		"latency: slow but few":    {JudgeLatency(Latency{19, time.Minute}), runbook.Warning, "chance"},
		"budget: none":             {Budget(usd("1.239"), nil), runbook.Warning, "$1.24 today"},
		"budget: below":            {Budget(usd("20"), ptr(usd("25"))), runbook.OK, "$20.00 of $25.00"},
		"budget: near":             {Budget(usd("20.01"), ptr(usd("25"))), runbook.Warning, "80%"},
		"budget: over":             {Budget(usd("25"), ptr(usd("25"))), runbook.Critical, "refused"},
		"budget: nothing":          {Budget(usd("0"), ptr(usd("0"))), runbook.Warning, "nothing"},
		"database: fast":           {JudgeDatabase(3*time.Millisecond, false, nil), runbook.OK, "3 ms"},
		"database: slow":           {JudgeDatabase(300*time.Millisecond, false, nil), runbook.Warning, "300 ms"},
		"database: very slow":      {JudgeDatabase(2*time.Second, false, nil), runbook.Critical, "2.0 s"},
		"database: standby":        {JudgeDatabase(time.Millisecond, true, nil), runbook.Critical, "standby"},
		"database: refuses":        {JudgeDatabase(0, false, &net.OpError{Op: "dial", Err: errors.New("refused")}), runbook.Critical, "Does not answer"},
		"database: hangs":          {JudgeDatabase(0, false, context.DeadlineExceeded), runbook.Critical, "in time"},
		"database: error":          {JudgeDatabase(0, false, errors.New("secret")), runbook.Critical, "error"},
		"pools: free":              {Pools([]PoolState{{"pages", 1, 16}, {"runs", 2, 8}}), runbook.OK, "pages 1 of 16, runs 2 of 8"},
		"pools: nearly":            {Pools([]PoolState{{"pages", 13, 16}, {"runs", 2, 8}}), runbook.Warning, "13 of 16"},
		"pools: full":              {Pools([]PoolState{{"pages", 16, 16}, {"runs", 7, 8}}), runbook.Critical, "waits"},
		"months: none":             {JudgeMonths([]bool{false, true}, time.Hour), runbook.Critical, "None for this month"},
		"months: last days":        {JudgeMonths([]bool{true, false}, 6*24*time.Hour), runbook.Critical, "in 6 days"},
		"months: not the next":     {JudgeMonths([]bool{true, false, true}, 20*24*time.Hour), runbook.Warning, "20 days"},
		"months: three":            {JudgeMonths([]bool{true, true, true, true}, time.Hour), runbook.OK, "3 months ahead"},
		"replicas: none":           {JudgeReplication(nil), runbook.OK, "No replica"},
		"replicas: keeps up":       {JudgeReplication([]Standby{{"a", true, ptr(20.0), ptr(int64(0))}}), runbook.OK, "20 ms behind"},
		"replicas: idle":           {JudgeReplication([]Standby{{"a", true, nil, ptr(int64(0))}}), runbook.OK, "under 1 ms"},
		"replicas: behind":         {JudgeReplication([]Standby{{"a", true, ptr(11_000.0), nil}}), runbook.Warning, "11.0 s"},
		"replicas: far behind":     {JudgeReplication([]Standby{{"a", true, ptr(61_000.0), nil}}), runbook.Critical, "61.0 s"},
		"replicas: many bytes":     {JudgeReplication([]Standby{{"a", true, nil, ptr(int64(2 << 30))}}), runbook.Critical, "a"},
		"replicas: gone":           {JudgeReplication([]Standby{{"a", false, nil, ptr(int64(1))}}), runbook.Critical, "disk is full"},
		"replicas: not to be seen": {JudgeReplication([]Standby{{"a", true, nil, nil}}), runbook.Unknown, "may not see"},
		"backup: nothing":          {JudgeBackup(Archive{}, now), runbook.Unknown, "not set up"},
		"backup: archives":         {JudgeBackup(Archive{LastAt: ptr(now.Add(-time.Minute))}, now), runbook.Unknown, "60.0 s ago"},
		"backup: recovered":        {JudgeBackup(Archive{LastAt: &now, FailedAt: ptr(now.Add(-time.Hour))}, now), runbook.Unknown, "Could not check"},
		"backup: fails":            {JudgeBackup(Archive{LastAt: ptr(now.Add(-time.Hour)), FailedAt: &now}, now), runbook.Critical, "fails"},
		"backup: never":            {JudgeBackup(Archive{FailedAt: &now}, now), runbook.Critical, "fails"},
		"clock: right":             {JudgeClock(40*time.Millisecond, 0), runbook.OK, "40 ms apart"},
		"clock: behind":            {JudgeClock(-3*time.Second, 0), runbook.Warning, "behind"},
		"clock: ahead":             {JudgeClock(time.Minute, 0), runbook.Critical, "ahead of"},
		"clock: who knows":         {JudgeClock(2*time.Second, 2*time.Second), runbook.OK, "apart"},
		"migrations: all":          {Migrations([]postgres.Migration{{Version: 1, Name: "1.sql", AppliedAt: now}}), runbook.OK, "All 1"},
		"migrations: one missing":  {Migrations([]postgres.Migration{{Name: "1.sql", AppliedAt: now}, {Name: "2.sql"}}), runbook.Critical, "Not applied: 2.sql."},
		"reach: sandbox":           {JudgeReach(nil), runbook.Unknown, "sandbox"},
		"reach: all":               {JudgeReach([]Reached{{"A", 401, "", time.Second}, {"B", 200, "", 0}}), runbook.OK, "2 of 2 answer"},
		"reach: ill":               {JudgeReach([]Reached{{"A", 503, "", 0}, {"B", 200, "", 0}}), runbook.Warning, "A: answers with 503"},
		"reach: away":              {JudgeReach([]Reached{{"A", 0, "no answer in time", 0}, {"B", 500, "", 0}}), runbook.Critical, "1 of 2 answer"},
	} {
		if test.reading.Verdict != test.want || !strings.Contains(test.reading.Value+" "+test.reading.Detail, test.says) || test.reading.Value == "" {
			t.Errorf("%s: %s %q %q, want %s and %q", name, test.reading.Verdict, test.reading.Value, test.reading.Detail, test.want, test.says)
		}
		if strings.Contains(test.reading.Detail, "secret") {
			t.Errorf("%s tells the error", name)
		}
	}
}

func TestReach(t *testing.T) {
	asked := make(chan *http.Request, 1)
	elsewhere := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { t.Error("a redirect was followed") }))
	defer elsewhere.Close()
	answers := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asked <- r
		http.Redirect(w, r, elsewhere.URL, http.StatusFound)
	}))
	defer answers.Close()
	release := make(chan struct{})
	hangs := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		select {
		case <-release:
		case <-r.Context().Done():
		}
	}))
	defer hangs.Close()
	defer close(release)
	refuses := httptest.NewServer(nil)
	refuses.Close()

	client := &http.Client{CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	ctx, cancel := context.WithTimeout(t.Context(), 500*time.Millisecond)
	defer cancel()
	got := Reach(ctx, client, []Target{{"a", answers.URL}, {"h", hangs.URL}, {"r", refuses.URL}, {"x", "://"}})
	request := <-asked
	if request.Header.Get("Authorization") != "" || request.Header.Get("X-Api-Key") != "" || request.Method != http.MethodGet {
		t.Errorf("asked with %v", request.Header)
	}
	for i, want := range []Reached{{Status: 302}, {Problem: "no answer in time"}, {Problem: "no connection"}, {Problem: "its address cannot be used"}} {
		if got[i].Status != want.Status || got[i].Problem != want.Problem {
			t.Errorf("%+v, want %+v", got[i], want)
		}
	}
}

// Every query runs on the schema as it is, also when there is nothing.
func TestQueries(t *testing.T) {
	p := New(pgtest.Tx(t), time.Now)
	for name, run := range map[string]func(context.Context) (runbook.Reading, error){
		"learners": p.LearnersWithoutKeys, "errors": p.RunErrors, "latency": p.LatencyP95, "database": p.Database,
		"months": p.Months, "replication": p.Replication, "backup": p.Backup, "clock": p.Clock,
	} {
		if r, err := run(t.Context()); err != nil || r.Value == "" {
			t.Errorf("%s: %+v, %v", name, r, err)
		}
	}
	if ids, err := p.ProvidersInUse(t.Context()); err != nil || len(ids) != 0 {
		t.Errorf("%v, %v", ids, err)
	}
}
