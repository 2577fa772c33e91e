package faults

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// binary is the program as it is shipped, built once.
var binary = sync.OnceValues(func() (string, error) {
	path := filepath.Join(binaryDir, "promptops")
	args := []string{"build", "-o", path}
	if *race {
		args = append(args, "-race")
	}
	out, err := exec.Command("go", append(args, "../../cmd/promptops")...).CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("go build: %w\n%s", err, out)
	}
	return path, nil
})

// output is what processes have said so far.
type output struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (o *output) Write(b []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.text.Write(b)
}

func (o *output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.text.String()
}

// node is one place where promptops serve runs, under one address through all its
// deaths.
type node struct {
	t       *testing.T
	address string
	env     []string
	said    output // standard output of all its lives
	errors  output // standard error
	cmd     *exec.Cmd
	ended   chan struct{}
}

func (n *node) URL() string { return "http://" + n.address }

// freeAddress is of a port below those that the system hands out: nobody is given
// it before the node listens there, or while the node is dead.
func freeAddress(t *testing.T) string {
	t.Helper()
	for range 100 {
		listener, err := net.Listen("tcp", "127.0.0.1:"+strconv.Itoa(20_000+rand.IntN(12_000)))
		if err == nil {
			must(t, listener.Close())
			return listener.Addr().String()
		}
	}
	t.Fatal("no port is free")
	return ""
}

// start begins a life and returns when the node is ready.
func (n *node) start() {
	n.t.Helper()
	path, err := binary()
	must(n.t, err)
	n.cmd, n.ended = exec.Command(path, "serve"), make(chan struct{})
	n.cmd.Env, n.cmd.Dir, n.cmd.Stdout, n.cmd.Stderr = n.env, binaryDir, &n.said, &n.errors
	n.cmd.SysProcAttr = &syscall.SysProcAttr{}
	dieWithParent(n.cmd.SysProcAttr)
	started := make(chan error)
	go func() {
		runtime.LockOSThread() // the parent's death is that of this thread
		defer runtime.UnlockOSThread()
		err := n.cmd.Start()
		started <- err
		if err == nil {
			_ = n.cmd.Wait() // its code is in ProcessState
			close(n.ended)
		}
	}()
	must(n.t, <-started)
	await(n.t, "the node is ready", 2*time.Minute, func() bool {
		select {
		case <-n.ended:
			n.t.Fatalf("promptops serve has ended with code %d:\n%s", n.cmd.ProcessState.ExitCode(), n.errors.String())
		default:
		}
		client := http.Client{Timeout: 5 * time.Second}
		response, err := client.Get(n.URL() + "/readyz")
		if err != nil {
			return false
		}
		defer response.Body.Close()
		return response.StatusCode == http.StatusOK
	})
}

// kill ends a life without any warning.
func (n *node) kill() {
	n.t.Helper()
	must(n.t, n.cmd.Process.Kill())
	<-n.ended
}

// end asks the node to stop and checks how it does.
func (n *node) end(within time.Duration, code int) {
	n.t.Helper()
	must(n.t, n.cmd.Process.Signal(syscall.SIGTERM))
	n.ends(within, code)
}

func (n *node) ends(within time.Duration, code int) {
	n.t.Helper()
	select {
	case <-n.ended:
	case <-time.After(within):
		n.t.Fatalf("the node does not end within %v", within)
	}
	if got := n.cmd.ProcessState.ExitCode(); got != code {
		n.t.Errorf("the node ends with code %d, want %d:\n%s", got, code, n.errors.String())
	}
}

// close is for the end of a test.
func (n *node) close() {
	if n.cmd == nil || n.cmd.Process == nil {
		return
	}
	_ = n.cmd.Process.Kill() // does nothing to one that has ended
	<-n.ended
}

// environment is what a shell always has, and ours.
func environment(ours map[string]string) []string {
	list := []string{"PATH=" + os.Getenv("PATH"), "HOME=" + os.Getenv("HOME"), "PG_BIN=" + os.Getenv("PG_BIN")}
	for name, value := range ours {
		list = append(list, name+"="+value)
	}
	return list
}

// logged says whether a node has logged such an event about a run.
func (n *node) logged(event, requestID, also string) bool {
	for line := range strings.Lines(n.said.String()) {
		if strings.Contains(line, `"event":"`+event+`"`) && strings.Contains(line, requestID) && strings.Contains(line, also) {
			return true
		}
	}
	return false
}
