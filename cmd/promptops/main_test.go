package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/promptcademy/promptops/internal/postgres/pgtest"
	"github.com/promptcademy/promptops/internal/seal"
)

const jwtSecret = "a secret of the tests, which is long enough to sign with"

var binaryDir string

func TestMain(m *testing.M) {
	var err error
	if binaryDir, err = os.MkdirTemp("", "promptops-test-"); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	code := m.Run()
	_ = os.RemoveAll(binaryDir)
	os.Exit(code)
}

// binary is the program as it is shipped, built once.
var binary = sync.OnceValues(func() (string, error) {
	path := filepath.Join(binaryDir, "promptops")
	out, err := exec.Command("go", "build", "-o", path, ".").CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("go build: %w\n%s", err, out)
	}
	return path, nil
})

// environment is what the program finds in its environment, beside what a shell
// always has.
type environment map[string]string

func (e environment) list() []string {
	list := []string{"PATH=" + os.Getenv("PATH"), "HOME=" + os.Getenv("HOME"), "PG_BIN=" + os.Getenv("PG_BIN")}
	for name, value := range e {
		list = append(list, name+"="+value)
	}
	return list
}

// onDatabase is the environment of a production set-up on a migrated database.
func onDatabase(t *testing.T) environment {
	t.Helper()
	return environment{"DATABASE_URL": pgtest.URL(t), "PROMPTOPS_MASTER_KEYS": newRing(t), "SUPABASE_JWT_SECRET": jwtSecret}
}

func newRing(t *testing.T) string {
	t.Helper()
	ring, err := seal.NewRing()
	must(t, err)
	return ring
}

// said is what a command that has ended said.
type said struct {
	stdout, stderr string
	code           int
}

// promptops runs a command to its end.
func promptops(t *testing.T, env environment, stdin string, args ...string) said {
	t.Helper()
	path, err := binary()
	must(t, err)
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, path, args...)
	cmd.Env, cmd.Dir, cmd.Stdin = env.list(), t.TempDir(), strings.NewReader(stdin)
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	err = cmd.Run()
	if exit, ok := errors.AsType[*exec.ExitError](err); err != nil && !ok || ok && !exit.Exited() {
		t.Fatalf("promptops %v: %v\n%s", args, err, stderr.String())
	}
	return said{stdout.String(), stderr.String(), cmd.ProcessState.ExitCode()}
}

// exits checks the exit code and that these words were said on standard error.
func (s said) exits(t *testing.T, code int, words ...string) said {
	t.Helper()
	if s.code != code {
		t.Errorf("exit code %d, want %d\nstandard output: %s\nstandard error: %s", s.code, code, s.stdout, s.stderr)
	}
	for _, word := range words {
		if !strings.Contains(s.stderr, word) {
			t.Errorf("standard error lacks %q:\n%s", word, s.stderr)
		}
	}
	return s
}

// prints checks that these words were printed on standard output.
func (s said) prints(t *testing.T, words ...string) said {
	t.Helper()
	for _, word := range words {
		if !strings.Contains(s.stdout, word) {
			t.Errorf("standard output lacks %q:\n%s", word, s.stdout)
		}
	}
	return s
}

// hides checks that secrets were not said anywhere.
func (s said) hides(t *testing.T, secrets ...string) said {
	t.Helper()
	for _, secret := range secrets {
		if strings.Contains(s.stdout, secret) || strings.Contains(s.stderr, secret) {
			t.Errorf("a secret was printed:\n%s\n%s", s.stdout, s.stderr)
		}
	}
	return s
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func TestHelp(t *testing.T) {
	for _, c := range commands {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			// Help needs no database and leaves nothing behind.
			for _, flag := range []string{"--help", "-h"} {
				promptops(t, nil, "", c.name, flag).exits(t, 0, "Usage: promptops "+c.name, strings.Fields(c.usage + " Usage")[0])
			}
			promptops(t, nil, "", c.name, "--no-such-flag").exits(t, 2, "no-such-flag", "Usage: promptops "+c.name)
		})
	}
	for _, help := range []string{"help", "--help", "-h"} {
		out := promptops(t, nil, "", help).exits(t, 0)
		for _, c := range commands {
			if !strings.Contains(out.stderr+out.stdout, "  "+c.name+" ") {
				t.Errorf("%s does not mention %s", help, c.name)
			}
		}
	}
	promptops(t, nil, "").exits(t, 2, "Usage: promptops COMMAND")
	promptops(t, nil, "", "sevre").exits(t, 2, `no command "sevre"`, "serve")
}

