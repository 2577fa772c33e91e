// Package history answers what is asked about past runs: one of them, or all that
// pass a filter. It only reads.
package history

import (
	"time"

	"github.com/google/uuid"

	"github.com/promptcademy/promptops/internal/price"
)

// Run is one run, with all its attempts.
type Run struct {
	ID              uuid.UUID
	StartedAt       time.Time
	Status          string // running, success, partial, error, cancelled or interrupted
	Who             Who
	Team            *Named // nil: for no team
	TeamShares      bool   // the team lets its leads read what was said
	Template        *Named // nil: from no template
	ClientRequestID string // the caller's own; "" when there was none
	Stream          bool
	Config          Config

	FinishedAt *time.Time // nil: it is running
	DurationMs *int64     // nil: it is running, or nobody was there to see it end
	Tokens     *int64     // of the attempts whose usage is known; nil: it is running
	Cost       *price.USD // of the priced attempts; nil: it is running
	Unpriced   int        // attempts that are not in Cost

	Attempts []Attempt // in the order in which the models were asked for
	Said     *Said     // nil: it was not kept, or is not for the reader
}

// Said is what a run was about.
type Said struct {
	System   string // "" when there was none
	Messages []Message
	Outputs  map[string]string // by model; those that answered
}

// Message is one turn of a conversation.
type Message struct {
	Role    string `json:"role"`
	Content string `json:"content"`
}

// Who made a run: a learner, or an operator on the playground.
type Who struct {
	Operator  bool
	LearnerID *uuid.UUID // nil: an operator
	Email     string     // "" for an account that is gone
	Name      string     // of an operator; may be empty
}

// Named is what a run belongs to.
type Named struct {
	ID   uuid.UUID
	Name string // "" when it is gone
}

// Config is what the caller set; nil and empty were left to the provider.
type Config struct {
	Temperature *float64 `json:"temperature"`
	MaxTokens   *int     `json:"maxTokens"`
	TopP        *float64 `json:"topP"`
	Stop        []string `json:"stop"`
	TimeoutMs   *int     `json:"timeoutMs"`
}

// Attempt is one model of a run.
type Attempt struct {
	Provider string // id
	Model    string // as it was asked for: provider/model
	Status   string // running, ok, error, cancelled or interrupted
	Key      *Key   // the last one in use; nil: there was none
	Calls    int    // made to the provider
	Tries    []Try  // these calls; empty where nothing is known of them

	Tokens Tokens
	Cost   *price.USD // nil: unknown
	// CostSource is computed, reported, estimated or unpriced; "" while it runs.
	CostSource string
	Price      *Price // that Cost was computed from; nil: none

	FinishReason      string
	ErrorClass        string // "" when it has none
	ErrorMessage      string
	HTTPStatus        int           // the provider's; 0: there was no answer
	RetryAfter        time.Duration // 0: the provider named none
	ProviderRequestID string
	DurationMs        *int64 // nil: not known
	FirstTokenMs      *int64 // since the last call; nil: it was not streamed
}

// Key is what remains to be said of a key. It never holds the key.
type Key struct {
	ID       uuid.UUID
	Source   string // user or fallback
	Label    string
	LastFour string
	Deleted  bool // there is neither Label nor LastFour any more
	Withheld bool // nor are they for whoever reads as a learner
}

// Tokens are an attempt's tokens by category. Input includes CachedInput and
// CacheWrite, Output includes Reasoning.
type Tokens struct {
	Input, CachedInput, CacheWrite, Output, Reasoning, Total int64

	Source string // reported or estimated; "": nothing is known
}

// Price is the price list's row at which an attempt was computed, in dollars per
// million tokens.
type Price struct {
	ID            int64
	Name          string // full name of the model that it is listed for
	Input         price.USD
	Output        price.USD
	CacheRead     *price.USD // nil: as Input
	CacheWrite5m  *price.USD // nil: as Input
	TierAbove     *int64     // input tokens above which the tier's rates count
	TierInput     *price.USD
	TierOutput    *price.USD
	EffectiveFrom *time.Time // nil: ever since
	Source        string
}

