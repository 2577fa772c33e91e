package telemetry

import (
	"log/slog"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// Gatherer is for tests that look at all metrics at once.
func (m *Metrics) Gatherer() prometheus.Gatherer { return m.registry }

// Problems returns what failed exports are reported to.
func Problems(log *slog.Logger, now func() time.Time) interface{ Handle(error) } {
	return &problems{log: log, now: now}
}
