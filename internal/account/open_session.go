package account

import (
	"context"
	"fmt"
	"net/http"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/promptcademy/promptops/internal/audit"
	"github.com/promptcademy/promptops/internal/fault"
	"github.com/promptcademy/promptops/internal/postgres"
)

// OpenSession is a browser in which an operator is signed in.
type OpenSession struct {
	ID         string // names it for EndOne; nobody can sign in with it
	IP         string
	UserAgent  string // may be empty
	CreatedAt  time.Time
	LastSeenAt time.Time // to the minute
	Current    bool      // the one that asks
}

// sessionID is the beginning of the token's hash: enough to tell one operator's
// sessions apart.
const sessionID = `encode(substr(s.token_hash, 1, 12), 'hex')`

// List returns the open sessions of whoever sends the request, the one that was
// used last first.
func (s *Sessions) List(r *http.Request, operatorID uuid.UUID, now time.Time) ([]OpenSession, error) {
	hash, err := s.current(r, now)
	if err != nil {
		return nil, err
	}
	rows, _ := s.db.Query(r.Context(), `
		select `+sessionID+` as id, s.ip, s.user_agent, s.created_at, s.last_seen_at, s.token_hash = $4 as current
		from ops.sessions s
		where s.operator_id = $1 and s.expires_at > $2 and s.last_seen_at > $3
		order by current desc, s.last_seen_at desc, s.created_at desc, s.token_hash`,
		operatorID, now, now.Add(-SessionIdle), hash)
	open, err := pgx.CollectRows(rows, pgx.RowToStructByName[OpenSession])
	if err != nil {
		return nil, postgres.Fault(fmt.Errorf("list sessions: %w", err))
	}
	return open, nil
}

// EndOne ends one session of the operator. It is fault.NotFound when there is
// none of that id any more, or it is somebody else's.
func (s *Sessions) EndOne(ctx context.Context, operator Operator, id string, now time.Time) error {
	ended, err := s.endSome(ctx, operator, now, sessionID+` = $2`, id)
	if err == nil && ended == 0 {
		return fault.New(fault.NotFound, "This session has ended already.")
	}
	return err
}

// EndOthers ends every session of the operator but the one that asks, and says
// how many there were.
func (s *Sessions) EndOthers(r *http.Request, operator Operator, now time.Time) (ended int64, err error) {
	hash, err := s.current(r, now)
	if err != nil {
		return 0, err
	}
	return s.endSome(r.Context(), operator, now, `s.token_hash <> $2`, hash)
}

func (s *Sessions) endSome(ctx context.Context, operator Operator, now time.Time, condition string, value any) (ended int64, err error) {
	err = postgres.InTx(ctx, s.db, func(tx pgx.Tx) error {
		tag, err := tx.Exec(ctx, `
			delete from ops.sessions s
			where s.operator_id = $1 and `+condition, operator.ID, value)
		if err != nil || tag.RowsAffected() == 0 {
			return err
		}
		ended = tag.RowsAffected()
		return note(ctx, tx, audit.Operator(operator.ID, operator.Email), "operator.end_sessions", operator, now, map[string]any{"sessionsEnded": ended})
	})
	if err != nil {
		return 0, postgres.Fault(fmt.Errorf("end sessions: %w", err))
	}
	s.seen.sessions.Purge() // those that go on are found again with their next request
	return ended, nil
}

// current is the hash of the session that the request came with; empty for none.
func (s *Sessions) current(r *http.Request, now time.Time) ([]byte, error) {
	session, err := s.at(now).Get(r, s.name)
	if err != nil {
		return nil, err
	}
	hash, _ := hashToken(session.ID)
	return hash, nil
}
