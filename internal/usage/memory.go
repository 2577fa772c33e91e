package usage

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"iter"
	"slices"
	"sync"

	"github.com/hashicorp/golang-lru/v2/simplelru"
	"github.com/jackc/pgx/v5"
)

// mostRemembered is how many bytes of answers a process keeps, and mostOfOne how many
// of one statement: of what is larger only files are made.
const (
	mostRemembered = 24 << 20
	mostOfOne      = mostRemembered / 6
)

// memory keeps what statements about a part of a plan found that has a version: they
// would find the same again. What may change is never in it. What was asked for
// longest ago goes first.
type memory struct {
	mu    sync.Mutex
	kept  *simplelru.LRU[question, answer]
	bytes int
}

// question stands for a statement, its arguments, the version of what it reads, and
// as whom.
type question [sha256.Size]byte

func newMemory() *memory {
	m := &memory{}
	// As many as there is room for: it is the bytes that count. A size below 1 is all that it refuses.
	m.kept, _ = simplelru.NewLRU(mostRemembered/leastOfOne, func(_ question, gone answer) { m.bytes -= gone.weight() })
	return m
}

// ask is the question that statements put together; without a version there is none
// that could be put again.
func (s source) ask(version string, statements ...statement) (asked question, repeatable bool) {
	if version == "" {
		return question{}, false
	}
	all := []any{[]byte(version), s.as}
	for _, st := range statements {
		all = append(all, st.sql, st.args)
	}
	text, err := json.Marshal(all)
	return sha256.Sum256(text), err == nil
}

func (m *memory) recall(asked question) (answer, bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.kept.Get(asked)
}

func (m *memory) keep(asked question, kept answer) {
	if kept.weight() > mostOfOne {
		return
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.kept.Remove(asked)
	m.kept.Add(asked, kept)
	for m.bytes += kept.weight(); m.bytes > mostRemembered; {
		m.kept.RemoveOldest()
	}
}

// found is what a statement finds, or has found before.
func (m *memory) found(ctx context.Context, tx pgx.Tx, src source, version string, st statement) (iter.Seq[Cell], error) {
	asked, repeatable := src.ask(version, st)
	if repeatable {
		if cells, known := m.recall(asked); known {
			return cells.all(), nil
		}
	}
	cells, err := collect[Cell](ctx, tx, st.sql, st.args...)
	if err == nil && repeatable {
		m.keep(asked, answerOf(cells))
	}
	return slices.Values(cells), err
}
