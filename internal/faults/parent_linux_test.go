package faults

import "syscall"

// dieWithParent makes the kernel kill a node when the test ends, however.
func dieWithParent(attr *syscall.SysProcAttr) { attr.Pdeathsig = syscall.SIGKILL }
