package pgtest_test

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/promptcademy/promptops/internal/postgres/pgtest"
)

// With the variable childMode the test binary is a program that has a server
// and waits.
const childMode = "PGTEST_TEST_CHILD"

func TestMain(m *testing.M) {
	if os.Getenv(childMode) != "" {
		url, err := pgtest.StartServer()
		fmt.Println(url, err)
		_, _ = io.Copy(io.Discard, os.Stdin)
		return
	}
	os.Exit(m.Run())
}

func has(t *testing.T, url, table string) bool {
	t.Helper()
	ctx := context.Background()
	conn, err := pgx.Connect(ctx, url)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(ctx)
	var there bool
	if err := conn.QueryRow(ctx, `select to_regclass($1) is not null`, table).Scan(&there); err != nil {
		t.Fatal(err)
	}
	return there
}

func TestTxIsUndone(t *testing.T) {
	ctx := context.Background()
	t.Run("write", func(t *testing.T) {
		if _, err := pgtest.Tx(t).Exec(ctx, `create table ops.kept ()`); err != nil {
			t.Fatal(err)
		}
	})
	var migrated, kept bool
	err := pgtest.Tx(t).QueryRow(ctx, `select to_regclass('auth.users') is not null, to_regclass('ops.kept') is not null`).Scan(&migrated, &kept)
	if err != nil {
		t.Fatal(err)
	}
	if !migrated {
		t.Error("the database is not migrated")
	}
	if kept {
		t.Error("what a transaction wrote is still there after its test")
	}
}

func TestDatabasesAreTheTestsOwn(t *testing.T) {
	ctx := context.Background()
	var url string
	t.Run("inside", func(t *testing.T) {
		one, other := pgtest.Database(t), pgtest.URL(t)
		if _, err := one.Exec(ctx, `create table mine ()`); err != nil {
			t.Fatal(err)
		}
		url = one.Config().ConnString()
		if !has(t, url, "mine") || has(t, other, "mine") {
			t.Error("two databases share a table")
		}
		if !has(t, url, "auth.users") || !has(t, other, "auth.users") {
			t.Error("a database is not migrated")
		}
		if empty := pgtest.EmptyURL(t); has(t, empty, "auth.users") {
			t.Error("an empty database is migrated")
		}
	})
	conn, err := pgx.Connect(ctx, url)
	if err == nil {
		_ = conn.Close(ctx)
		t.Error("the database is still there after its test")
	}
}

func TestParallelTests(t *testing.T) {
	for range 4 {
		t.Run("", func(t *testing.T) {
			t.Parallel()
			for _, db := range []interface {
				QueryRow(context.Context, string, ...any) pgx.Row
			}{pgtest.Tx(t), pgtest.Database(t)} {
				var n int
				if err := db.QueryRow(context.Background(), `select count(*) from auth.users`).Scan(&n); err != nil {
					t.Error(err)
				}
			}
		})
	}
}

// startChild runs the child with folder as its place for temporary files.
func startChild(t *testing.T, folder string) (cmd *exec.Cmd, url string) {
	t.Helper()
	cmd = exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), childMode+"=1", "TMPDIR="+folder)
	if _, err := cmd.StdinPipe(); err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = cmd.Process.Kill() })
	said, err := bufio.NewReader(out).ReadString('\n')
	url, ok := strings.CutSuffix(said, " <nil>\n")
	if err != nil || !ok {
		t.Fatalf("the child said %q, %v", said, err)
	}
	return cmd, url
}

func tempDir(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "pgtest-test-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	if err := os.Chmod(dir, 0o755); err != nil { // the server's user passes through
		t.Fatal(err)
	}
	return dir
}

func TestNothingIsLeftBehind(t *testing.T) {
	folder := tempDir(t)
	child, url := startChild(t, folder)

	// Several test processes at once build one template.
	var processes sync.WaitGroup
	for range 3 {
		processes.Go(func() {
			cmd := exec.Command(os.Args[0], "-test.run=^(TestTxIsUndone|TestDatabasesAreTheTestsOwn)$")
			cmd.Env = append(os.Environ(), "PGTEST_URL="+url)
			if out, err := cmd.CombinedOutput(); err != nil {
				t.Errorf("%v\n%s", err, out)
			}
		})
	}
	processes.Wait()
	ctx := context.Background()
	conn, err := pgx.Connect(ctx, url)
	if err != nil {
		t.Fatal(err)
	}
	var templates int
	if err := conn.QueryRow(ctx, `select count(*) from pg_database where datname ~ '^migrated_' and datistemplate`).Scan(&templates); err != nil {
		t.Fatal(err)
	}
	_ = conn.Close(ctx)
	if templates != 1 {
		t.Errorf("%d templates, want 1", templates)
	}

	if err := child.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = child.Wait()
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(20 * time.Millisecond) {
		left, err := os.ReadDir(folder)
		if err != nil {
			t.Fatal(err)
		}
		if len(left) == 0 {
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("still there: %v", left)
		}
	}
	if conn, err := pgx.Connect(ctx, url); err == nil {
		_ = conn.Close(ctx)
		t.Error("the server still runs")
	}
}
