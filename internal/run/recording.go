//go:build !unrecorded

package run

// recording is what this program is for. Only the benchmark builds another one,
// to see what it costs.
const recording = true
