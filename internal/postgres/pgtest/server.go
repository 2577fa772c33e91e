package pgtest

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"syscall"

	"github.com/promptcademy/promptops/internal/postgres/embedded"
)

// StartServer brings up a server in a temporary folder and returns its address.
// Both are gone soon after this process ends, however it ends.
//
// Tests that do not break the server itself ask for what they need and get one
// with it.
func StartServer() (url string, err error) {
	parent, err := os.MkdirTemp("", "pgtest-")
	if err != nil {
		return "", err
	}
	if err := os.Chmod(parent, 0o755); err != nil { // the server's user passes through
		return "", err
	}
	server, err := embedded.Start(context.Background(), embedded.Options{Dir: filepath.Join(parent, "postgres"), Fast: true})
	if err != nil {
		_ = os.RemoveAll(parent)
		return "", fmt.Errorf("tests need a Postgres server: %w", err)
	}
	cmd := exec.Command("/bin/sh", "-c", sweeper, server.Dir(), parent)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} // outlives Ctrl-C
	input, err := cmd.StdinPipe()
	if err != nil {
		return "", err
	}
	sweeperInputs.Store(input, nil)
	return server.URL(), cmd.Start()
}

// sweeper cleans up after us. Nothing runs in a test binary after its last
// test, and nothing at all after a SIGKILL, so another process waits for the
// end of its standard input, that is of us. It ends the server where the kernel
// does not, and removes the server's folder and the temporary one.
const sweeper = `
cat >/dev/null
if pid=$(head -n 1 "$0/data/postmaster.pid" 2>/dev/null); then
	kill -INT "$pid" 2>/dev/null
	while kill -0 "$pid" 2>/dev/null && [ -e "$0/data/postmaster.pid" ]; do sleep 0.05; done
fi
rm -rf "$0" "$1"`

// sweeperInputs are open as long as our process lives.
var sweeperInputs sync.Map
