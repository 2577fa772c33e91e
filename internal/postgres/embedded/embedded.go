// Package embedded runs a private Postgres server, so that the dashboard starts
// without any set-up. It finds the programs that are installed, keeps a cluster
// in a folder of its own and supervises the server process: it ends with us,
// however we end, and the data stays.
//
// One process owns the server of a folder. Others that start on the same folder
// attach to it, and when the owner goes away one of them takes over.
package embedded

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/url"
	"os"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
)

// Options of Start.
type Options struct {
	Dir  string       // where the database is kept; made when missing
	Log  *slog.Logger // nil: silent
	Fast bool         // for tests only: a crash of the machine may lose the data
}

// Server is a running Postgres server of ours.
type Server struct {
	cluster *cluster
	log     *slog.Logger
	owned   atomic.Bool

	stopOnce sync.Once
	stopping chan struct{}
	stopped  chan struct{} // closed when keep has returned
	stopErr  error         // valid once stopped is closed
}

// How long others may take: an owner that is just making its cluster, and a
// server that is shutting down.
const (
	startTimeout = 60 * time.Second
	attachPoll   = 20 * time.Millisecond
	takeoverPoll = 200 * time.Millisecond
	restartPause = time.Second
)

// Start brings up the server of opts.Dir, or attaches to the one that another
// live process runs there, and returns when it takes connections. On the first
// start it makes the cluster. The server lives until Stop or the end of this
// process, not until the end of ctx.
//
// Started by root it runs as the folder's owner, as user postgres or as nobody.
// When that user cannot reach the folder, another one below /var/lib is used
// and the log says so.
func Start(ctx context.Context, opts Options) (*Server, error) {
	log := opts.Log
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	c, err := openCluster(opts, log)
	if err != nil {
		return nil, err
	}
	s := &Server{cluster: c, log: log, stopping: make(chan struct{}), stopped: make(chan struct{})}

	ctx, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	for {
		lock, err := c.tryLock()
		if err == nil {
			proc, err := c.start(ctx, false)
			if err != nil {
				return nil, errors.Join(err, lock.Close())
			}
			s.owned.Store(true)
			go s.keep(lock, proc)
			return s, nil
		}
		if !errors.Is(err, errHeld) {
			return nil, err
		}
		if c.readConnection() == nil && c.answers(ctx) {
			go s.keep(nil, nil)
			return s, nil
		}
		// Its owner is starting or stopping it right now.
		select {
		case <-ctx.Done():
			return nil, fmt.Errorf("another process holds the database in %s, but its server does not answer: %w", c.dir, ctx.Err())
		case <-time.After(attachPoll):
		}
	}
}

// URL is the address of the server's database, with the password.
func (s *Server) URL() string { return s.cluster.url() }

// Dir is the folder that is really used. The server's own log is the file
// server.log in it.
func (s *Server) Dir() string { return s.cluster.dir }

// Owned reports whether the server belongs to this process; if not, Stop
// leaves it alone.
func (s *Server) Owned() bool { return s.owned.Load() }

// Stop ends an owned server and keeps its data; connections are cut. It waits
// for the end and may be called more than once.
func (s *Server) Stop() error {
	s.stopOnce.Do(func() { close(s.stopping) })
	<-s.stopped
	return s.stopErr
}

// keep looks after the server until Stop: it starts it again when it died, and
// takes it over when its owner went away. Without lock and proc it begins as a
// guest.
func (s *Server) keep(lock *os.File, proc *process) {
	defer close(s.stopped)
	for {
		switch {
		case lock == nil:
			if s.pause(takeoverPoll) {
				return
			}
			var err error
			if lock, err = s.cluster.tryLock(); err != nil {
				continue
			}
			s.owned.Store(true)
			s.log.Info("the database server's owner is gone; taking it over", "dir", s.cluster.dir)
		case proc == nil:
			ctx, cancel := context.WithTimeout(context.Background(), startTimeout)
			var err error
			// The same port, as others know only that one.
			if proc, err = s.cluster.start(ctx, true); err != nil {
				s.log.Error("the database server does not start; trying again", "dir", s.cluster.dir, "error", err)
			}
			cancel()
			if proc == nil && s.pause(restartPause) {
				s.stopErr = lock.Close()
				return
			}
		default:
			select {
			case <-proc.exited:
				s.log.Error("the database server ended by itself; starting it again", "dir", s.cluster.dir)
				proc = nil
			case <-s.stopping:
				s.stopErr = errors.Join(proc.stop(), lock.Close())
				return
			}
		}
	}
}

// pause waits for d; true means that Stop was called.
func (s *Server) pause(d time.Duration) bool {
	select {
	case <-s.stopping:
		return true
	case <-time.After(d):
		return false
	}
}

func (c *cluster) url() string {
	return (&url.URL{
		Scheme:   "postgres",
		User:     url.UserPassword(superuser, c.password),
		Host:     net.JoinHostPort("127.0.0.1", strconv.Itoa(c.port)),
		Path:     "/" + database,
		RawQuery: "sslmode=disable",
	}).String()
}

// answers reports whether the server that listens on our port is ours and
// ready. SCRAM makes it prove that it knows our password, too.
func (c *cluster) answers(ctx context.Context) bool {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	conn, err := pgconn.Connect(ctx, c.url()+"&require_auth=scram-sha-256")
	if err != nil {
		return false
	}
	_ = conn.Close(ctx)
	return true
}
