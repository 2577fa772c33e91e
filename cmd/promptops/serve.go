package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"os"
	"runtime/debug"
	"slices"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"golang.org/x/sync/errgroup"

	"github.com/promptcademy/promptops/handlers"
	"github.com/promptcademy/promptops/internal/account"
	"github.com/promptcademy/promptops/internal/activity"
	"github.com/promptcademy/promptops/internal/audit"
	"github.com/promptcademy/promptops/internal/config"
	"github.com/promptcademy/promptops/internal/demo"
	"github.com/promptcademy/promptops/internal/drift"
	"github.com/promptcademy/promptops/internal/eventlog"
	"github.com/promptcademy/promptops/internal/fault"
	"github.com/promptcademy/promptops/internal/history"
	"github.com/promptcademy/promptops/internal/incident"
	"github.com/promptcademy/promptops/internal/key"
	"github.com/promptcademy/promptops/internal/learner"
	"github.com/promptcademy/promptops/internal/notify"
	"github.com/promptcademy/promptops/internal/outreach"
	"github.com/promptcademy/promptops/internal/postgres"
	"github.com/promptcademy/promptops/internal/price"
	"github.com/promptcademy/promptops/internal/provider"
	"github.com/promptcademy/promptops/internal/provider/sandbox"
	"github.com/promptcademy/promptops/internal/rollup"
	"github.com/promptcademy/promptops/internal/run"
	"github.com/promptcademy/promptops/internal/runbook"
	"github.com/promptcademy/promptops/internal/team"
	"github.com/promptcademy/promptops/internal/telemetry"
	"github.com/promptcademy/promptops/internal/usage"
	"github.com/promptcademy/promptops/internal/view"
	"github.com/promptcademy/promptops/static"
)

const (
	// Runs that had to be interrupted are written down and answered in this time.
	interruptTimeout = 10 * time.Second
	firstLinkTTL     = 24 * time.Hour
	firstAdmin       = "admin@localhost"

	// See collectLess.
	gcPercent   = 400
	memoryLimit = 160 << 20 // bytes, of those that Go manages
)

