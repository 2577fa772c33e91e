package embedded

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
)

// The test binary is also the program that owns a server in another process:
// with childDir set it starts one, says so and keeps it until its input ends.
const childDir = "EMBEDDED_TEST_DIR"

func TestMain(m *testing.M) {
	if dir := os.Getenv(childDir); dir != "" {
		if err := child(dir); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	os.Exit(m.Run())
}

func child(dir string) error {
	server, err := Start(context.Background(), Options{Dir: dir, Fast: true})
	if err != nil {
		return err
	}
	fmt.Printf("owned=%t %s\n", server.Owned(), server.URL())
	_, _ = io.Copy(io.Discard, os.Stdin)
	return server.Stop()
}

// tempDir is a folder that every user can enter, unlike t.TempDir.
func tempDir(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "embedded-test-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	return dir
}

func start(t *testing.T, dir string) *Server {
	t.Helper()
	return startWith(t, Options{Dir: dir, Fast: true})
}

func startWith(t *testing.T, opts Options) *Server {
	t.Helper()
	opts.Log = slog.New(slog.NewTextHandler(t.Output(), nil))
	server, err := Start(context.Background(), opts)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { stop(t, server) })
	return server
}

func stop(t *testing.T, server *Server) {
	t.Helper()
	if err := server.Stop(); err != nil {
		t.Error(err)
	}
}

// run runs sql on the server and returns the first column of its one row.
func run(t *testing.T, server *Server, sql string) string {
	t.Helper()
	got, err := tryRun(server.URL(), sql)
	if err != nil {
		t.Fatal(err)
	}
	return got
}

func tryRun(url, sql string) (got string, err error) {
	ctx := context.Background()
	conn, err := pgx.Connect(ctx, url)
	if err != nil {
		return "", err
	}
	defer conn.Close(ctx)
	err = conn.QueryRow(ctx, sql).Scan(&got)
	return got, err
}

func mark(t *testing.T, server *Server) {
	t.Helper()
	_, err := tryRun(server.URL(), `create table kept as select 'yes'::text as kept`)
	if !errors.Is(err, pgx.ErrNoRows) { // what QueryRow finds when all is well
		t.Fatal(err)
	}
}

func wantMark(t *testing.T, server *Server) {
	t.Helper()
	if got := run(t, server, `select kept from kept`); got != "yes" {
		t.Errorf("data lost: %q", got)
	}
}

// startChild runs the child on dir and returns it with the line it said. prepare
// may change the command.
func startChild(t *testing.T, dir string, prepare func(*exec.Cmd)) (cmd *exec.Cmd, said string) {
	t.Helper()
	cmd = exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), childDir+"="+dir)
	cmd.Stderr = t.Output()
	if prepare != nil {
		prepare(cmd)
	}
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = in.Close()
		_ = cmd.Wait()
	})
	said, err = bufio.NewReader(out).ReadString('\n')
	if err != nil {
		t.Fatalf("the child said nothing: %v", err)
	}
	return cmd, strings.TrimSpace(said)
}

func kill(t *testing.T, cmd *exec.Cmd) {
	t.Helper()
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = cmd.Wait()
}

// eventually waits up to a minute for what happens in another process.
func eventually(t *testing.T, what string, happened func() bool) {
	t.Helper()
	for deadline := time.Now().Add(time.Minute); time.Now().Before(deadline); time.Sleep(20 * time.Millisecond) {
		if happened() {
			return
		}
	}
	t.Fatal("never happened: " + what)
}

func postmaster(t *testing.T, dir string) int {
	t.Helper()
	content, err := os.ReadFile(filepath.Join(dir, "data", "postmaster.pid"))
	if err != nil {
		t.Fatal(err)
	}
	pid, err := strconv.Atoi(strings.SplitN(string(content), "\n", 2)[0])
	if err != nil {
		t.Fatal(err)
	}
	return pid
}

