// Package run is what POST /api/ai/run does: one prompt, up to eight models at
// the same time, every one recorded before the answer is read.
package run

import (
	"cmp"
	"encoding/binary"
	"time"

	"github.com/google/uuid"

	"github.com/promptcademy/promptops/internal/fault"
	"github.com/promptcademy/promptops/internal/key"
	"github.com/promptcademy/promptops/internal/price"
	"github.com/promptcademy/promptops/internal/provider"
)

// NewID makes a run's id: a UUIDv7 whose millisecond is now's, and with it the
// run's created_at.
func NewID(now time.Time) uuid.UUID {
	id := uuid.Must(uuid.NewV7()) // fails only without a source of randomness
	var ms [8]byte
	binary.BigEndian.PutUint64(ms[:], uint64(now.UnixMilli()))
	copy(id[:6], ms[2:])
	return id
}

// CreatedAt is the instant in a run's id, to the millisecond.
func CreatedAt(id uuid.UUID) time.Time {
	var ms [8]byte
	copy(ms[2:], id[:6])
	return time.UnixMilli(int64(binary.BigEndian.Uint64(ms[:]))).UTC()
}

// Call is one request on its way through Runner.
type Call struct {
	ID              uuid.UUID  // from NewID
	ClientRequestID string     // the caller's own X-Request-ID; may be empty
	LearnerID       *uuid.UUID // whose access token it was
	OperatorID      *uuid.UUID // instead of a learner: the playground
	IdempotencyKey  string     // may be empty
	RequestHash     []byte     // SHA-256 of the body; with IdempotencyKey
	TraceParent     string     // W3C trace context of the caller; may be empty
	Request         Request
}

// Status of a run, as it is answered and stored.
type Status string

const (
	Success Status = "success" // every attempt is ok
	Partial Status = "partial" // some are
	Failed  Status = "error"   // none is

	Cancelled   Status = "cancelled"   // stored only: the caller went away
	Interrupted Status = "interrupted" // stored only: the process ended before the run did
)

// AttemptStatus is how one model ended. Answers know ok and error; rows also
// tell apart what was cancelled or interrupted.
type AttemptStatus string

const (
	AttemptOK          AttemptStatus = "ok"
	AttemptError       AttemptStatus = "error"
	AttemptCancelled   AttemptStatus = "cancelled"
	AttemptInterrupted AttemptStatus = "interrupted"
)

// CostSource says where an attempt's cost comes from.
type CostSource string

const (
	Computed  CostSource = "computed"  // reported tokens × list price
	Reported  CostSource = "reported"  // the provider named the amount
	Estimated CostSource = "estimated" // tokens had to be estimated
	Unpriced  CostSource = "unpriced"  // no price is known: the cost is unknown, not 0
)

// Envelope is the answer to a run.
type Envelope struct {
	RequestID   uuid.UUID `json:"requestId"`
	Status      Status    `json:"status"`
	DurationMs  int64     `json:"durationMs"`
	TotalTokens int64     `json:"totalTokens"` // of the attempts whose usage is known
	TotalCost   price.USD `json:"totalCost"`   // of the priced attempts
	Unpriced    int       `json:"unpriced,omitempty"`
	Results     []Result  `json:"results"` // in the order of the request's models

	Replayed bool          `json:"-"` // the answer of an earlier run with the same idempotency key
	Upstream time.Duration `json:"-"` // from the first call to a provider to the last answer
}

// Result is what became of one model.
type Result struct {
	Model        string        `json:"model"`
	Provider     string        `json:"provider"`
	Status       AttemptStatus `json:"status"`
	Output       *string       `json:"output"` // beside an error: what had been streamed
	FinishReason *string       `json:"finishReason"`
	Usage        *Usage        `json:"usage"`
	Cost         *price.USD    `json:"cost"` // nil: unknown
	CostSource   *CostSource   `json:"costSource"`
	KeySource    *key.Source   `json:"keySource"` // nil: there was no key
	DurationMs   int64         `json:"durationMs"`
	FirstTokenMs *int64        `json:"firstTokenMs"`
	Attempts     int           `json:"attempts"` // calls made to the provider
	Error        *Error        `json:"error"`
}

// Usage is an attempt's tokens. Input includes cached input and cache writes,
// output includes reasoning.
type Usage struct {
	InputTokens       int64  `json:"inputTokens"`
	CachedInputTokens int64  `json:"cachedInputTokens"`
	CacheWriteTokens  int64  `json:"cacheWriteTokens"`
	OutputTokens      int64  `json:"outputTokens"`
	ReasoningTokens   int64  `json:"reasoningTokens"`
	TotalTokens       int64  `json:"totalTokens"`
	Source            string `json:"source"` // reported or estimated
}

// Error is why a model did not answer.
type Error struct {
	Class        provider.Class `json:"class"`
	Message      string         `json:"message"`
	HTTPStatus   int            `json:"httpStatus,omitempty"`
	RetryAfterMs int64          `json:"retryAfterMs,omitempty"`
}

// Listener hears a run while it goes on. Calls come one at a time; Delta only
// when the request asks for a stream.
type Listener interface {
	Start(id uuid.UUID, replayed bool) // committed as started, models are being called; or all of it is over already
	Delta(model string, text string)   // a piece of a model's text
	Result(result Result)              // a model is done
}

// summarise adds up a run's results.
func summarise(id uuid.UUID, attempts []attempt, took time.Duration) Envelope {
	e := Envelope{RequestID: id, DurationMs: took.Milliseconds(), Results: make([]Result, len(attempts))}
	ok := 0
	for i, a := range attempts {
		e.Results[i] = a.result
		if a.result.Status == AttemptOK {
			ok++
		}
		if a.result.Usage != nil {
			e.TotalTokens += a.result.Usage.TotalTokens
		}
		if a.result.Cost != nil {
			e.TotalCost = e.TotalCost.Add(*a.result.Cost)
		} else {
			e.Unpriced++
		}
	}
	switch ok {
	case len(attempts):
		e.Status = Success
	case 0:
		e.Status = Failed
	default:
		e.Status = Partial
	}
	return e
}

func compareFields(a, b fault.Field) int { return cmp.Compare(a.Field, b.Field) }