// serve is the program: everything is made here, top to bottom, and taken down
// in reverse.
func serve(ctx context.Context, p *program, args []string) (err error) {
	set := p.flags("serve", "[--demo]", "Runs the dashboard and the run endpoint until it is told to stop (Ctrl-C, SIGTERM).\nWithout DATABASE_URL it brings its own Postgres and, the first time, demo data.")
	withDemo := set.Bool("demo", false, "fill in demo data if there is none")
	if _, err := parse(set, args); err != nil {
		return err
	}
	collectLess(p.environ)
	tee := eventlog.NewTee(p.stdout)
	log := newLogger(tee)
	var teardown teardown
	told := ctx // to stop, by a signal
	defer func() {
		if told.Err() != nil && errors.Is(err, context.Canceled) {
			err = nil // whatever was going on has ended because of that
		}
		err = errors.Join(err, teardown.run(log))
	}()

	f, err := p.openMigrated(ctx, log)
	if err != nil {
		return err
	}
	teardown.add("database", f.close)
	cfg := f.config

	// What is logged goes to the database by a connection of its own; whatever comes
	// down below is logged before this one does.
	logPool, err := postgres.Open(ctx, f.url, eventlog.PoolOptions)
	if err != nil {
		return err
	}
	flushEvents := func(context.Context) error { return nil } // until it is known which node this is
	teardown.add("log", func() error {
		defer logPool.Close()
		if err := flushEvents(within(interruptTimeout)); err != nil {
			log.Warn("log_events_lost", "error", err)
		}
		return nil
	})

	assets, err := static.Load()
	if err != nil {
		return err
	}

	// Stores and what they need.
	priceStore := price.NewStore(f.pool)
	if _, err := priceStore.Seed(ctx); err != nil {
		return err
	}
	prices := price.NewPrices(priceStore, log)
	if err := prices.RunOnce(ctx, time.Now()); err != nil {
		return err
	}
	priceJobs := price.NewJobs(f.pool, postgres.NewReader(f.pool), cfg.Zone())
	keyStore := key.NewStore(f.pool, f.ring)
	if err := keyStore.CheckRing(ctx); err != nil {
		return err
	}
	channels := notify.NewStore(f.pool, f.ring, f.notifyOptions())
	if err := channels.CheckRing(ctx); err != nil {
		return err
	}
	for _, first := range firstChannels(cfg) {
		if err := channels.Seed(ctx, first, time.Now()); err != nil {
			return err
		}
	}
	dispatcher := notify.NewDispatcher(channels, log)
	uses := key.NewUses(keyStore, log)
	teardown.add("key uses", func() error { return uses.Flush(context.Background()) })

	drifts := drift.NewStore(f.pool)
	denials := drift.NewRecorder(f.denials, drifts, log)
	teardown.add("refused statements", func() error { return denials.RunOnce(within(interruptTimeout), time.Now()) })

	// Runs have a pool of their own. Those that another process left behind are
	// closed before the first new one.
	runOptions := run.PoolOptions
	runOptions.Denied = f.denials.Note
	runPool, err := postgres.Open(ctx, f.url, runOptions)
	if err != nil {
		return err
	}
	teardown.add("run pool", func() error { runPool.Close(); return nil })
	presence, err := run.Join(ctx, runPool, version, log)
	if err != nil {
		return err
	}
	presence.Alone = f.alone()
	events := eventlog.NewWriter(tee, logPool, nodeName(presence.ID), log)
	flushEvents = events.Flush
	teardown.add("node", func() error { presence.Leave(); return nil })
	runs := run.NewStore(runPool, run.StoreOptions{Node: presence.ID, Zone: cfg.Zone(), Log: log})
	teardown.add("outcomes of runs", func() error { return runs.Settle(within(interruptTimeout)) })
	months := run.NewMonths(runs, log)
	if err := months.RunOnce(ctx, time.Now()); err != nil {
		return err
	}
	if err := presence.RunOnce(ctx, time.Now()); err != nil {
		return err
	}
	budgets := run.NewBudgetStore(f.pool, cfg.Zone())
	if err := budgets.Seed(ctx, firstBudgets(cfg)); err != nil {
		return err
	}
	if err := budgets.CatchUp(ctx, time.Now()); err != nil {
		return err
	}
	accounts := account.NewStore(f.pool, log)
	proxies := prefixes(cfg.TrustedProxies)
	sessions := account.NewSessions(f.pool, account.SessionOptions{Secure: cfg.SecureCookies(), ClientIP: handlers.ClientIP(proxies)})
	verifier, err := learner.NewVerifier(ctx, learner.Options{
		SupabaseURL: cfg.SupabaseURL, JWTSecret: f.jwtSecret, AllowAnonymous: cfg.AllowAnonymous,
	})
	if err != nil {
		return err
	}

	// Providers, and the sandbox that demo keys open.
	httpClient := provider.NewHTTPClient()
	providers := provider.NewRegistry(httpClient, cfg.ProviderBaseURLs())
	providers.AllowPrivate(*cfg.AllowPrivateEndpoints)
	endpoints := provider.NewEndpoints(f.pool, providers, log)
	if err := endpoints.RunOnce(ctx, time.Now()); err != nil {
		return err
	}
	boxCtx, closeBox := context.WithCancel(context.WithoutCancel(ctx)) // runs that are going on still need it
	teardown.add("sandbox provider", func() error { closeBox(); return nil })
	box, err := sandbox.Start(boxCtx, "")
	if err != nil {
		return err
	}
	providers.UseSandbox(box.URL)
	health := key.NewHealth(keyStore, key.HealthOptions{Log: log, Providers: providers, Now: time.Now, Exhausted: tellOfExhaustion(providers, cfg.BaseURL)})
	teardown.add("key health", func() error { health.Stop(); return nil })

	// What pages read, which need not be the database that runs are written to.
	pages, replica := postgres.NewReader(f.pool), (*postgres.Replica)(nil)
	if cfg.Replica != "" {
		if replica, err = postgres.OpenReplica(ctx, cfg.Replica, f.pool, postgres.Options{Denied: f.denials.Note}, log); err != nil {
			return fmt.Errorf("DATABASE_REPLICA_URL: %w", err)
		}
		teardown.add("replica pool", func() error { replica.Close(); return nil })
		pages = pages.Beside(replica)
	}

	ownKeys := key.NewOwnKeys(keyStore, providers, log)
	outreachStore := outreach.NewStore(f.pool, pages, cfg.Zone())
	demoStore := demo.NewStore(f.pool, f.ring, cfg.Zone())

	stopping, interrupt := context.WithCancel(context.WithoutCancel(ctx))
	defer interrupt()

	// What monitoring systems are told.
	models := telemetry.NewModels(func(provider, model string) bool {
		listed, ok := prices.Book().Find(provider, model, time.Now())
		return ok && listed.Model == model // not a dated name that only costs the same: there are many days
	})
	metrics := telemetry.NewMetrics(version, models, map[string]func() telemetry.Pool{
		"pages": func() telemetry.Pool { return poolState(f.pool) }, "runs": func() telemetry.Pool { return poolState(runPool) },
	})
	metrics.Unwritten(runs.Unwritten)
	metrics.Denied(f.denials.Total)
	metrics.LogEventsDropped(tee.Dropped)
	observe, runLog := metrics.Observe, log
	if cfg.OTLPURL != "" {
		export, err := telemetry.NewExport(ctx, telemetry.ExportOptions{
			Endpoint: cfg.OTLPURL, Headers: cfg.OTLPHeaderMap(), Service: cfg.OTLPService, Version: version,
			Models: models, Log: log, TraceParent: func(call run.Call) string { return call.TraceParent },
		})
		if err != nil {
			return err
		}
		teardown.add("OTLP export", func() error { export.Close(); return nil })
		observe = func(f run.Finished) { metrics.Observe(f); export.Observe(f) }
		runLog = slog.New(slog.NewMultiHandler(log.Handler(), export.LogHandler()))
	}

	checksPool, err := postgres.Open(ctx, f.url, checkPool)
	if err != nil {
		return err
	}
	teardown.add("checks pool", func() error { checksPool.Close(); return nil })
	board := runbook.NewBoard(checks(checked{
		pool: checksPool, pages: f.pool, runs: runPool, ring: f.ring, providers: providers, http: httpClient, zone: cfg.Zone(), now: time.Now,
	}), log, time.Now)

	server := &handlers.Server{
		Accounts: accounts, Sessions: sessions, Teams: team.NewStore(f.pool), Learners: learner.NewStore(f.pool), Verifier: verifier,
		Runner: &run.Runner{
			Providers: providers, Keys: keyStore, Uses: uses, Health: health, Prices: prices, Store: runs, Log: runLog, Now: time.Now,
			Observe: observe, Stopping: stopping,
		},
		OwnKeys: ownKeys, TestKey: health.Test, Audit: audit.NewStore(f.pool), Incidents: incident.NewStore(f.pool), Drift: drifts, Runbook: runbook.NewStore(f.pool), Checks: board, Reading: reading(board), Readable: readable(board),
		Endpoints: endpoints, Fallbacks: key.NewFallbacks(f.pool, f.ring, cfg.Zone()),
		Providers: providers, Prices: prices, PriceStore: priceStore, PriceJobs: priceJobs, Budgets: budgets, Usage: usage.NewStore(pages), History: history.NewStore(pages), Activity: activity.NewStore(pages), Views: view.NewStore(f.pool), Demo: demoStore, Metrics: metrics, Assets: assets,
		Outreach: outreachStore, Channels: channels, Notifications: dispatcher,
		Logs: eventlog.NewStore(pages, cfg.LogDays), Closing: ctx,
		Ready: f.ready, Replica: replicaOf(replica),
		Log: runLog, Now: time.Now, Zone: cfg.Zone(),
		BaseURL: cfg.BaseURL, CORSOrigins: cfg.CORSOrigins, TrustedProxies: proxies, MetricsToken: cfg.MetricsToken,
	}
	httpServer := &http.Server{
		Handler:           server.Handler(),
		ReadHeaderTimeout: 10 * time.Second,
		IdleTimeout:       2 * time.Minute,
		MaxHeaderBytes:    64 << 10,
		ErrorLog:          slog.NewLogLogger(log.Handler(), slog.LevelWarn),
	}
	listener, err := net.Listen("tcp", cfg.Listen)
	if err != nil {
		return fmt.Errorf("cannot listen on %s: %w (PORT or PROMPTOPS_LISTEN chooses another address)", cfg.Listen, err)
	}
	onlyMetrics := http.NewServeMux()
	onlyMetrics.Handle("GET /metrics", metrics.Handler())
	metricsServer := &http.Server{
		Handler:           onlyMetrics,
		ReadHeaderTimeout: 10 * time.Second,
		ReadTimeout:       10 * time.Second,
		WriteTimeout:      30 * time.Second,
		IdleTimeout:       2 * time.Minute,
		MaxHeaderBytes:    64 << 10,
		ErrorLog:          httpServer.ErrorLog,
	}
	var metricsListener net.Listener
	if cfg.MetricsListen != "" {
		if metricsListener, err = net.Listen("tcp", cfg.MetricsListen); err != nil {
			return errors.Join(fmt.Errorf("cannot listen on %s: %w (PROMPTOPS_METRICS_LISTEN chooses another address)", cfg.MetricsListen, err), listener.Close())
		}
	}
	log.Info("server_started", "version", version, "listen", listener.Addr().String(), "embedded", cfg.Embedded())

	loops, ctx := errgroup.WithContext(ctx)
	loops.Go(func() error { return serveUntil(ctx, httpServer, listener, cfg.ShutdownTimeout, interrupt, log) })
	if metricsListener != nil {
		loops.Go(func() error {
			return serveUntil(ctx, metricsServer, metricsListener, cfg.ShutdownTimeout, func() {}, log)
		})
	}
	loops.Go(func() error { return prices.Run(ctx) })
	loops.Go(func() error { return price.NewRecomputer(priceJobs, log).Run(ctx) })
	loops.Go(func() error { return uses.Run(ctx) })
	loops.Go(func() error { return health.Run(ctx) })
	loops.Go(func() error { return months.Run(ctx) })
	if replica != nil {
		loops.Go(func() error { return replica.Run(ctx) })
	}
	loops.Go(func() error { return presence.Run(ctx) })
	loops.Go(func() error { return rollup.NewRoller(f.pool, cfg.Zone(), log).Run(ctx) })
	loops.Go(func() error { return activity.NewKeeper(f.pool, cfg.Zone(), log).Run(ctx) })
	loops.Go(func() error { return endpoints.Run(ctx) })
	loops.Go(func() error { return outreach.NewKeeper(outreachStore, log).Run(ctx) })
	loops.Go(func() error { return dispatcher.Run(ctx) })
	loops.Go(func() error { return events.Run(ctx) })
	loops.Go(func() error { return eventlog.NewDays(f.pool, cfg.LogDays, log).Run(ctx) })
	loops.Go(func() error { return account.NewSweeper(f.pool, log).Run(ctx) })
	loops.Go(func() error { return p.welcome(ctx, f, accounts, demoStore, prices, *withDemo) })
	return loops.Wait()
}

