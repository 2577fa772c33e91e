package activity

import (
	"context"
	"time"

	"github.com/promptcademy/promptops/internal/postgres"
)

// SetFresh makes the Keeper count what is only so old.
func (k *Keeper) SetFresh(fresh time.Duration) { k.fresh = fresh }

// OfRows is Report from the rows alone.
func (s *Store) OfRows(ctx context.Context, q Query, now time.Time) (Report, error) {
	return s.report(ctx, q, now, false)
}

// On returns a Store that reads with another reader, and remembers the same.
func (s *Store) On(reader postgres.Reader) *Store {
	return &Store{reader, reader, s.known}
}
