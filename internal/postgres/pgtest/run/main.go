// Command run starts a Postgres server for tests, runs its arguments as a
// command with the server's address in PGTEST_URL, throws the server away and
// ends with the command's exit code:
//
//	go run ./internal/postgres/pgtest/run go test ./...
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"syscall"

	"github.com/promptcademy/promptops/internal/postgres/embedded"
)

func main() {
	if len(os.Args) < 2 {
		fmt.Fprintln(os.Stderr, "usage: run COMMAND [ARGUMENT]...")
		os.Exit(2)
	}
	err := run(os.Args[1:])
	if exit, ok := errors.AsType[*exec.ExitError](err); ok {
		os.Exit(max(exit.ExitCode(), 1)) // -1: ended by a signal
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run(command []string) (err error) {
	ctx, cancel := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer cancel()

	parent, err := os.MkdirTemp("", "pgtest-")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(parent)) }()
	if err := os.Chmod(parent, 0o755); err != nil { // the server's user passes through
		return err
	}
	server, err := embedded.Start(ctx, embedded.Options{Dir: filepath.Join(parent, "postgres"), Fast: true})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, server.Stop(), os.RemoveAll(server.Dir())) }()

	cmd := exec.CommandContext(ctx, command[0], command[1:]...)
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) }
	cmd.Env = append(os.Environ(), "PGTEST_URL="+server.URL())
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	return cmd.Run()
}