// collectLess lets garbage pile up to four times what is in use before it is
// collected, instead of once, since little is in use and all of a run is soon
// garbage. Under full load that takes some 15 % off the processor time of a run,
// for 70 to 85 MB in place of 45 to 50; with 200 % it is half of that, with 800 %
// no more. Where much is in use the limit keeps the whole below 200 MB for as long
// as it can. GOGC and GOMEMLIMIT have the last word.
func collectLess(environ []string) {
	set := func(name string) bool {
		return slices.ContainsFunc(environ, func(v string) bool { return strings.HasPrefix(v, name+"=") })
	}
	if !set("GOGC") {
		debug.SetGCPercent(gcPercent)
	}
	if !set("GOMEMLIMIT") {
		debug.SetMemoryLimit(memoryLimit)
	}
}

// welcome fills in the demo on the first start and says on the terminal how to
// get in.
func (p *program) welcome(ctx context.Context, f *foundation, accounts *account.Store, demos *demo.Store, prices *price.Prices, withDemo bool) error {
	var operator account.Operator
	first := false
	if f.config.Embedded() {
		var err error
		if operator, first, err = accounts.EnsureFirstAdmin(ctx, firstAdmin, time.Now()); err != nil {
			return err
		}
	}
	if withDemo || first {
		present, err := demos.Present(ctx)
		if err != nil {
			return err
		}
		if !present {
			fmt.Fprintln(p.stderr, "Filling in demo data …")
			if err := demos.Load(ctx, prices.Book(), time.Now()); err != nil {
				return err
			}
		}
	}
	fmt.Fprintf(p.stderr, "\n  Promptcademy Ops is at %s\n", f.config.BaseURL)
	switch {
	case !f.config.Embedded():
		fmt.Fprintln(p.stderr, "  Nobody can sign in yet? promptops operator add makes the first operator.")
	case !operator.HasPassword:
		link, err := accounts.CreateLink(ctx, audit.CommandLine, operator.ID, firstLinkTTL, time.Now())
		if err != nil {
			return err
		}
		fmt.Fprintf(p.stderr, "  Sign in once with  %s/sign-in/link/%s\n", f.config.BaseURL, link)
	default:
		fmt.Fprintf(p.stderr, "  Sign in as %s; a new one-time link: promptops operator reset --email %s\n", operator.Email, operator.Email)
	}
	fmt.Fprintln(p.stderr, "  Ctrl-C stops everything.")
	fmt.Fprintln(p.stderr)
	return nil
}

