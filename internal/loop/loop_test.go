package loop_test

import (
	"context"
	"errors"
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/promptcademy/promptops/internal/loop"
)

// It goes on after a failure, is late rather than twice at once, and its end is no
// failure.
func TestEvery(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var log strings.Builder
		ctx, cancel := context.WithCancel(t.Context())
		began := time.Now()
		var at []time.Duration
		err := loop.Every(ctx, slog.New(slog.NewTextHandler(&log, nil)), "not_done", time.Minute, func(ctx context.Context, now time.Time) error {
			at = append(at, now.Sub(began))
			switch len(at) {
			case 1:
				return errors.New("first")
			case 2:
				time.Sleep(150 * time.Second)
			case 4:
				cancel()
				return ctx.Err()
			}
			return nil
		})
		want := []time.Duration{0, time.Minute, 210 * time.Second, 240 * time.Second}
		if err != nil || len(at) != len(want) {
			t.Fatalf("%v, calls at %v, want %v", err, at, want)
		}
		for i := range want {
			if at[i] != want[i] {
				t.Errorf("call %d came at %v, want %v", i, at[i], want[i])
			}
		}
		if strings.Count(log.String(), "not_done") != 1 || !strings.Contains(log.String(), "error=first") {
			t.Errorf("logged %q", log.String())
		}
	})
}
