package key

import (
	"slices"
	"time"

	"github.com/google/uuid"

	"github.com/promptcademy/promptops/internal/provider"
)

// Kind is what something was seen by.
type Kind string

const (
	ByAttempt  Kind = "attempt"  // a call of a run
	ByProbe    Kind = "probe"    // a free check by this program
	ByOperator Kind = "operator" // a free check that an operator asked for
	ByLearner  Kind = "learner"  // or the key's owner
	ByClock    Kind = "clock"    // a time that has come
)

// Observation is one thing seen of a key.
type Observation struct {
	Kind         Kind
	At           time.Time
	StartedAt    time.Time      // of the call; what it says may be older than At
	Class        provider.Class // empty: it went well
	Credit       bool           // the provider said that there is money left
	RetryAfter   time.Duration  // 0: the provider did not say
	Message      string         // the provider's, scrubbed
	HTTPStatus   int
	RunID        *uuid.UUID
	ProviderCall string // the provider's id of the call
	Latency      time.Duration
	OperatorID   *uuid.UUID

	storm bool // one of so many faults in a short time that the key is to rest
}

// asked says whether a person wants to know.
func (o Observation) asked() bool { return o.Kind == ByOperator || o.Kind == ByLearner }

// outages are the classes that say nothing about the key itself: the provider or
// the way there has trouble.
var outages = [...]provider.Class{provider.ClassOverloaded, provider.ClassProviderError, provider.ClassTimeout, provider.ClassNetwork}

func outage(class provider.Class) bool { return slices.Contains(outages[:], class) }
