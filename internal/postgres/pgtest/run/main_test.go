package main

import (
	"errors"
	"os/exec"
	"testing"
)

func TestRun(t *testing.T) {
	if err := run([]string{"sh", "-c", `case "$PGTEST_URL" in postgres://*) exit 0;; esac; exit 1`}); err != nil {
		t.Errorf("the command does not get the server's address: %v", err)
	}
	err := run([]string{"sh", "-c", "exit 3"})
	if exit, ok := errors.AsType[*exec.ExitError](err); !ok || exit.ExitCode() != 3 {
		t.Errorf("got %v, want the command's own exit code", err)
	}
}
