package main

import (
	"cmp"
	"context"
	"errors"
	"net/http"
	"strings"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/promptcademy/promptops/internal/drift"
	"github.com/promptcademy/promptops/internal/fault"
	"github.com/promptcademy/promptops/internal/key"
	"github.com/promptcademy/promptops/internal/postgres"
	"github.com/promptcademy/promptops/internal/probe"
	"github.com/promptcademy/promptops/internal/provider"
	"github.com/promptcademy/promptops/internal/run"
	"github.com/promptcademy/promptops/internal/runbook"
	"github.com/promptcademy/promptops/internal/seal"
	"github.com/promptcademy/promptops/migrations"
)

// checked is what live checks look at.
type checked struct {
	pool      *pgxpool.Pool // a small one of their own, see checkPool
	pages     *pgxpool.Pool
	runs      *pgxpool.Pool
	ring      *seal.Ring
	providers *provider.Registry
	http      *http.Client
	zone      *time.Location
	now       func() time.Time
}

// checkPool are connections that checks do not have to share: when all others are
// in use is when somebody wants to know.
var checkPool = postgres.Options{MaxConns: 4, ApplicationName: "promptops checks"}

// checks is every live check of the runbook. To add one, add a row; the function
// may hang, fail or panic.
func checks(c checked) []runbook.Check {
	probes := probe.New(c.pool, c.now)
	return []runbook.Check{
		{
			ID: "fallback-keys", Title: "Usable fallback keys", Run: c.fallbackKeys,
			Fix: runbook.Fix{Text: "Add a key, or mend what its provider complains about.", Href: "/keys/fallback", Label: "Fallback Keys"},
		},
		{
			ID: "run-errors", Title: "Failed calls to providers", Run: probes.RunErrors,
			Fix: runbook.Fix{Text: "Read what the failed runs say.", Href: "/runs?status=error", Label: "Failed runs"},
		},
		{
			ID: "learners-without-keys", Title: "Learners without a usable key", Run: probes.LearnersWithoutKeys,
			Fix: runbook.Fix{Text: "Write to them, those who cost most first.", Href: "/keys/health", Label: "Key Health"},
		},
		{
			ID: "budget-today", Title: "Today’s cost against the budget", Run: c.budget,
			Fix: runbook.Fix{Text: "Set the daily budget, or an allowance of one learner.", Href: "/settings/budgets", Label: "Budgets"},
		},
		{
			ID: "latency-p95", Title: "How long runs take", Run: probes.LatencyP95,
			Fix: runbook.Fix{Text: "See which model is slow, then follow “Slow runs”.", Href: "/runbook/slow-runs", Label: "Slow runs"},
		},
		{
			ID: "provider-reachability", Title: "Providers can be reached", Run: c.reach, Harmless: true, Keep: time.Minute,
			Fix: runbook.Fix{Text: "Find out whether it is the provider or the way there.", Href: "/runbook/provider-outage", Label: "Provider outage"},
		},
		{
			ID: "database", Title: "The database answers", Run: probes.Database, Harmless: true,
			Fix: runbook.Fix{Text: "Start it again, or free it of what holds it up.", Href: "/runbook/slow-runs", Label: "Slow runs, step 3"},
		},
		{
			ID: "rls-errors", Title: "Statements refused by the database", Run: c.refused,
			Fix: runbook.Fix{Text: "See what was refused, and whether a grant or a policy is missing.", Href: "/rls", Label: "Row-level security"},
		},
		{
			ID: "rls-drift", Title: "Policies and grants are as they should be", Run: c.drift, Keep: time.Minute,
			Fix: runbook.Fix{Text: "See what differs, with the SQL that would mend it.", Href: "/rls", Label: "Row-level security"},
		},
		{
			ID: "connection-pool", Title: "Database connections in use", Run: c.pools, Harmless: true,
			Fix: runbook.Fix{Text: "End what holds them, or raise pool_max_conns in DATABASE_URL.", Href: "/runbook/slow-runs", Label: "Slow runs, step 3"},
		},
		{
			ID: "partitions", Title: "Tables for the months ahead", Run: probes.Months, Harmless: true,
			Fix: runbook.Fix{Text: "Restart a node: it makes them when it starts, and logs partitions_not_made if it cannot."},
		},
		{
			ID: "replication", Title: "Replicas keep up", Run: probes.Replication, Harmless: true,
			Fix: runbook.Fix{Text: "Connect the replica again, or drop its slot with pg_drop_replication_slot before the disk is full."},
		},
		{
			ID: "newest-backup", Title: "Newest backup", Run: probes.Backup,
			Fix: runbook.Fix{Text: "Look at the backups of the host, and turn on point-in-time recovery with seven days.", Href: "/runbook/truncated-tables", Label: "Truncated tables"},
		},
		{
			ID: "migrations", Title: "The schema is up to date", Harmless: true,
			Run: func(ctx context.Context) (runbook.Reading, error) {
				steps, err := postgres.Status(ctx, c.pool, migrations.FS)
				if err != nil {
					return runbook.Reading{}, postgres.Fault(err)
				}
				return probe.Migrations(steps), nil
			},
			Fix: runbook.Fix{Text: "Run promptops migrate on the server: it says which step fails and why."},
		},
		{
			ID: "master-keys", Title: "Stored keys open", Run: c.masterKeys,
			Fix: runbook.Fix{Text: "Put the missing master key back into PROMPTOPS_MASTER_KEYS, behind the first one, and restart."},
		},
		{
			ID: "clock", Title: "Clocks agree", Run: probes.Clock, Harmless: true,
			Fix: runbook.Fix{Text: "Turn on time synchronisation (chrony or systemd-timesyncd) on this node and on the database’s."},
		},
	}
}

