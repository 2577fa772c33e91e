//go:build unrecorded

package run

const recording = false
