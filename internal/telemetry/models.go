package telemetry

import (
	"sync"
	"unicode/utf8"

	"github.com/promptcademy/promptops/internal/provider"
)

// Models come from requests, so anybody could make up any number of series. A
// model has a label of its own when it has a price or was answered ok by its
// provider, until there are as many as this; every other is "other".
const (
	maxModels      = 1000
	maxUnlisted    = 200 // from here on only models with a price are added
	otherModel     = "other"
	maxModelLength = 200
)

// Models decides which models are named in labels. It is safe for concurrent
// use.
type Models struct {
	priced func(provider, model string) bool

	mu    sync.RWMutex
	named map[string]string // by full name, "openai/gpt-5-mini": the provider's own name
}

// NewModels returns an empty Models. priced says whether exactly this model has
// a price.
func NewModels(priced func(provider, model string) bool) *Models {
	return &Models{priced: priced, named: map[string]string{}}
}

// Label is what a model, given by its full name, is called in labels: the
// provider's own name, or "other". ok says that the provider has just answered
// for it.
func (m *Models) Label(model string, ok bool) string {
	m.mu.RLock()
	name, named := m.named[model]
	m.mu.RUnlock()
	if named {
		return name
	}
	id, name, valid := provider.Split(model)
	if !valid || len(model) > maxModelLength || !utf8.ValidString(model) {
		return otherModel
	}
	most := maxUnlisted
	if m.priced(id, name) {
		most = maxModels
	} else if !ok {
		return otherModel
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if len(m.named) >= most {
		return otherModel
	}
	m.named[model] = name
	return name
}
