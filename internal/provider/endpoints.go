package provider

import (
	"context"
	"fmt"
	"log/slog"
	"net/netip"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/promptcademy/promptops/internal/loop"
	"github.com/promptcademy/promptops/internal/postgres"
)

const endpointsEvery = 30 * time.Second

// Endpoints keeps the OpenAI-compatible endpoints that admins added
// (ops.providers), and a Registry up to date with them.
type Endpoints struct {
	Resolve func(ctx context.Context, host string) ([]netip.Addr, error) // nil: the system's resolver

	db       postgres.DB
	registry *Registry
	log      *slog.Logger
}

// NewEndpoints returns the loop for a registry.
func NewEndpoints(db postgres.DB, registry *Registry, log *slog.Logger) *Endpoints {
	return &Endpoints{db: db, registry: registry, log: log}
}

// Run loads every 30 seconds until ctx is done. When that fails the registry
// stays as it is.
func (e *Endpoints) Run(ctx context.Context) error {
	return loop.Every(ctx, e.log, "provider_endpoints_not_loaded", endpointsEvery, e.RunOnce)
}

// RunOnce loads the endpoints.
func (e *Endpoints) RunOnce(ctx context.Context, _ time.Time) error {
	rows, err := e.db.Query(ctx, `select id, name, base_url from ops.providers order by name, id`)
	if err != nil {
		return postgres.Fault(fmt.Errorf("load provider endpoints: %w", err))
	}
	specs, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (Spec, error) {
		spec := Spec{Wire: WireOpenAI}
		return spec, row.Scan(&spec.ID, &spec.Name, &spec.BaseURL)
	})
	if err != nil {
		return postgres.Fault(fmt.Errorf("load provider endpoints: %w", err))
	}
	e.registry.SetAdded(specs)
	return nil
}
