package run

import (
	"slices"
	"time"

	"github.com/google/uuid"

	"github.com/promptcademy/promptops/internal/key"
	"github.com/promptcademy/promptops/internal/price"
	"github.com/promptcademy/promptops/internal/provider"
)

// entry is one thing that Store writes down: exactly one of start, hold and finish.
type entry struct {
	start  *starting
	hold   *holding
	finish *finishing

	until time.Time  // when it is given up; zero: never
	tries int        // so far; after one, nobody knows whether it was committed
	done  chan error // receives once, and never blocks
}

// starting is a run that is about to begin.
type starting struct {
	call    Call
	version int64 // of the facts; 0: they were only just read
	budgets Budgets
	wishes  []wish // of every model; without keys where there is none to use

	// What was decided.
	refusal error // a fault: the run does not begin
	stale   bool  // what it depends on has changed meanwhile: look again
	known   bool  // it is written already
	decided []granted
}

// granted is what became of a wish.
type granted struct {
	index int // of the key; -1: none
	holds held
	full  scope // why none
}

// holding changes what is set aside for one attempt while its run goes on.
type holding struct {
	runID   uuid.UUID
	ordinal int
	number  int // counts the holdings of an attempt
	wish    wish

	decided granted
}

// finishing is a run that is over.
type finishing struct {
	call     Call
	budgets  Budgets
	day      string
	messages []provider.Message
	attempts []attempt
	envelope Envelope
	status   Status
	answer   *string // to be given again; nil: the request may be made anew
}

// plan is what a run that is going on intends, for whoever has to close it.
type plan struct {
	Day      string    `json:"day"`             // whose budgets it counts for
	Paced    bool      `json:"paced,omitempty"` // it counts in ops.learner_pace
	Attempts []planned `json:"attempts"`
}

// planned is one model of a plan.
type planned struct {
	Provider string      `json:"provider"`
	Model    string      `json:"model"`
	Source   *key.Source `json:"keySource"`
	KeyID    *uuid.UUID  `json:"keyId"`
	Held     *price.USD  `json:"held,omitempty"`
	Number   int         `json:"number,omitempty"` // of the holding
}

func newStarting(call Call, f facts, attempts []attempt) *starting {
	s := &starting{call: call, budgets: f.budgets, wishes: make([]wish, len(attempts))}
	if f.remembered {
		s.version = f.version
	}
	for i, a := range attempts {
		s.wishes[i] = a.wish
	}
	return s
}

// newFinishing is the outcome of a run. It has an answer that can be asked for
// again only if the run came to its end.
func newFinishing(call Call, f facts, day string, messages []provider.Message, attempts []attempt, e Envelope) *finishing {
	outcome := &finishing{call: call, budgets: f.budgets, day: day, messages: messages, attempts: attempts, envelope: e, status: e.Status}
	for _, a := range attempts {
		switch a.rowStatus() {
		case AttemptCancelled:
			outcome.status = Cancelled
		case AttemptInterrupted:
			outcome.status = Interrupted
		}
	}
	if call.IdempotencyKey != "" && outcome.status == e.Status {
		answer := jsonText(e)
		outcome.answer = &answer
	}
	return outcome
}

func newPlanned(model string, w wish, g granted) planned {
	id, _, _ := provider.Split(model)
	p := planned{Provider: id, Model: model}
	if g.index >= 0 {
		k := w.keys[g.index]
		p.Source, p.KeyID = &k.Source, &k.ID
	}
	if g.holds.keyID != uuid.Nil {
		p.Held = &g.holds.amount
	}
	return p
}

// plan is written at the start of a run and cleared with its outcome.
func (s *starting) plan() string {
	p := plan{Day: s.wishes[0].day, Paced: s.paced(), Attempts: make([]planned, len(s.wishes))}
	for i, w := range s.wishes {
		p.Attempts[i] = newPlanned(s.call.Request.Models[i], w, s.decided[i])
	}
	return jsonText(p)
}

func (s *starting) paced() bool { return s.call.LearnerID != nil && s.budgets.limitsPace() }

// needsDecision says whether the start depends on what others have done: on
// limits, or on who was first with an idempotency key.
func (e *entry) needsDecision() bool {
	switch {
	case e.start != nil:
		if e.start.paced() || e.start.call.IdempotencyKey != "" || e.tries > 0 {
			return true
		}
		for _, w := range e.start.wishes {
			if w.needsDecision() {
				return true
			}
		}
		return false
	case e.hold != nil:
		return true
	}
	return e.finish.unsure()
}

// unsure says whether only the database knows what is set aside for the run.
func (f *finishing) unsure() bool {
	return slices.ContainsFunc(f.attempts, func(a attempt) bool { return a.unsure })
}

// holdsOf takes from the run's plan what is set aside for attempts that are
// unsure.
func (f *finishing) holdsOf(p plan) {
	for i := range f.attempts {
		a := &f.attempts[i]
		if !a.unsure || i >= len(p.Attempts) {
			continue
		}
		a.holds = held{}
		if planned := p.Attempts[i]; planned.Held != nil && planned.KeyID != nil {
			a.holds = held{*planned.KeyID, *planned.Held}
		}
	}
}

// needsDecision is false when the first key has no limit to keep.
func (w wish) needsDecision() bool {
	return len(w.keys) > 0 && w.keys[0].Source == key.Fallback && w.budgets.limitsFallback(w.keys[0])
}

// counterRow is a change of one counter that depends on a run.
type counterRow struct {
	runID uuid.UUID
	id    counterID
	cost  price.USD // spent now
	held  price.USD // given back, unless somebody else did
}

// counterRows are what the outcome changes.
func (f *finishing) counterRows() []counterRow {
	var rows []counterRow
	count := func(keyID uuid.UUID, cost, held price.USD) {
		if cost.IsZero() && held.IsZero() {
			return
		}
		for _, id := range countersOf(f.day, keyID, f.call.LearnerID) {
			rows = append(rows, counterRow{f.call.ID, id, cost, held})
		}
	}
	for _, a := range f.attempts {
		var cost price.USD
		if a.result.Cost != nil && a.key.Source == key.Fallback {
			cost = *a.result.Cost
		}
		if a.holds.keyID == a.key.ID {
			count(a.key.ID, cost, a.holds.amount)
			continue
		}
		count(a.key.ID, cost, price.USD{})
		count(a.holds.keyID, price.USD{}, a.holds.amount)
	}
	return rows
}