func TestDataIsKept(t *testing.T) {
	dir := filepath.Join(tempDir(t), "data", "postgres")
	first := startWith(t, Options{Dir: dir})
	if !first.Owned() {
		t.Error("the only one is not the owner")
	}
	mark(t, first)
	pid := postmaster(t, dir)
	stop(t, first)
	stop(t, first)
	if alive(pid) {
		t.Error("the server outlives Stop")
	}
	if _, err := tryRun(first.URL(), `select 1`); err == nil {
		t.Error("still answers after Stop")
	}

	second := start(t, dir)
	wantMark(t, second)
	if first.URL() != second.URL() {
		t.Error("the address changed between two starts")
	}
	if got := run(t, second, `select lower('ÄÉ') || current_setting('TimeZone') || current_setting('listen_addresses')`); got != "äéUTC127.0.0.1" {
		t.Errorf("set up as %q", got)
	}
	for _, name := range []string{"password", "port", "lock", "server.log"} {
		info, err := os.Stat(filepath.Join(dir, name))
		if err != nil {
			t.Fatal(err)
		}
		if perm := info.Mode().Perm(); perm != 0o600 {
			t.Errorf("%s has mode %o", name, perm)
		}
	}
}

func TestPasswordIsNeeded(t *testing.T) {
	server := start(t, filepath.Join(tempDir(t), "postgres"))
	for _, password := range []string{"", "wrong"} {
		url := strings.Replace(server.URL(), server.cluster.password, password, 1)
		if _, err := tryRun(url, `select 1::text`); err == nil {
			t.Errorf("let in with the password %q", password)
		}
	}
}

func TestServerKnowsNoSecretsOfOurs(t *testing.T) {
	t.Setenv("PROMPTOPS_MASTER_KEYS", "1:hunter2")
	dir := filepath.Join(tempDir(t), "postgres")
	server := start(t, dir)
	environ, err := os.ReadFile(fmt.Sprintf("/proc/%d/environ", postmaster(t, dir)))
	if err != nil && !errors.Is(err, os.ErrNotExist) { // only Linux has it
		t.Fatal(err)
	}
	command, err := commandLine(context.Background(), postmaster(t, dir))
	if err != nil {
		t.Fatal(err)
	}
	log, err := os.ReadFile(filepath.Join(dir, "server.log"))
	if err != nil {
		t.Fatal(err)
	}
	seen := string(environ) + command + string(log)
	for _, secret := range []string{"hunter2", server.cluster.password} {
		if strings.Contains(seen, secret) {
			t.Errorf("%q can be seen in the process or its log", secret)
		}
	}
}

func TestManyStartAtOnce(t *testing.T) {
	dir := filepath.Join(tempDir(t), "postgres")
	var servers [3]*Server
	var starting sync.WaitGroup
	for i := range servers {
		starting.Go(func() { servers[i] = start(t, dir) })
	}
	starting.Wait()
	owners := 0
	for _, server := range servers {
		if server.Owned() {
			owners++
		}
		if server.URL() != servers[0].URL() {
			t.Error("different addresses")
		}
		run(t, server, `select 1::text`)
	}
	if owners != 1 {
		t.Errorf("%d owners", owners)
	}
	for _, server := range servers {
		if !server.Owned() {
			stop(t, server)
		}
	}
	for _, server := range servers {
		if server.Owned() {
			run(t, server, `select 1::text`) // a guest's Stop did not end it
		}
	}
}

func TestGuestTakesOver(t *testing.T) {
	dir := filepath.Join(tempDir(t), "postgres")
	owner, said := startChild(t, dir, nil)
	guest := start(t, dir)
	if guest.Owned() || said != "owned=true "+guest.URL() {
		t.Fatalf("the second is not a guest of the first")
	}
	mark(t, guest)
	kill(t, owner)
	eventually(t, "the guest owns the server", guest.Owned)
	eventually(t, "the server is back", func() bool {
		_, err := tryRun(guest.URL(), `select 1::text`)
		return err == nil
	})
	wantMark(t, guest)
}

func TestParentIsKilled(t *testing.T) {
	dir := filepath.Join(tempDir(t), "postgres")
	parent, _ := startChild(t, dir, nil)
	orphan := postmaster(t, dir)
	kill(t, parent)

	server := start(t, dir) // at once, while the orphan is still going down
	mark(t, server)
	stop(t, server)
	eventually(t, "the orphan is gone", func() bool {
		command, _ := commandLine(context.Background(), orphan)
		return !strings.Contains(command, dir)
	})

	parent, _ = startChild(t, dir, nil)
	orphan = postmaster(t, dir)
	kill(t, parent)
	eventually(t, "the orphan ends without anybody's help", func() bool {
		command, _ := commandLine(context.Background(), orphan)
		return !strings.Contains(command, dir)
	})
	wantMark(t, start(t, dir))
}

