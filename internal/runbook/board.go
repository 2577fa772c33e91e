package runbook

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/promptcademy/promptops/internal/fault"
)

const (
	// Patience is how long a page waits for its checks.
	Patience = 3 * time.Second

	keep    = 10 * time.Second // how long a reading is good for
	soonest = time.Second      // whoever presses again sooner sees what there is
)

// Freshness is how old a reading may be.
type Freshness int

const (
	Kept  Freshness = iota // as old as the check says
	Again                  // somebody asked for it to be looked again: a second
	Anew                   // what was seen before is known not to hold any more
)

// Board runs checks for everybody who looks. A check runs once at a time,
// whoever asks for it: so no more goroutines can hang than there are checks, and
// the one that hangs holds up nobody but those who look at it, for Patience.
type Board struct {
	Log *slog.Logger
	Now func() time.Time

	patience time.Duration
	checks   []Check
	slots    map[string]*slot
}

// slot is what is known of a check.
type slot struct {
	mu      sync.Mutex
	last    Result
	running chan struct{} // closed when the run that goes on ends; nil: none does
	began   time.Time
}

// NewBoard returns a Board of checks, whose ids differ.
func NewBoard(checks []Check, log *slog.Logger, now func() time.Time) *Board {
	b := &Board{Log: log, Now: now, patience: Patience, checks: checks, slots: map[string]*slot{}}
	for _, c := range checks {
		b.slots[c.ID] = &slot{}
	}
	return b
}

// Checks are all checks, in the order of the table.
func (b *Board) Checks() []Check { return b.checks }

// Check is one of them.
func (b *Board) Check(id string) (Check, bool) {
	for _, c := range b.checks {
		if c.ID == id {
			return c, true
		}
	}
	return Check{}, false
}

// Read returns the results of these checks, in this order, ids that are none left
// out. All run at the same time; what is not there after Patience is Unknown and
// says so. fresh says how old each may be; nil: Kept.
func (b *Board) Read(ctx context.Context, ids []string, fresh func(id string) Freshness) []Result {
	ctx, cancel := context.WithTimeout(ctx, b.patience)
	defer cancel()
	var results []Result
	var waits []func() Result
	for _, id := range ids {
		if check, ok := b.Check(id); ok {
			how := Kept
			if fresh != nil {
				how = fresh(id)
			}
			waits = append(waits, b.begin(ctx, check, how))
		}
	}
	for _, wait := range waits {
		results = append(results, wait())
	}
	return results
}

// begin starts a check unless it runs already or is known, and returns how to
// wait for it.
func (b *Board) begin(ctx context.Context, check Check, fresh Freshness) func() Result {
	s := b.slots[check.ID]
	s.mu.Lock()
	defer s.mu.Unlock()
	good := keep
	if check.Keep > 0 {
		good = check.Keep
	}
	switch fresh {
	case Again:
		good = soonest
	case Anew:
		good = 0
	}
	if age := b.Now().Sub(s.last.At); !s.last.At.IsZero() && age >= 0 && age < good && s.running == nil {
		last := s.last
		return func() Result { return last }
	}
	if s.running == nil {
		s.running, s.began = make(chan struct{}), b.Now()
		go b.run(context.WithoutCancel(ctx), check, s)
	}
	running, began := s.running, s.began
	return func() Result {
		select {
		case <-running:
			s.mu.Lock()
			defer s.mu.Unlock()
			return s.last
		case <-ctx.Done():
			return Result{Check: check, At: b.Now(), Took: b.Now().Sub(began), Reading: Reading{
				Verdict: Unknown, Value: "No answer in time",
				Detail: fmt.Sprintf("It was asked %s ago and has not answered yet. That is no good sign for what it looks at.", seconds(b.Now().Sub(began))),
			}}
		}
	}
}

// run asks a check, with a deadline of its own: whoever asked may have left, and
// the next one gets the answer.
func (b *Board) run(ctx context.Context, check Check, s *slot) {
	ctx, cancel := context.WithTimeout(ctx, b.patience*9/10) // so that it can still say what it makes of it
	defer cancel()
	began := time.Now()
	reading, err := ask(ctx, check)
	if err != nil {
		reading = b.couldNot(check, err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.last = Result{Check: check, Reading: reading, At: b.Now(), Took: time.Since(began)}
	close(s.running)
	s.running = nil
}

// ask runs a check; a panic of it is an error.
func ask(ctx context.Context, check Check) (reading Reading, err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("panic: %v", p)
		}
	}()
	reading, err = check.Run(ctx)
	if err == nil && (reading.Verdict.rank() == 1 && reading.Verdict != Unknown || reading.Value == "") {
		err = errors.New("the check returned no reading")
	}
	return reading, err
}

// couldNot is the reading of a check that failed.
func (b *Board) couldNot(check Check, err error) Reading {
	reading := Reading{Verdict: Unknown, Value: "Could not check", Detail: "What went wrong is in the log of this node."}
	if f, ok := errors.AsType[*fault.Error](err); ok {
		reading.Detail = f.Message
	} else if errors.Is(err, context.DeadlineExceeded) {
		reading.Value, reading.Detail = "No answer in time", "What it looks at did not answer within "+seconds(b.patience)+"."
	}
	b.Log.Warn("check_failed", "check", check.ID, "error", err)
	return reading
}

func seconds(d time.Duration) string {
	if d < time.Second {
		return "less than a second"
	}
	if d < 2*time.Second {
		return "1 second"
	}
	return fmt.Sprintf("%d seconds", int(d/time.Second))
}
