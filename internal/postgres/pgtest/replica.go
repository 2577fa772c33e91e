package pgtest

import (
	"context"
	"io"
	"net"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
)

// Replica is a streaming replica of a server of StartServer.
type Replica struct {
	bin, dir   string
	port       int
	primary    *url.URL
	credential *syscall.Credential
	stdin      io.Closer // the server runs for as long as it is open
	done       <-chan struct{}
}

// StartReplica brings up a replica of the server at an address, which ends with the
// test.
func StartReplica(t testing.TB, primary string) *Replica {
	t.Helper()
	r := &Replica{}
	var err error
	if r.primary, err = url.Parse(primary); err != nil {
		t.Fatal(err)
	}
	conn, err := pgx.Connect(context.Background(), primary)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(context.Background())
	var data string
	err = conn.QueryRow(context.Background(), `
		select (select setting from pg_config where name = 'BINDIR'), current_setting('data_directory')`).Scan(&r.bin, &data)
	if err != nil {
		t.Fatal(err)
	}
	parent, err := os.MkdirTemp("", "pgtest-replica-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(parent) })
	r.dir = filepath.Join(parent, "data")
	if err := os.Chmod(parent, 0o755); err != nil {
		t.Fatal(err)
	}
	if info, err := os.Stat(data); err != nil {
		t.Fatal(err)
	} else if of, ok := info.Sys().(*syscall.Stat_t); ok && int(of.Uid) != os.Getuid() { // root may not run a server
		r.credential = &syscall.Credential{Uid: of.Uid, Gid: of.Gid}
		if err := os.Chown(parent, int(of.Uid), int(of.Gid)); err != nil {
			t.Fatal(err)
		}
	}
	base := exec.Command(filepath.Join(r.bin, "pg_basebackup"), "-D", r.dir, "-R", "-X", "stream", "-c", "fast",
		"-h", r.primary.Hostname(), "-p", r.primary.Port(), "-U", r.primary.User.Username())
	r.prepare(base, parent)
	if out, err := base.CombinedOutput(); err != nil {
		t.Fatalf("pg_basebackup: %v\n%s", err, out)
	}
	listener, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	r.port = listener.Addr().(*net.TCPAddr).Port
	_ = listener.Close()
	r.Start(t)
	t.Cleanup(func() { r.Stop(t) })
	return r
}

func (r *Replica) prepare(cmd *exec.Cmd, dir string) {
	password, _ := r.primary.User.Password()
	cmd.Dir = dir
	cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "HOME=" + dir, "LC_ALL=C", "PGPASSWORD=" + password}
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: r.credential, Setpgid: true}
}

// URL is the address of the replica, of the same database as the primary's.
func (r *Replica) URL() string {
	at := *r.primary
	at.Host = net.JoinHostPort("127.0.0.1", strconv.Itoa(r.port))
	return at.String()
}

// Start brings it up, after Stop again.
func (r *Replica) Start(t testing.TB) {
	t.Helper()
	// The server ends when our end of its standard input is closed, however we end.
	cmd := exec.Command("/bin/sh", "-c", `"$0" "$@" </dev/null & cat >/dev/null; kill -INT $!; wait $!`,
		filepath.Join(r.bin, "postgres"), "-D", r.dir, "-c", "port="+strconv.Itoa(r.port), "-c", "listen_addresses=127.0.0.1", "-c", "unix_socket_directories=",
		"-c", "fsync=off", "-c", "max_connections=300", "-c", "hot_standby=on")
	r.prepare(cmd, filepath.Dir(r.dir))
	input, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	log, err := os.Create(filepath.Join(filepath.Dir(r.dir), "log"))
	if err != nil {
		t.Fatal(err)
	}
	defer log.Close()
	cmd.Stdout, cmd.Stderr = log, log
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	r.stdin, r.done = input, done
	go func() {
		_ = cmd.Wait() // how it ended is in its log
		close(done)
	}()
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(20 * time.Millisecond) {
		conn, err := pgx.Connect(context.Background(), r.URL())
		if err == nil {
			_ = conn.Close(context.Background())
			return
		}
		if time.Now().After(deadline) {
			said, _ := os.ReadFile(log.Name())
			t.Fatalf("the replica does not start: %v\n%s", err, said)
		}
	}
}

// Stop ends it at once; twice is the same as once.
func (r *Replica) Stop(t testing.TB) {
	t.Helper()
	if r.stdin == nil {
		return
	}
	_ = r.stdin.Close()
	r.stdin = nil
	select {
	case <-r.done:
	case <-time.After(time.Minute):
		t.Errorf("the replica in %s does not end", r.dir)
	}
}
