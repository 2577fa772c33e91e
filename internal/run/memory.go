package run

import (
	"sync"
	"time"

	"github.com/google/uuid"

	"github.com/promptcademy/promptops/internal/key"
	"github.com/promptcademy/promptops/internal/learner"
)

const (
	// Of so many learners the facts are remembered; then it begins anew.
	mostRemembered = 10_000
	// Longer than this nothing is remembered: what does not change the version,
	// such as when other nodes used a key, should not become too old.
	rememberedFor = 10 * time.Second
)

// memory remembers facts of one version of ops.facts_version. They are hints: who
// uses them has the version checked by the statement that starts the run.
type memory struct {
	mu       sync.RWMutex
	version  int64
	prices   int64
	since    time.Time
	budgets  Budgets
	fallback []key.Key
	learners map[uuid.UUID]remembered
}

// remembered is one learner.
type remembered struct {
	account *learner.Account
	keys    []key.Key
}

// recall returns the facts of a call, if they are known.
func (m *memory) recall(call *Call, providers []string) (facts, bool) {
	m.mu.RLock()
	defer m.mu.RUnlock()
	if m.version == 0 || time.Since(m.since) > rememberedFor {
		return facts{}, false
	}
	f := facts{budgets: m.budgets, version: m.version, prices: m.prices, remembered: true}
	var own []key.Key
	if call.LearnerID != nil {
		known, ok := m.learners[*call.LearnerID]
		if !ok {
			return facts{}, false
		}
		f.account, own = known.account, known.keys
	}
	f.keys = candidates(providers, own, m.fallback)
	return f, true
}

// keep remembers what was just read.
func (m *memory) keep(version, prices int64, budgets Budgets, fallback []key.Key, accounts map[uuid.UUID]*learner.Account, own map[uuid.UUID][]key.Key) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if version < m.version {
		return
	}
	if version > m.version || time.Since(m.since) > rememberedFor || len(m.learners) > mostRemembered {
		m.version, m.since, m.learners = version, time.Now(), map[uuid.UUID]remembered{}
	}
	m.prices, m.budgets, m.fallback = prices, budgets, fallback
	for id, account := range accounts {
		m.learners[id] = remembered{account, own[id]}
	}
}

// forget drops everything, after a run met a newer version.
func (m *memory) forget(version int64) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.version == version {
		m.version = 0
	}
}
