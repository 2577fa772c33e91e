package eventlog

import (
	"io"
	"sync"
	"time"
)

const (
	// What waits in memory while the database does not take it: more than ten
	// thousand events of runs.
	maxWaiting = 8 << 20 // bytes
	// A buffer that grew larger than this is not kept when it is empty.
	maxIdle = 1 << 20
)

// Tee passes the lines of the log on to standard output and keeps a copy of each for
// a Writer. Keeping one is a copy in memory: it never waits, and when there is no
// room the line is only on standard output, and counted.
type Tee struct {
	out io.Writer

	mu      sync.Mutex
	lines   []byte        // whole ones, each with its end
	dropped int64         // in all
	unsaid  int64         // of those, how many no event has told of yet
	since   time.Time     // when the first of those was dropped
	some    chan struct{} // there are lines
}

// NewTee returns a Tee in front of out.
func NewTee(out io.Writer) *Tee { return &Tee{out: out, some: make(chan struct{}, 1)} }

// Write takes one line, as a slog.Handler writes it.
func (t *Tee) Write(line []byte) (int, error) {
	n, err := t.out.Write(line)
	t.keep(line)
	return n, err
}

func (t *Tee) keep(line []byte) {
	if len(line) == 0 || line[len(line)-1] != '\n' {
		return // not of a handler
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if len(t.lines)+len(line) > maxWaiting {
		t.drop(1)
		return
	}
	if len(t.lines) == 0 {
		select {
		case t.some <- struct{}{}:
		default:
		}
	}
	t.lines = append(t.lines, line...)
}

// drop counts events that are lost to the store; the lock is held.
func (t *Tee) drop(n int64) {
	if t.unsaid == 0 {
		t.since = time.Now()
	}
	t.dropped += n
	t.unsaid += n
}

// lose counts events that a Writer could not write.
func (t *Tee) lose(n int) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.drop(int64(n))
}

// take hands out what is kept; into, which may be nil, is used for what comes next.
func (t *Tee) take(into []byte) (lines []byte) {
	if cap(into) > maxIdle {
		into = nil
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if len(t.lines) == 0 {
		return nil
	}
	lines, t.lines = t.lines, into[:0]
	return lines
}

// owned is how many drops no event has told of yet, and since when; they count as
// told from now on.
func (t *Tee) owned() (n int64, since time.Time) {
	t.mu.Lock()
	defer t.mu.Unlock()
	n, since = t.unsaid, t.since
	t.unsaid = 0
	return n, since
}

// Dropped is how many events were not written to the database since the program
// began.
func (t *Tee) Dropped() int64 {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.dropped
}
