//go:build !linux

package embedded

import (
	"context"
	"os/exec"
	"strconv"
	"syscall"
)

// dieWithParent does nothing: only Linux can. A server that outlives us is
// ended by the next start.
func dieWithParent(*syscall.SysProcAttr, syscall.Signal) {}

// commandLine returns the words of a process's command.
func commandLine(ctx context.Context, pid int) (string, error) {
	words, err := exec.CommandContext(ctx, "ps", "-ww", "-o", "command=", "-p", strconv.Itoa(pid)).Output()
	return string(words), err
}
