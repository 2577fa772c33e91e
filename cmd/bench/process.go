package main

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// stopTimeout is how long a program may take to end.
const stopTimeout = 40 * time.Second

// process is a program that is being measured, or stands around it.
type process struct {
	cmd    *exec.Cmd
	stderr bytes.Buffer // to be read once it has exited
	exited chan struct{}
}

// start starts cmd. Whoever starts it stops it.
func start(cmd *exec.Cmd) (*process, error) {
	p := &process{cmd: cmd, exited: make(chan struct{})}
	cmd.Stderr = &p.stderr
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	go func() {
		_ = cmd.Wait() // how it ended is in cmd.ProcessState
		close(p.exited)
	}()
	return p, nil
}

// startPrinting starts a program that prints its address as its first line.
func startPrinting(cmd *exec.Cmd) (*process, string, error) {
	read, write, err := os.Pipe()
	if err != nil {
		return nil, "", err
	}
	defer read.Close()
	cmd.Stdout = write
	p, err := start(cmd)
	if err = errors.Join(err, write.Close()); err != nil {
		return nil, "", err
	}
	address, err := bufio.NewReader(read).ReadString('\n')
	if err != nil {
		return nil, "", errors.Join(fmt.Errorf("%s did not print its address: %w", cmd.Path, err), p.stop())
	}
	return p, strings.TrimSpace(address), nil
}

func (p *process) pid() int { return p.cmd.Process.Pid }

// stop ends the program and waits for its end.
func (p *process) stop() error {
	if p == nil {
		return nil
	}
	_ = p.cmd.Process.Signal(syscall.SIGTERM) // it may have ended already
	select {
	case <-p.exited:
	case <-time.After(stopTimeout):
		_ = p.cmd.Process.Kill()
		<-p.exited
	}
	if !p.cmd.ProcessState.Success() {
		return fmt.Errorf("%s ended with %s\n%s", filepath.Base(p.cmd.Path), p.cmd.ProcessState, bytes.TrimSpace(p.stderr.Bytes()))
	}
	return nil
}

// What the kernel says of processes. It says so on Linux only: elsewhere ok is
// false.

// ticks per second, in which /proc counts: 100 on every Linux.
const ticks = 100

// stat is the part of /proc/PID/stat after the command's name, which may hold
// anything; so the third field is the first here.
func stat(pid int) []string {
	content, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return nil
	}
	return strings.Fields(string(content[bytes.LastIndexByte(content, ')')+1:]))
}

// cpu is the processor time that a process has used, in seconds, with that of
// its children if they have ended.
func cpu(pid int) (seconds float64, ok bool) {
	fields := stat(pid)
	if len(fields) < 15 {
		return 0, false
	}
	for _, field := range fields[11:15] { // utime, stime, and those of children
		n, err := strconv.ParseInt(field, 10, 64)
		if err != nil {
			return 0, false
		}
		seconds += float64(n) / ticks
	}
	return seconds, true
}

// cpuWithChildren is cpu of a process and of its children that live.
func cpuWithChildren(pid int) (seconds float64, ok bool) {
	seconds, ok = cpu(pid)
	if !ok {
		return 0, false
	}
	processes, _ := filepath.Glob("/proc/[0-9]*") // a good pattern
	for _, path := range processes {
		child, err := strconv.Atoi(filepath.Base(path))
		if fields := stat(child); err == nil && len(fields) > 1 && fields[1] == strconv.Itoa(pid) {
			used, _ := cpu(child)
			seconds += used
		}
	}
	return seconds, true
}

// memory is a line of /proc/PID/status, in MB: VmRSS is what a process takes,
// VmHWM the most it ever took.
func memory(pid int, line string) (megabytes float64, ok bool) {
	content, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return 0, false
	}
	for text := range strings.Lines(string(content)) {
		if fields := strings.Fields(text); len(fields) == 3 && fields[0] == line+":" {
			kilobytes, err := strconv.ParseFloat(fields[1], 64)
			return kilobytes / 1024, err == nil
		}
	}
	return 0, false
}