func (c checked) fallbackKeys(ctx context.Context) (runbook.Reading, error) {
	keys, err := key.NewStore(c.pool, c.ring).ListFallback(ctx)
	if err != nil {
		return runbook.Reading{}, err
	}
	states := make([]probe.KeyState, len(keys))
	for i, k := range keys {
		reason := k.Unusable("", c.now())
		if reason == key.WrongModel {
			reason = "" // usable, for the models that it is for
		}
		states[i] = probe.KeyState{Provider: c.name(k.Provider), Reason: string(reason), Off: reason == key.IsDisabled}
	}
	return probe.FallbackKeys(states), nil
}

func (c checked) refused(ctx context.Context) (runbook.Reading, error) {
	now := c.now()
	groups, err := drift.NewStore(c.pool).Errors(ctx, now.Add(-time.Hour), now)
	if err != nil {
		return runbook.Reading{}, err
	}
	refused := make([]probe.Refused, len(groups))
	for i, g := range groups {
		what := cmp.Or(g.Object, g.Message)
		if g.Policy != "" {
			what += ", policy " + g.Policy
		}
		if g.Role != "" {
			what += ", as " + g.Role
		}
		if g.Route != "" {
			what += " on " + g.Route
		}
		refused[i] = probe.Refused{What: what, Recent: g.Recent, FirstAt: g.FirstAt, LastAt: g.LastAt}
	}
	return probe.JudgeRefused(refused), nil
}

func (c checked) drift(ctx context.Context) (runbook.Reading, error) {
	result, err := drift.NewStore(c.pool).Check(ctx, c.now())
	if err != nil {
		return runbook.Reading{}, err
	}
	looser := result.Critical()
	return probe.JudgeDrift(looser, len(result.Differences)-looser), nil
}

func (c checked) name(id string) string {
	if spec, ok := c.providers.Lookup(id); ok {
		return spec.Name
	}
	return id
}

func (c checked) budget(ctx context.Context) (runbook.Reading, error) {
	budgets := run.NewBudgetStore(c.pool, c.zone)
	limits, err := budgets.InForce(ctx)
	if err != nil {
		return runbook.Reading{}, err
	}
	used, err := budgets.Used(ctx, c.now())
	if err != nil {
		return runbook.Reading{}, err
	}
	return probe.Budget(used.Day, limits.DailyUSD), nil
}

func (c checked) pools(context.Context) (runbook.Reading, error) {
	state := func(name string, pool *pgxpool.Pool) probe.PoolState {
		s := pool.Stat()
		return probe.PoolState{Name: name, Used: s.AcquiredConns(), Max: s.MaxConns()}
	}
	return probe.Pools([]probe.PoolState{state("pages", c.pages), state("runs", c.runs)}), nil
}

func (c checked) reach(ctx context.Context) (runbook.Reading, error) {
	ids, err := probe.New(c.pool, c.now).ProvidersInUse(ctx)
	if err != nil {
		return runbook.Reading{}, err
	}
	var targets []probe.Target
	for _, id := range ids {
		if spec, ok := c.providers.Lookup(id); ok {
			targets = append(targets, probe.Target{Name: spec.Name, URL: modelsAddress(spec)})
		}
	}
	return probe.JudgeReach(probe.Reach(ctx, c.http, targets)), nil
}

// modelsAddress is where a provider lists its models: without a key it refuses that,
// which is an answer, too.
func modelsAddress(spec provider.Spec) string {
	base := strings.TrimRight(spec.BaseURL, "/")
	switch spec.Wire {
	case provider.WireAnthropic:
		return base + "/v1/models"
	case provider.WireGemini:
		return base + "/v1beta/models"
	}
	return base + "/models"
}

func (c checked) masterKeys(ctx context.Context) (runbook.Reading, error) {
	store := key.NewStore(c.pool, c.ring)
	if err := store.CheckRing(ctx); fault.KindOf(err) == fault.Conflict {
		return probe.MasterKeys(0, 0, faultMessage(err)), nil
	} else if err != nil {
		return runbook.Reading{}, err
	}
	keys, err := store.ListFallback(ctx)
	if err != nil {
		return runbook.Reading{}, err
	}
	failed := 0
	for _, k := range keys {
		if _, err := store.Open(k); err != nil {
			failed++
		}
	}
	return probe.MasterKeys(len(keys), failed, ""), nil
}

// faultMessage is what a fault says to people.
func faultMessage(err error) string {
	f, _ := errors.AsType[*fault.Error](err)
	return f.Message
}
