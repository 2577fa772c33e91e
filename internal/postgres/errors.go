package postgres

import (
	"context"
	"errors"
	"io"
	"net"
	"strings"
	"syscall"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/puddle/v2"

	"github.com/promptcademy/promptops/internal/fault"
)

// Fault turns an error that means "the database is away or full" into a
// fault.Unavailable with a RetryAfter of 2 s. Every other error, nil and
// faults included, comes back as it is.
func Fault(err error) error {
	if err == nil {
		return nil
	}
	if _, ok := errors.AsType[*fault.Error](err); ok {
		return err
	}
	if !isAway(err) {
		return err
	}
	return fault.New(fault.Unavailable, "The database does not answer right now. Try again in a moment.").
		After(2 * time.Second).Because(err)
}

func isAway(err error) bool {
	if pgErr, ok := errors.AsType[*pgconn.PgError](err); ok {
		switch pgErr.Code {
		case "57P01", "57P02", "57P03", // shutting down, crashed, starting
			"53300": // no connection left
			return true
		}
		return strings.HasPrefix(pgErr.Code, "08")
	}
	// The caller went away: that says nothing about the database.
	if errors.Is(err, context.Canceled) {
		return false
	}
	if _, ok := errors.AsType[*pgconn.ConnectError](err); ok {
		return true
	}
	if errors.Is(err, context.DeadlineExceeded) {
		return false
	}
	if _, ok := errors.AsType[*net.OpError](err); ok {
		return true
	}
	for _, broken := range []error{
		puddle.ErrClosedPool, pgconn.ErrConnClosed, net.ErrClosed,
		io.EOF, io.ErrUnexpectedEOF, syscall.ECONNRESET, syscall.EPIPE,
	} {
		if errors.Is(err, broken) {
			return true
		}
	}
	return false
}
