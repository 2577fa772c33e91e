package account

import (
	"context"
	"fmt"
	"net/http"
	"strings"
	"time"

	"github.com/google/uuid"

	"github.com/promptcademy/promptops/internal/postgres"
)

// sessionRow is a session that has not ended, with its operator.
type sessionRow struct {
	Operator
	Data       map[string]any
	LastSeenAt time.Time
}

// find returns a session and notes that it is in use; pgx.ErrNoRows for one
// that has ended.
func (s *Sessions) find(ctx context.Context, hash []byte) (sessionRow, error) {
	now := s.now()
	row, err := one[sessionRow](ctx, s.db, `
		select`+operatorColumns+`, s.data, s.last_seen_at
		from ops.sessions s
		join ops.operators o on o.id = s.operator_id
		where s.token_hash = $1 and s.expires_at > $2 and s.last_seen_at > $3 and o.disabled_at is null`,
		hash, now, now.Add(-SessionIdle))
	if err != nil {
		return sessionRow{}, fmt.Errorf("find session: %w", err)
	}
	if now.Sub(row.LastSeenAt) < sessionTouch {
		return row, nil
	}
	_, err = s.db.Exec(ctx, `
		update ops.sessions
		set last_seen_at = $2
		where token_hash = $1 and last_seen_at < $2`,
		hash, now)
	if err != nil {
		return sessionRow{}, postgres.Fault(fmt.Errorf("touch session: %w", err))
	}
	return row, nil
}

// insert refuses an operator who was disabled since they were looked up.
func (s *Sessions) insert(r *http.Request, hash []byte, operatorID uuid.UUID, data map[string]any) error {
	now := s.now()
	tag, err := s.db.Exec(r.Context(), `
		insert into ops.sessions (token_hash, operator_id, data, ip, user_agent, created_at, last_seen_at, expires_at)
		select $1, id, $3, $4, $5, $6, $6, $7
		from ops.operators
		where id = $2 and disabled_at is null`,
		hash, operatorID, data, s.clientIP(r), shortUserAgent(r), now, now.Add(SessionMax))
	if err != nil {
		return postgres.Fault(fmt.Errorf("create session: %w", err))
	}
	if tag.RowsAffected() == 0 {
		return signedOut()
	}
	return nil
}

func (s *Sessions) update(ctx context.Context, hash []byte, data map[string]any) error {
	tag, err := s.db.Exec(ctx, `
		update ops.sessions
		set data = $2
		where token_hash = $1`,
		hash, data)
	if err != nil {
		return postgres.Fault(fmt.Errorf("save session: %w", err))
	}
	if tag.RowsAffected() == 0 {
		return signedOut()
	}
	return nil
}

func (s *Sessions) delete(ctx context.Context, hash []byte) error {
	s.seen.forget(hash) // also if the database does not hear of it
	if _, err := s.db.Exec(ctx, `delete from ops.sessions where token_hash = $1`, hash); err != nil {
		return postgres.Fault(fmt.Errorf("end session: %w", err))
	}
	return nil
}

// shortUserAgent is what Postgres can store of the header, which may hold any
// bytes.
func shortUserAgent(r *http.Request) string {
	agent := r.UserAgent()
	if len(agent) > 300 {
		agent = agent[:300]
	}
	return strings.ToValidUTF8(agent, "")
}