// Try is one call to a provider.
type Try struct {
	Begin      time.Duration // since the run's start
	Duration   time.Duration
	About      bool // Begin was not written down, but follows from the rest
	Key        *Key // nil: unknown
	Class      string
	HTTPStatus int
	Action     string // done, again, next_key or give_up
	Reason     string // for the action; "" for done
}

// loggedTry is an element of prompt_attempts.try_log.
type loggedTry struct {
	At         time.Time `json:"at"`
	DurationMs float64   `json:"durationMs"`
	KeyID      uuid.UUID `json:"keyId"`
	KeySource  string    `json:"keySource"`
	Class      string    `json:"class"`
	HTTPStatus int       `json:"httpStatus"`
	Action     string    `json:"action"`
	Reason     string    `json:"reason"`
}

// plan is what prompt_runs.plan says of the models of a run that is going on.
type plan struct {
	Attempts []struct {
		Provider  string     `json:"provider"`
		Model     string     `json:"model"`
		KeySource *string    `json:"keySource"`
		KeyID     *uuid.UUID `json:"keyId"`
	} `json:"attempts"`
}

// rows are the attempts of a run that is going on.
func (p *plan) rows() []attemptRow {
	if p == nil {
		return nil
	}
	rows := make([]attemptRow, len(p.Attempts))
	for i, a := range p.Attempts {
		rows[i] = attemptRow{Provider: a.Provider, Model: a.Model, Status: "running", KeySource: a.KeySource, KeyID: a.KeyID}
	}
	return rows
}

// tries are an attempt's calls. Of a single one the attempt's own columns say all
// that a log would, but for when it began.
func (r attemptRow) tries(started time.Time, lookUp func(id uuid.UUID, source string) *Key) []Try {
	if len(r.TryLog) == 0 && r.Tries == 1 && r.DurationMs != nil {
		only := Try{
			Duration: time.Duration(*r.DurationMs) * time.Millisecond, About: true,
			Key: r.key(lookUp), Class: r.ErrorClass, HTTPStatus: r.HTTPStatus, Action: "done",
		}
		if r.Status != "ok" {
			only.Action = "give_up"
		}
		return []Try{only}
	}
	all := make([]Try, len(r.TryLog))
	for i, t := range r.TryLog {
		all[i] = Try{
			Begin: max(t.At.Sub(started), 0), Duration: time.Duration(t.DurationMs * float64(time.Millisecond)),
			Key: lookUp(t.KeyID, t.KeySource), Class: t.Class, HTTPStatus: t.HTTPStatus, Action: t.Action, Reason: t.Reason,
		}
	}
	return all
}

func (r attemptRow) key(lookUp func(id uuid.UUID, source string) *Key) *Key {
	if r.KeyID == nil || r.KeySource == nil {
		return nil
	}
	return lookUp(*r.KeyID, *r.KeySource)
}

// place says when the calls began that no log tells of. All models of a run are
// asked at the same moment: that of the earliest call that was logged, else as
// long before the run's end as the longest attempt took.
func place(run *Run) {
	begin, known := time.Duration(0), false
	var longest int64
	for _, a := range run.Attempts {
		if a.DurationMs != nil {
			longest = max(longest, *a.DurationMs)
		}
		if len(a.Tries) > 0 && !a.Tries[0].About && (!known || a.Tries[0].Begin < begin) {
			begin, known = a.Tries[0].Begin, true
		}
	}
	if !known && run.DurationMs != nil {
		begin = time.Duration(max(*run.DurationMs-longest, 0)) * time.Millisecond
	}
	for i := range run.Attempts {
		if tries := run.Attempts[i].Tries; len(tries) > 0 && tries[0].About {
			tries[0].Begin = begin
		}
	}
}
