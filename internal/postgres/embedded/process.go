package embedded

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// process is a server process that we started.
type process struct {
	cmd    *exec.Cmd
	exited chan struct{}
}

// launchError: the server ended before it was ready.
type launchError struct{ output string }

func (e *launchError) Error() string {
	return "the database server did not start:\n" + e.output
}

const readyPoll = 2 * time.Millisecond

// launch starts the server on the cluster's port and waits until it is ready.
func (c *cluster) launch(ctx context.Context, bin binaries) (*process, error) {
	log, begin, err := c.openLog()
	if err != nil {
		return nil, err
	}
	defer log.Close()

	settings := []string{
		"listen_addresses=127.0.0.1",
		"port=" + strconv.Itoa(c.port),
		// The default folder is often not ours to write to, and ours may have
		// a path too long for a socket.
		"unix_socket_directories=",
		"logging_collector=off", "log_destination=stderr",
		"timezone=UTC", "log_timezone=UTC",
		"jit=off", // our queries are short
	}
	if c.fast {
		settings = append(settings, "fsync=off", "synchronous_commit=off", "full_page_writes=off",
			"max_connections=300", "autovacuum=off")
	}
	args := []string{"-D", c.path("data")}
	for _, setting := range settings {
		args = append(args, "-c", setting)
	}
	cmd := exec.Command(filepath.Join(bin.dir, "postgres"), args...)
	c.runAsUser(cmd)
	cmd.Stdout, cmd.Stderr = log, log
	cmd.SysProcAttr.Setpgid = true // Ctrl-C is for us: we still need the database to finish
	dieWithParent(cmd.SysProcAttr, syscall.SIGINT)

	proc, err := startProcess(cmd)
	if err != nil {
		return nil, fmt.Errorf("start the database server: %w", err)
	}
	tick := time.NewTicker(readyPoll)
	defer tick.Stop()
	for !c.ready(proc.pid()) {
		select {
		case <-tick.C:
		case <-proc.exited:
			return nil, &launchError{output: c.logSince(begin)}
		case <-ctx.Done():
			return nil, errors.Join(fmt.Errorf("the database server is not ready: %w", ctx.Err()), proc.stop())
		}
	}
	return proc, nil
}

// ready reads the state that the server keeps in the eighth line of its pid
// file.
func (c *cluster) ready(pid int) bool {
	content, err := os.ReadFile(c.path("data/postmaster.pid"))
	if err != nil {
		return false
	}
	lines := strings.Split(string(content), "\n")
	return len(lines) >= 8 && lines[0] == strconv.Itoa(pid) && strings.TrimSpace(lines[7]) == "ready"
}

// openLog opens server.log, emptied when it got long, and tells where it ends.
func (c *cluster) openLog() (*os.File, int64, error) {
	const long = 10 << 20
	flags := os.O_WRONLY | os.O_CREATE | os.O_APPEND
	if info, err := os.Stat(c.path("server.log")); err == nil && info.Size() > long {
		flags |= os.O_TRUNC
	}
	log, err := os.OpenFile(c.path("server.log"), flags, 0o600)
	if err != nil {
		return nil, 0, c.foreign(err)
	}
	end, err := log.Seek(0, io.SeekEnd)
	return log, end, errors.Join(err, c.give(c.path("server.log")))
}

func (c *cluster) logSince(begin int64) string {
	log, err := os.ReadFile(c.path("server.log"))
	if err != nil || int64(len(log)) < begin {
		return "see " + c.path("server.log")
	}
	return string(bytes.TrimSpace(log[begin:]))
}

// runAsUser prepares cmd to be run as the server's user, in a folder it can
// enter and with an environment that holds none of our secrets.
func (c *cluster) runAsUser(cmd *exec.Cmd) {
	cmd.Dir = c.dir
	cmd.Env = []string{
		"PATH=" + os.Getenv("PATH"),
		"HOME=" + c.dir, // ours may be closed to that user
		"LC_ALL=C",
	}
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: c.user}
}

// startProcess starts cmd from a thread that lives as long as the process:
// Linux sends the signal for a parent's death when the thread ends.
func startProcess(cmd *exec.Cmd) (*process, error) {
	p := &process{cmd: cmd, exited: make(chan struct{})}
	started := make(chan error)
	go func() {
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		err := cmd.Start()
		started <- err
		if err == nil {
			_ = cmd.Wait() // how it ended is in its log
			close(p.exited)
		}
	}()
	return p, <-started
}

// runToEnd runs a short-lived program that is killed if we die.
func runToEnd(cmd *exec.Cmd) (output []byte, err error) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	dieWithParent(cmd.SysProcAttr, syscall.SIGKILL)
	return cmd.CombinedOutput()
}

func (p *process) pid() int { return p.cmd.Process.Pid }

func (p *process) stop() error {
	return shutDown(context.Background(), p.pid(), func() bool {
		select {
		case <-p.exited:
			return true
		default:
			return false
		}
	})
}

// shutDown ends the server pid, harder from step to step: cut the connections
// and write everything down; drop everything at once; kill the whole group.
func shutDown(ctx context.Context, pid int, gone func() bool) error {
	for _, step := range []struct {
		target int
		signal syscall.Signal
		wait   time.Duration
	}{
		{pid, syscall.SIGINT, 15 * time.Second},
		{pid, syscall.SIGQUIT, 5 * time.Second},
		{-pid, syscall.SIGKILL, 5 * time.Second},
	} {
		if gone() {
			return nil
		}
		if err := syscall.Kill(step.target, step.signal); err != nil && !errors.Is(err, syscall.ESRCH) {
			return fmt.Errorf("stop the database server (pid %d): %w", pid, err)
		}
		for deadline := time.Now().Add(step.wait); time.Now().Before(deadline); time.Sleep(readyPoll) {
			if gone() {
				return nil
			}
			if ctx.Err() != nil {
				return ctx.Err()
			}
		}
	}
	return fmt.Errorf("the database server (pid %d) does not end", pid)
}

// alive reports whether there is a process pid, whoever's it is.
func alive(pid int) bool {
	err := syscall.Kill(pid, 0)
	return err == nil || errors.Is(err, syscall.EPERM)
}