// serveUntil serves until ctx is done. Then it takes no more requests and lets
// those that are running end: by themselves for as long as patience lasts, then by
// interrupting the runs among them.
func serveUntil(ctx context.Context, server *http.Server, listener net.Listener, patience time.Duration, interrupt func(), log *slog.Logger) error {
	stopped := make(chan error, 1)
	go func() { stopped <- server.Serve(listener) }()
	select {
	case err := <-stopped:
		return err
	case <-ctx.Done():
	}
	log.Info("server_stopping", "listen", listener.Addr().String(), "patience", patience.String())
	if server.Shutdown(within(patience)) == nil {
		return nil
	}
	log.Warn("runs_interrupted", "patience", patience.String())
	interrupt()
	if err := server.Shutdown(within(interruptTimeout)); err != nil {
		log.Error("requests_cut_off", "error", err)
		return server.Close()
	}
	return nil
}

// nodeName tells processes apart, also those of one machine.
func nodeName(id uuid.UUID) string {
	text := id.String()
	host, err := os.Hostname()
	if err != nil {
		host = "node"
	}
	return host + "/" + text[len(text)-4:]
}

// within is a context that ends by itself and not with anything else.
func within(d time.Duration) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), d)
	context.AfterFunc(ctx, cancel)
	return ctx
}

