// Package loop repeats what a program does by itself.
package loop

import (
	"context"
	"log/slog"
	"time"
)

// Every calls once, now and then again and again, until ctx is done; then it returns
// nil. A call that fails is logged as a warning with the name failed, and the next
// one comes all the same. A call that takes longer than every delays the next; none
// is made up for.
func Every(ctx context.Context, log *slog.Logger, failed string, every time.Duration, once func(ctx context.Context, now time.Time) error) error {
	ticker := time.NewTicker(every)
	defer ticker.Stop()
	for {
		if err := once(ctx, time.Now()); err != nil && ctx.Err() == nil {
			log.WarnContext(ctx, failed, "error", err) //nolint:sloglint // whoever calls names it, with a constant
		}
		select {
		case <-ctx.Done():
			return nil
		case <-ticker.C:
		}
	}
}