func TestVersion(t *testing.T) {
	promptops(t, nil, "", "version").exits(t, 0).prints(t, "dev")
}

func TestArgumentsThatMakeNoSense(t *testing.T) {
	for _, args := range [][]string{
		{"operator"}, {"operator", "promote", "--email", "a@example.org"}, {"operator", "add"},
		{"key"}, {"key", "burn"}, {"token"}, {"demo"}, {"demo", "explode"}, {"demo", "clear", "--attempts", "5"}, {"demo", "load", "--days", "3"}, {"migrate", "sideways"},
		{"version", "now"}, {"config", "please"}, {"serve", "everything"}, {"rewrap", "everything"}, {"token", "ada", "--learner", "ada@example.org"},
	} {
		t.Run(strings.Join(args, " "), func(t *testing.T) {
			t.Parallel()
			// An address that nobody listens on: a command that goes on fails
			// in another way.
			env := environment{"DATABASE_URL": "postgres://nobody@127.0.0.1:1/none", "PROMPTOPS_MASTER_KEYS": newRing(t), "SUPABASE_JWT_SECRET": jwtSecret}
			promptops(t, env, "", args...).exits(t, 2, "see --help")
		})
	}
}

func TestConfig(t *testing.T) {
	env := environment{
		"DATABASE_URL":           "postgres://ops:hunter2@db.example.org:5432/ops?password=hunter3",
		"PROMPTOPS_MASTER_KEYS":  newRing(t),
		"SUPABASE_JWT_SECRET":    jwtSecret,
		"PROMPTOPS_CORS_ORIGINS": "https://learn.example.org",
	}
	secrets := []string{"hunter2", "hunter3", env["PROMPTOPS_MASTER_KEYS"], jwtSecret}
	promptops(t, env, "", "config").exits(t, 0).hides(t, secrets...).
		prints(t, "DATABASE_URL=postgres://ops@db.example.org:5432/ops\n", "PROMPTOPS_MASTER_KEYS=[redacted]", "PROMPTOPS_CORS_ORIGINS=https://learn.example.org", "PROMPTOPS_TIMEZONE=UTC")
	out := promptops(t, env, "", "config", "--json").exits(t, 0).hides(t, secrets...)
	var settings []struct{ Name, Value string }
	must(t, json.Unmarshal([]byte(out.stdout), &settings))
	if len(settings) < 15 {
		t.Errorf("%d settings", len(settings))
	}
	// Nothing set: the embedded server, which this does not start.
	promptops(t, nil, "", "config").exits(t, 0).prints(t, "PROMPTOPS_LISTEN=127.0.0.1:8080")
}

// A wrong environment stops every command, with all that is wrong.
func TestWrongEnvironment(t *testing.T) {
	env := environment{
		"DATABASE_URL":              "mysql://root:hunter2@db/ops",
		"PORT":                      "eighty",
		"PROMPTOPS_TIMEZONE":        "Atlantis/Harbour",
		"PROMPTOPS_CORS_ORIGINS":    "*",
		"PROMPTOPS_TRUSTED_PROXIES": "10.0.0.0",
		"PROMPTOPS_ALLOW_ANONYMOUS": "perhaps",
		"OPENAI_BASE_URL":           "api.openai.com",
	}
	names := []string{"PROMPTOPS_MASTER_KEYS", "SUPABASE_URL"} // missing
	for name := range env {
		if name == "PORT" {
			name = "PROMPTOPS_LISTEN"
		}
		names = append(names, name)
	}
	for _, args := range [][]string{{"serve"}, {"config"}, {"migrate"}, {"operator", "list"}, {"key", "list"}, {"demo", "clear"}, {"token", "--learner", "a@example.org"}} {
		promptops(t, env, "", args...).exits(t, 1, names...).hides(t, "hunter2")
	}
}

func TestDatabaseThatDoesNotAnswer(t *testing.T) {
	env := environment{"DATABASE_URL": "postgres://ops:hunter2@127.0.0.1:1/ops?connect_timeout=2", "PROMPTOPS_MASTER_KEYS": newRing(t), "SUPABASE_JWT_SECRET": jwtSecret}
	for _, args := range [][]string{{"serve"}, {"migrate", "status"}, {"operator", "list"}} {
		promptops(t, env, "", args...).exits(t, 1, "127.0.0.1").hides(t, "hunter2", "goroutine")
	}
}
