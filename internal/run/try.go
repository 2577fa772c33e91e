package run

import (
	"time"

	"github.com/google/uuid"

	"github.com/promptcademy/promptops/internal/key"
	"github.com/promptcademy/promptops/internal/provider"
)

// Try is one call to a provider. An attempt takes as many as its retries and its
// change of keys need.
type Try struct {
	StartedAt    time.Time
	Duration     time.Duration
	KeyID        uuid.UUID
	KeySource    key.Source
	Class        provider.Class // empty: the model answered
	HTTPStatus   int            // the provider's; 0 when there was no answer
	FirstToken   time.Duration  // 0: not streamed, or nothing came
	Action       Action         // what was decided afterwards
	Reason       string         // and why
	ProviderCall string         // the provider's id of the call; may be empty
}

// Finished is a run that is over and recorded, as Runner.Observe is told of it.
type Finished struct {
	Call      Call
	StartedAt time.Time // when Run was called
	EndedAt   time.Time // when the outcome was committed
	Abandoned bool      // the caller went away
	Envelope  Envelope
	Tries     [][]Try // of every result, in the order of Envelope.Results
}