// firstBudgets are the limits until somebody sets others.
func firstBudgets(cfg config.Config) run.Budgets {
	b := run.Budgets{RunsPerMinute: cfg.RunsPerMinute, ConcurrentRuns: cfg.ConcurrentRuns, FallbackMaxTokens: run.DefaultFallbackMaxTokens}
	b.DailyUSD, b.LearnerDailyUSD = dollars(cfg.DailyBudgetUSD), dollars(cfg.LearnerDailyBudgetUSD)
	return b
}

// firstChannels are where notifications go until somebody sets them up.
func firstChannels(cfg config.Config) []notify.Setup {
	var first []notify.Setup
	if server, ok := cfg.MailServer(); ok {
		first = append(first, notify.Setup{
			Channel: notify.Email, Enabled: true, Host: server.Host, Port: server.Port, Security: server.Security,
			Username: server.Username, Secret: notify.Secret(server.Password), From: cfg.MailFrom, To: cfg.MailTo,
		})
	}
	if cfg.SlackWebhook != "" {
		first = append(first, notify.Setup{Channel: notify.Slack, Enabled: true, Address: notify.Secret(cfg.SlackWebhook)})
	}
	return first
}

// tellOfExhaustion tells every channel that is set up that a provider has no usable
// fallback key any more.
func tellOfExhaustion(providers *provider.Registry, baseURL string) func(context.Context, pgx.Tx, string, string) error {
	return func(ctx context.Context, tx pgx.Tx, id, why string) error {
		name := id
		if spec, ok := providers.Lookup(id); ok {
			name = spec.Name
		}
		return notify.Everywhere(ctx, tx, notify.Message{
			Purpose: "key_alert",
			Subject: "No usable fallback key for " + name,
			Text: "Learners without a key of their own cannot use " + name + " at the moment. " + why + "\n\n" +
				"What happened to each key, and what to do: " + baseURL + "/keys/fallback",
		}, time.Now())
	}
}

