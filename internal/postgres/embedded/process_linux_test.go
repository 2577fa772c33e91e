package embedded

import (
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"
)

// In a container whose first process waits for nobody a server that ended
// stays in the process table for good.
func TestOrphanThatNobodyWaitsFor(t *testing.T) {
	if err := unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0); err != nil {
		t.Fatal(err)
	}
	dir := filepath.Join(tempDir(t), "postgres")
	parent, _ := startChild(t, dir, nil)
	orphan := postmaster(t, dir) // becomes our child, and we do not wait
	kill(t, parent)
	mark(t, start(t, dir))
	if !alive(orphan) {
		t.Error("somebody has waited for the orphan, so this test shows nothing")
	}
	if err := unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 0, 0, 0, 0); err != nil {
		t.Fatal(err)
	}
	var status unix.WaitStatus
	if _, err := unix.Wait4(orphan, &status, 0, nil); err != nil {
		t.Error(err)
	}
}
