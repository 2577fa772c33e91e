package eventlog

import (
	"bytes"
	"io"
	"log/slog"
	"strings"
	"sync"
	"testing"
)

func TestTeeKeepsWhatItPassesOn(t *testing.T) {
	var out bytes.Buffer
	tee := NewTee(&out)
	log := slog.New(slog.NewJSONHandler(tee, nil))
	var loggers sync.WaitGroup
	for range 8 {
		loggers.Go(func() {
			for i := range 100 {
				log.With("a", 1).Info("x", "i", i)
			}
		})
	}
	loggers.Wait()
	kept := string(tee.take(nil))
	if kept != out.String() || strings.Count(kept, "\n") != 800 {
		t.Errorf("%d lines are kept of %d", strings.Count(kept, "\n"), strings.Count(out.String(), "\n"))
	}
	if tee.take(nil) != nil || tee.Dropped() != 0 {
		t.Error("something is left")
	}
}

func TestTeeDropsWhatHasNoRoom(t *testing.T) {
	var out bytes.Buffer
	tee := NewTee(&out)
	line := []byte(strings.Repeat("x", 1<<20-1) + "\n")
	for range 10 {
		if n, err := tee.Write(line); n != len(line) || err != nil {
			t.Fatalf("%d, %v", n, err)
		}
	}
	if out.Len() != 10<<20 || len(tee.take(nil)) != 8<<20 || tee.Dropped() != 2 {
		t.Errorf("standard output has %d bytes, dropped %d", out.Len(), tee.Dropped())
	}
	if n, since := tee.owned(); n != 2 || since.IsZero() {
		t.Errorf("%d dropped since %v", n, since)
	}
	if n, _ := tee.owned(); n != 0 {
		t.Error("told of twice")
	}
}

// What a logger pays for its line to be searchable.
func BenchmarkLog(b *testing.B) {
	for name, out := range map[string]io.Writer{"stdout only": io.Discard, "and kept": NewTee(io.Discard)} {
		b.Run(name, func(b *testing.B) {
			log := slog.New(slog.NewJSONHandler(out, nil))
			b.ReportAllocs()
			var buffer []byte
			for i := 0; b.Loop(); i++ {
				log.Info("ai_run_start", "source", "api/ai/run", "requestId", "0193a5b0-0000-7000-8000-000000000001", "models", "openai/gpt-5-mini", "stream", false)
				if tee, ok := out.(*Tee); ok && i%2000 == 0 {
					buffer = tee.take(buffer)
				}
			}
		})
	}
}

// What the writer pays for a line before the database sees it.
func BenchmarkParseLine(b *testing.B) {
	line := []byte(`{"time":"2026-11-24T12:00:00.123456789Z","level":"INFO","event":"ai_run_success","source":"api/ai/run","requestId":"0193a5b0-0000-7000-8000-000000000001","userId":"0193a5b0-0000-7000-8000-000000000002","durationMs":1834,"results":[{"model":"openai/gpt-5-mini","keySource":"user","durationMs":1830,"totalTokens":412,"cost":0.00079,"error":null},{"model":"anthropic/claude-haiku-5-5","keySource":"fallback","durationMs":900,"totalTokens":400,"cost":0.0011,"error":null}],"status":"success","totalTokens":812,"totalCost":0.001934,"errors":[]}` + "\n")
	b.ReportAllocs()
	for b.Loop() {
		parseLine(line, noon)
	}
}