// reading is what a check says now, for the time line of an incident.
func reading(board *runbook.Board) func(context.Context, string) (incident.Reading, error) {
	return func(ctx context.Context, id string) (incident.Reading, error) {
		found := board.Read(ctx, []string{id}, func(string) runbook.Freshness { return runbook.Again })
		if len(found) == 0 {
			return incident.Reading{}, fault.New(fault.NotFound, "There is no such check.")
		}
		r := found[0]
		return incident.Reading{Title: r.Title, Verdict: string(r.Verdict), Value: r.Value, Detail: r.Detail, At: r.At}, nil
	}
}

// readable are the checks whose readings an incident can have.
func readable(board *runbook.Board) func() []incident.Check {
	return func() (all []incident.Check) {
		for _, c := range board.Checks() {
			all = append(all, incident.Check{ID: c.ID, Title: c.Title})
		}
		return all
	}
}

// notifyOptions let webhooks lead where added endpoints may.
func (f *foundation) notifyOptions() notify.Options {
	return notify.Options{AllowPrivate: *f.config.AllowPrivateEndpoints}
}

// replicaOf is what pages need to know of a replica; nil of none.
func replicaOf(replica *postgres.Replica) *handlers.Replica {
	if replica == nil {
		return nil
	}
	return &handlers.Replica{Primary: postgres.OnPrimary, State: func() (time.Duration, string) {
		state := replica.State()
		return state.Age, state.Away
	}}
}

// dollars reads an amount that config.Load has checked; empty is no limit.
func dollars(amount string) *price.USD {
	usd, err := price.ParseUSD(amount)
	if err != nil {
		return nil
	}
	return &usd
}

// teardown is what has come to exist and has to go, by name.
type teardown struct {
	steps []teardownStep
}

type teardownStep struct {
	name string
	stop func() error
}

func (t *teardown) add(name string, stop func() error) {
	t.steps = append(t.steps, teardownStep{name, stop})
}

func (t *teardown) run(log *slog.Logger) error {
	var problems []error
	for i := len(t.steps) - 1; i >= 0; i-- {
		if err := t.steps[i].stop(); err != nil {
			problems = append(problems, fmt.Errorf("stop %s: %w", t.steps[i].name, err))
		}
	}
	log.Info("server_stopped")
	return errors.Join(problems...)
}

// newLogger writes one JSON object per line; what slog calls the message is the
// event's name.
func newLogger(w io.Writer) *slog.Logger {
	return slog.New(slog.NewJSONHandler(w, &slog.HandlerOptions{
		ReplaceAttr: func(groups []string, attr slog.Attr) slog.Attr {
			if attr.Key == slog.MessageKey && len(groups) == 0 {
				attr.Key = "event"
			}
			return attr
		},
	}))
}

func poolState(pool *pgxpool.Pool) telemetry.Pool {
	s := pool.Stat()
	return telemetry.Pool{
		Acquired: s.AcquiredConns(), Idle: s.IdleConns(), Max: s.MaxConns(),
		Acquires: s.AcquireCount(), Waits: s.EmptyAcquireCount(), Waited: s.EmptyAcquireWaitTime(),
	}
}

func prefixes(cidrs []string) []netip.Prefix {
	var list []netip.Prefix
	for _, cidr := range cidrs {
		list = append(list, netip.MustParsePrefix(strings.TrimSpace(cidr))) // config.Load has checked them
	}
	return list
}
