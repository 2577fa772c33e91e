// Package postgres is the way to the database: the pool, transactions, queries
// that run as a learner through row-level security, and the migrator.
// embedded supervises a private server, pgtest gives tests a real database.
package postgres

import (
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"strconv"
	"time"

	"github.com/google/uuid"
	pgxdecimal "github.com/jackc/pgx-shopspring-decimal"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgtype"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/shopspring/decimal"

	"github.com/promptcademy/promptops/internal/fault"
)

// Options of a pool. The zero value is good.
type Options struct {
	MaxConns        int32  // most connections at once; 0 means pool_max_conns of the URL, else 16
	ApplicationName string // as pg_stat_activity shows it; "" means application_name of the URL, else "promptops"
	Session         string // SQL that every new connection begins with; "" is none
	Denied          Denied // told of refused statements; nil: nobody is
}

// Open connects to the database at url and makes sure that it answers. Columns
// of type numeric map to decimal.Decimal, uuid to uuid.UUID, both in arrays and
// as pointers where they can be null.
//
// It returns a fault.Invalid when url cannot be read and a fault.Unavailable
// when the database does not let us in. Neither ever holds the password.
func Open(ctx context.Context, url string, opts Options) (*pgxpool.Pool, error) {
	pool, err := newPool(ctx, url, opts, 0)
	if err != nil {
		return nil, err
	}
	ping, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	if err := pool.Ping(ping); err != nil {
		to := pool.Config().ConnConfig
		pool.Close()
		address := net.JoinHostPort(to.Host, strconv.Itoa(int(to.Port)))
		return nil, fault.New(fault.Unavailable, "The database at %s does not let us in: %s.", address, reason(err)).
			After(2 * time.Second).Because(err)
	}
	return pool, nil
}

// newPool returns a pool that has not connected yet; connectTimeout 0 is that of the
// URL.
func newPool(ctx context.Context, url string, opts Options, connectTimeout time.Duration) (*pgxpool.Pool, error) {
	config, err := pgxpool.ParseConfig(url)
	if err != nil {
		// The parser's error can quote the address with its password.
		return nil, fault.New(fault.Invalid, "The database address is not valid. It looks like "+
			"postgres://user:password@host:5432/database; special characters in the password are written percent-encoded.")
	}
	config.MaxConns = maxConns(config, opts)
	config.AfterConnect = func(ctx context.Context, conn *pgx.Conn) error {
		types := conn.TypeMap()
		pgxdecimal.Register(types)
		types.TryWrapEncodePlanFuncs = slices.Insert(types.TryWrapEncodePlanFuncs, 0, wrapArray, wrapUUID)
		// Behind a transaction pooler the driver cannot ask the server for the
		// types of parameters and has to know them itself.
		types.RegisterDefaultPgType([]uuid.UUID{}, "_uuid")
		types.RegisterDefaultPgType([]decimal.Decimal{}, "_numeric")
		if opts.Session == "" {
			return nil
		}
		_, err := conn.Exec(ctx, opts.Session)
		return err
	}
	if opts.Denied != nil {
		config.ConnConfig.Tracer = denials{opts.Denied}
	}
	if connectTimeout > 0 {
		config.ConnConfig.ConnectTimeout = connectTimeout
	}
	params := config.ConnConfig.RuntimeParams
	if opts.ApplicationName != "" {
		params["application_name"] = opts.ApplicationName
	} else if params["application_name"] == "" {
		params["application_name"] = "promptops"
	}

	pool, err := pgxpool.NewWithConfig(ctx, config)
	if err != nil {
		return nil, fmt.Errorf("pool: %w", err)
	}
	return pool, nil
}

// wrapUUID writes a uuid as its 16 bytes. Left alone, the driver asks it for its
// text and reads that again, which is ten times the work.
func wrapUUID(value any) (pgtype.WrappedEncodePlanNextSetter, any, bool) {
	switch value.(type) {
	case uuid.UUID, *uuid.UUID:
		return &uuidPlan{}, pgtype.UUID{}, true
	}
	return nil, nil, false
}

type uuidPlan struct{ next pgtype.EncodePlan }

func (p *uuidPlan) SetNext(next pgtype.EncodePlan) { p.next = next }

func (p *uuidPlan) Encode(value any, buf []byte) ([]byte, error) {
	switch id := value.(type) {
	case uuid.UUID:
		return p.next.Encode(pgtype.UUID{Bytes: id, Valid: true}, buf)
	case *uuid.UUID:
		if id == nil {
			return nil, nil
		}
		return p.next.Encode(pgtype.UUID{Bytes: *id, Valid: true}, buf)
	}
	return nil, fmt.Errorf("%T is not a uuid", value)
}

func maxConns(config *pgxpool.Config, opts Options) int32 {
	if opts.MaxConns > 0 {
		return opts.MaxConns
	}
	// pgxpool has a default of its own, so ask what the URL said.
	if uri, err := pgconn.ParseConfig(config.ConnString()); err == nil && uri.RuntimeParams["pool_max_conns"] != "" {
		return config.MaxConns
	}
	return 16
}

// reason is what the server said, or the innermost error of the way there.
func reason(err error) string {
	if pgErr, ok := errors.AsType[*pgconn.PgError](err); ok {
		return pgErr.Message
	}
	if errors.Is(err, context.DeadlineExceeded) {
		return "no answer within 10 seconds"
	}
	if dial, ok := errors.AsType[*net.OpError](err); ok {
		return dial.Err.Error()
	}
	return "the connection failed"
}