func TestServerDiesByItself(t *testing.T) {
	dir := filepath.Join(tempDir(t), "postgres")
	server := startWith(t, Options{Dir: dir}) // Fast would lose what was just written
	mark(t, server)
	if err := syscall.Kill(postmaster(t, dir), syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the server is back", func() bool {
		_, err := tryRun(server.URL(), `select kept from kept`)
		return err == nil
	})
}

func TestStalePidOfAnotherProgram(t *testing.T) {
	dir := filepath.Join(tempDir(t), "postgres")
	server := start(t, dir)
	mark(t, server)
	stop(t, server)
	for _, test := range []struct{ name, program string }{
		{"alive", "cat"},
		{"dead, but not waited for", "true"},
	} {
		t.Run(test.name, func(t *testing.T) {
			other := exec.Command(test.program)
			// The same user's, as Postgres only respects those.
			server.cluster.runAsUser(other)
			if _, err := other.StdinPipe(); err != nil {
				t.Fatal(err)
			}
			if err := other.Start(); err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() {
				_ = other.Process.Kill()
				_ = other.Wait()
			})
			stale := fmt.Sprintf("%d\n%s\n1700000000\n5432\n\n127.0.0.1\n", other.Process.Pid, filepath.Join(dir, "data"))
			if err := os.WriteFile(filepath.Join(dir, "data", "postmaster.pid"), []byte(stale), 0o600); err != nil {
				t.Fatal(err)
			}
			again := start(t, dir)
			wantMark(t, again)
			stop(t, again)
			if !alive(other.Process.Pid) {
				t.Error("the other program was touched")
			}
		})
	}
}

func TestPortIsTaken(t *testing.T) {
	dir := filepath.Join(tempDir(t), "postgres")
	first := start(t, dir)
	mark(t, first)
	stop(t, first)
	thief, err := net.Listen("tcp4", net.JoinHostPort("127.0.0.1", strconv.Itoa(first.cluster.port)))
	if err != nil {
		t.Fatal(err)
	}
	defer thief.Close()
	second := start(t, dir)
	if first.URL() == second.URL() {
		t.Error("the port is the thief's")
	}
	wantMark(t, second)
}

func TestInterruptedFirstStart(t *testing.T) {
	dir := filepath.Join(tempDir(t), "postgres")
	for name, content := range map[string]string{"lock": "", "password": "left\n", "init.tmp/PG_VERSION": "15\n"} {
		writeFile(t, filepath.Join(dir, name), content)
	}
	run(t, start(t, dir), `select 1::text`)
}

func writeFile(t *testing.T, name, content string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(name, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
}

func TestOrdinaryUser(t *testing.T) {
	dir := tempDir(t)
	// The test binary is in a folder that only we may enter.
	program := filepath.Join(dir, "program")
	binary, err := os.ReadFile(os.Args[0])
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(program, binary, 0o755); err != nil {
		t.Fatal(err)
	}
	home := filepath.Join(dir, "home")
	if err := os.Mkdir(home, 0o700); err != nil {
		t.Fatal(err)
	}
	var asUser *syscall.Credential // we are one already, unless we are root
	if os.Geteuid() == 0 {
		asUser = &syscall.Credential{Uid: 65534, Gid: 65534}
		if err := os.Chown(home, 65534, 65534); err != nil {
			t.Fatal(err)
		}
	}
	_, said := startChild(t, filepath.Join(home, "postgres"), func(cmd *exec.Cmd) {
		cmd.Path, cmd.Dir = program, home
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: asUser}
	})
	url, owned := strings.CutPrefix(said, "owned=true ")
	if !owned {
		t.Fatalf("the child said %q", said)
	}
	if _, err := tryRun(url, `select 1::text`); err != nil {
		t.Error(err)
	}
}

func TestStopOfAStartThatIsCancelled(t *testing.T) {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	dir := filepath.Join(tempDir(t), "postgres")
	if server, err := Start(ctx, Options{Dir: dir, Fast: true}); err == nil {
		stop(t, server)
		t.Fatal("started")
	}
	run(t, start(t, dir), `select 1::text`)
}
