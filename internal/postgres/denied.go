package postgres

import (
	"context"
	"errors"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

// Denied is told of a statement that was refused for want of a right (SQLSTATE
// 42501): with the context of whoever sent it, and the role as which it ran, "" for
// our own. It must not wait and not use the connection.
type Denied func(ctx context.Context, role string, refusal *pgconn.PgError)

// denials finds refused statements. It does nothing for one that is not.
type denials struct{ tell Denied }

// What a connection remembers while it is in use.
const (
	roleOfConn    = "promptops.role"
	refusedOnConn = "promptops.refused"
)

func (d denials) note(ctx context.Context, conn *pgx.Conn, err error) {
	refusal, ok := errors.AsType[*pgconn.PgError](err)
	if !ok || refusal.Code != "42501" {
		return
	}
	known := conn.PgConn().CustomData()
	if known[refusedOnConn] == refusal {
		return // a batch tells of it a second time at its end
	}
	known[refusedOnConn] = refusal
	role, _ := known[roleOfConn].(string)
	d.tell(ctx, role, refusal)
}

func (d denials) TraceQueryStart(ctx context.Context, _ *pgx.Conn, _ pgx.TraceQueryStartData) context.Context {
	return ctx
}

func (d denials) TraceQueryEnd(ctx context.Context, conn *pgx.Conn, data pgx.TraceQueryEndData) {
	if data.Err != nil {
		d.note(ctx, conn, data.Err)
	}
}

func (d denials) TraceBatchStart(ctx context.Context, _ *pgx.Conn, _ pgx.TraceBatchStartData) context.Context {
	return ctx
}

func (d denials) TraceBatchQuery(ctx context.Context, conn *pgx.Conn, data pgx.TraceBatchQueryData) {
	if data.Err != nil {
		d.note(ctx, conn, data.Err)
	}
}

func (d denials) TraceBatchEnd(ctx context.Context, conn *pgx.Conn, data pgx.TraceBatchEndData) {
	if data.Err != nil {
		d.note(ctx, conn, data.Err)
	}
}

func (d denials) TraceCopyFromStart(ctx context.Context, _ *pgx.Conn, _ pgx.TraceCopyFromStartData) context.Context {
	return ctx
}

func (d denials) TraceCopyFromEnd(ctx context.Context, conn *pgx.Conn, data pgx.TraceCopyFromEndData) {
	if data.Err != nil {
		d.note(ctx, conn, data.Err)
	}
}

// runsAs makes the connection remember as which role it goes on, until the function
// that it returns is called: an error does not say.
func runsAs(tx pgx.Tx, role string) (no func()) {
	known := tx.Conn().PgConn().CustomData()
	before := known[roleOfConn]
	known[roleOfConn] = role
	return func() { known[roleOfConn] = before }
}
