package incident

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/promptcademy/promptops/internal/postgres"
)

// Brief is what everybody who may sign in sees of an incident that goes on.
type Brief struct {
	ID         int64
	Title      string
	Severity   Severity
	Status     Status
	DetectedAt time.Time
}

const (
	boardFor      = 3 * time.Second // how long every page shows the same
	boardPatience = time.Second     // and how long a page waits for it
	boardSize     = 50
)

// board remembers for a moment which incidents go on, since every page asks.
type board struct {
	mu     sync.Mutex
	briefs []Brief
	until  time.Time
}

func (b *board) forget() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.until = time.Time{}
}

// Shown is Unresolved for the banner on every page, a few seconds old at most.
// Where the database cannot say, the page has worse to tell: then it is empty.
func (s *Store) Shown(ctx context.Context, now time.Time) []Brief {
	b := &s.board
	b.mu.Lock()
	defer b.mu.Unlock()
	if now.Before(b.until) && now.After(b.until.Add(-2*boardFor)) {
		return b.briefs
	}
	// Others wait for the answer, too: one who leaves must not take it from them.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), boardPatience)
	defer cancel()
	b.briefs, _ = s.Unresolved(ctx)
	b.until = now.Add(boardFor)
	return b.briefs
}

// Unresolved returns the incidents that go on, the worst and oldest first.
func (s *Store) Unresolved(ctx context.Context) ([]Brief, error) {
	rows, _ := s.db.Query(ctx, `
		select id, title, severity, status, detected_at
		from ops.incidents
		where status <> 'resolved'
		order by severity, detected_at, id
		limit $1`, boardSize)
	briefs, err := pgx.CollectRows(rows, pgx.RowToStructByName[Brief])
	if err != nil {
		return nil, postgres.Fault(fmt.Errorf("incidents that go on: %w", err))
	}
	return briefs, nil
}
