package embedded

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

const (
	superuser = "postgres" // the same names as on Supabase
	database  = "postgres"
)

// cluster is a folder with everything of one server:
//
//	lock         held (flock) by the owner
//	data/        Postgres' data directory
//	password     of the superuser, 0600
//	port         the server's port, kept between starts
//	server.log   what the server said
//	init.tmp/    a data directory that is not ready yet
//	npm-*/       a copy of the programs, where the originals are out of reach
type cluster struct {
	dir  string
	fast bool
	log  *slog.Logger
	user *syscall.Credential // whom the server runs as; nil: as we do

	port     int
	password string
}

func (c *cluster) path(name string) string { return filepath.Join(c.dir, name) }

var errHeld = errors.New("another process owns this database")

// tryLock makes us the owner until the returned file is closed or we die. It
// returns errHeld when somebody else is.
func (c *cluster) tryLock() (*os.File, error) {
	lock, err := os.OpenFile(c.path("lock"), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, c.foreign(err)
	}
	if err := syscall.Flock(int(lock.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		_ = lock.Close()
		if errors.Is(err, syscall.EWOULDBLOCK) {
			return nil, errHeld
		}
		return nil, fmt.Errorf("lock %s: %w", c.path("lock"), err)
	}
	return lock, nil
}

// readConnection learns port and password of a cluster that exists.
func (c *cluster) readConnection() error {
	password, err := os.ReadFile(c.path("password"))
	if err != nil {
		return c.foreign(err)
	}
	c.password = strings.TrimSpace(string(password))
	port, err := os.ReadFile(c.path("port"))
	if errors.Is(err, os.ErrNotExist) {
		return nil // not started yet
	}
	if err != nil {
		return c.foreign(err)
	}
	c.port, err = strconv.Atoi(strings.TrimSpace(string(port)))
	return err
}

// foreign explains a permission error on one of our files.
func (c *cluster) foreign(err error) error {
	if errors.Is(err, os.ErrPermission) {
		return fmt.Errorf("the database in %s belongs to another user: start as that user or choose another PROMPTOPS_DATA_DIR: %w", c.dir, err)
	}
	return err
}

// start starts the server and returns once it takes connections, after making
// the cluster if there is none. The caller owns the lock. With keepPort a port
// that is taken is an error, else another one is chosen.
func (c *cluster) start(ctx context.Context, keepPort bool) (*process, error) {
	major, err := c.major()
	if err != nil {
		return nil, err
	}
	dirs, err := c.withinReach(candidates())
	if err != nil {
		return nil, err
	}
	bin, err := findBinaries(dirs, major, c.runAsUser)
	if version, ok := errors.AsType[*versionError](err); ok {
		return nil, fmt.Errorf("the database in %s cannot be opened: %w; install Postgres %d (it may stay beside the other) "+
			"or set PG_BIN to it, or move the folder away to begin with an empty database", c.dir, version, major)
	}
	if err != nil {
		return nil, err
	}
	if major == 0 {
		if err := c.create(ctx, bin); err != nil {
			return nil, err
		}
	}
	if c.password == "" {
		if err := c.readConnection(); err != nil {
			return nil, fmt.Errorf("the database in %s cannot be opened: %w", c.dir, err)
		}
	}
	if err := c.clearPidFile(ctx); err != nil {
		return nil, fmt.Errorf("the server of an earlier run: %w", err)
	}
	for {
		if !keepPort && (c.port == 0 || !portFree(c.port)) {
			if err := c.choosePort(); err != nil {
				return nil, err
			}
		}
		proc, err := c.launch(ctx, bin)
		if err == nil {
			return proc, nil
		}
		failure, ok := errors.AsType[*launchError](err)
		if ctx.Err() != nil || !ok || !c.passing(failure, keepPort) {
			return nil, err
		}
		time.Sleep(50 * time.Millisecond)
	}
}

// passing reports whether another try can help: somebody took the port between
// our look and Postgres', or the last remains of a killed server are still
// going away.
func (c *cluster) passing(failure *launchError, keepPort bool) bool {
	return !keepPort && !portFree(c.port) ||
		strings.Contains(failure.output, "pre-existing shared memory block")
}

// major is the version of Postgres that made the data directory; 0 if there is
// none yet.
func (c *cluster) major() (int, error) {
	version, err := os.ReadFile(c.path("data/PG_VERSION"))
	if errors.Is(err, os.ErrNotExist) {
		return 0, nil
	}
	if err != nil {
		return 0, c.foreign(err)
	}
	major, err := strconv.Atoi(strings.TrimSpace(string(version)))
	if err != nil {
		return 0, fmt.Errorf("%s: %w", c.path("data/PG_VERSION"), err)
	}
	return major, nil
}

// create makes the data directory under a temporary name, so that a half-made
// one is never taken for a real one.
func (c *cluster) create(ctx context.Context, bin binaries) error {
	c.log.Info("making a new database", "dir", c.dir, "postgres", bin.major)
	temporary := c.path("init.tmp")
	if err := os.RemoveAll(temporary); err != nil {
		return err
	}
	if err := c.writeFile("password", rand.Text()); err != nil {
		return err
	}
	// Order by code point is the fastest and the same everywhere; upper and
	// lower case cover all of Unicode where the C library can.
	err := c.initdb(ctx, bin, temporary, ctype())
	if err != nil && strings.Contains(err.Error(), "invalid locale name") {
		err = c.initdb(ctx, bin, temporary, "C")
	}
	if err != nil {
		return err
	}
	return os.Rename(temporary, c.path("data"))
}

func (c *cluster) initdb(ctx context.Context, bin binaries, dir, ctype string) error {
	args := []string{
		"--pgdata=" + dir,
		"--username=" + superuser, "--pwfile=" + c.path("password"), "--auth=scram-sha-256",
		"--encoding=UTF8", "--locale=C", "--lc-ctype=" + ctype,
	}
	if c.fast {
		args = append(args, "--no-sync")
	}
	cmd := exec.CommandContext(ctx, filepath.Join(bin.dir, "initdb"), args...)
	c.runAsUser(cmd)
	out, err := runToEnd(cmd)
	if err != nil {
		return fmt.Errorf("initdb failed: %w\n%s", err, out)
	}
	return nil
}

// clearPidFile deals with what a server left behind that did not end well.
// Postgres itself refuses to start while postmaster.pid names any live process,
// even if the number belongs to another program by now.
func (c *cluster) clearPidFile(ctx context.Context) error {
	file := c.path("data/postmaster.pid")
	content, err := os.ReadFile(file)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	first, rest, _ := strings.Cut(string(content), "\n")
	pid, err := strconv.Atoi(strings.TrimSpace(first))
	if err != nil || !alive(pid) {
		return nil // Postgres sees that, too
	}
	command, err := commandLine(ctx, pid)
	switch {
	case err != nil:
		return nil // cannot tell whose it is: Postgres has the last word
	case c.isServer(command):
		// Its owner is dead, as we have the lock; most likely it is shutting
		// down already.
		c.log.Info("waiting for the server of an earlier run to end", "pid", pid)
		return shutDown(ctx, pid, func() bool {
			command, err := commandLine(ctx, pid)
			return err != nil || !c.isServer(command)
		})
	default:
		c.log.Info("postmaster.pid is stale: its number belongs to another program", "pid", pid)
		// The rest of the file stays: by it Postgres finds out whether children
		// of the dead server still use the data.
		const nobody = "999999999" // beyond the highest number of a process
		return c.writeFile("data/postmaster.pid", nobody+"\n"+strings.TrimSuffix(rest, "\n"))
	}
}

// isServer reports whether a process with that command line is the server of
// this cluster. That of a dead process which nobody has waited for is empty.
func (c *cluster) isServer(command string) bool {
	return strings.Contains(command, c.path("data"))
}

func (c *cluster) choosePort() error {
	listener, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		return fmt.Errorf("no free port: %w", err)
	}
	c.port = listener.Addr().(*net.TCPAddr).Port
	if err := listener.Close(); err != nil {
		return err
	}
	return c.writeFile("port", strconv.Itoa(c.port))
}

func portFree(port int) bool {
	listener, err := net.Listen("tcp4", net.JoinHostPort("127.0.0.1", strconv.Itoa(port)))
	if err != nil {
		return false
	}
	_ = listener.Close()
	return true
}

func (c *cluster) writeFile(name, content string) error {
	if err := os.WriteFile(c.path(name), []byte(content+"\n"), 0o600); err != nil {
		return c.foreign(err)
	}
	return c.give(c.path(name))
}

// give hands a file of ours to the server's user.
func (c *cluster) give(file string) error {
	if c.user == nil {
		return nil
	}
	return os.Chown(file, int(c.user.Uid), int(c.user.Gid))
}
