//go:build !linux

package faults

import "syscall"

// dieWithParent: elsewhere only the test's own end takes its nodes with it.
func dieWithParent(*syscall.SysProcAttr) {}
