package embedded

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"syscall"
)

// dieWithParent makes the kernel signal the child when we end, however.
func dieWithParent(attr *syscall.SysProcAttr, signal syscall.Signal) {
	attr.Pdeathsig = signal
}

// commandLine returns the words of a process's command; "" for a dead one that
// nobody has waited for.
func commandLine(_ context.Context, pid int) (string, error) {
	words, err := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid))
	return string(bytes.ReplaceAll(words, []byte{0}, []byte{' '})), err
}
