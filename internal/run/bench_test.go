package run

import (
	"testing"

	"github.com/promptcademy/promptops/internal/postgres"
)

// BenchmarkRun is one run of one model of a provider that answers at once, alone
// and in company: what it costs us, Postgres included.
func BenchmarkRun(b *testing.B) {
	w := makeWorld(b)
	pool, err := postgres.Open(b.Context(), w.pool.Config().ConnString(), PoolOptions)
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(pool.Close)
	w.Store = NewStore(pool, StoreOptions{})
	one := func(b *testing.B) {
		if e, err := w.Run(w.ctx, w.call("mistral/mistral-small-4"), nil); err != nil || e.Status != Success {
			b.Errorf("%v, %v", e, err)
		}
	}
	b.Run("alone", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			one(b)
		}
	})
	b.Run("64 at once", func(b *testing.B) {
		b.ReportAllocs()
		b.SetParallelism(32)
		b.RunParallel(func(p *testing.PB) {
			for p.Next() {
				one(b)
			}
		})
	})
}
