package sandbox

import (
	"net/http"
	"sync"
)

const remembered = 1000 // answers, at most

// memory holds whole answers by what was asked, since they depend on nothing
// else. A nil memory knows and keeps nothing.
type memory struct {
	mu      sync.RWMutex
	answers map[string]known
}

// known is an answer as it was given.
type known struct {
	provider, model string
	tally           tally
	requestID       string
	body            []byte
}

// question is all that an answer depends on; "" without a memory.
func (m *memory) question(r *http.Request, secret string, body []byte) string {
	if m == nil || r.Method != http.MethodPost {
		return ""
	}
	return r.URL.Path + "\n" + secret + "\n" + r.Header.Get("Anthropic-Version") + "\n" + string(body)
}

func (m *memory) find(asked string) (known, bool) {
	if m == nil {
		return known{}, false
	}
	m.mu.RLock()
	defer m.mu.RUnlock()
	k, ok := m.answers[asked]
	return k, ok
}

func (m *memory) keep(asked string, k known) {
	if m == nil {
		return
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if len(m.answers) < remembered {
		m.answers[asked] = k
	}
}

// repeat gives an answer again.
func (s *Sandbox) repeat(w http.ResponseWriter, r *http.Request, k known, e *Entry) {
	if e != nil {
		e.Model, k.requestID = k.model, e.ID
	}
	if !sleep(r.Context(), s.paceOf(k.model).first) {
		return
	}
	s.bill(e, k.provider, k.model, k.tally, true)
	w.Header().Set("X-Request-Id", k.requestID)
	writeBody(w, http.StatusOK, k.body)
}
