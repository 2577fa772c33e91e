package key

import (
	"time"

	"github.com/promptcademy/promptops/internal/provider"
)

// Tested is what came of a test: a free call with the key, never a completion.
type Tested struct {
	OK      bool
	Class   provider.Class // why not; empty if OK
	Message string         // the provider's, scrubbed; empty if OK
	Latency time.Duration
	Status  Status // of the key afterwards
	Reason  string // what was concluded, in a sentence
}
