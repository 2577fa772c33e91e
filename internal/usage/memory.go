package usage

import (
	"context"
	"crypto/sha256"
	"encoding/json"

	"github.com/jackc/pgx/v5"
	"github.com/maypok86/otter/v2"
)

// mostRemembered is about how many bytes of cells a process keeps, and mostOfOne of
// one statement: of what is larger only files are made.
const (
	mostRemembered = 40 << 20
	mostOfOne      = mostRemembered / 4
)

// memory keeps what statements about a part of a plan found that has a Version: they
// would find the same again. What may change is never in it.
type memory struct {
	cells *otter.Cache[question, []Cell]
}

// question stands for a statement, its arguments, the Version of what it reads, and
// as whom.
type question [sha256.Size]byte

func newMemory() *memory {
	return &memory{otter.Must(&otter.Options[question, []Cell]{
		MaximumWeight: mostRemembered,
		Weigher:       func(_ question, cells []Cell) uint32 { return weightOf(cells) },
	})}
}

// weightOf is about how many bytes cells take.
func weightOf(cells []Cell) uint32 {
	weight := 128
	for _, c := range cells {
		weight += 368 + len(c.Grp) + len(c.Sub) + len(c.Latency) + len(c.FirstToken)
	}
	return uint32(min(weight, 1<<31))
}

// ask is the question that a statement puts; without a version there is none that
// could be put again.
func (s source) ask(version string, st statement) (asked question, repeatable bool) {
	if version == "" {
		return question{}, false
	}
	text, err := json.Marshal([]any{st.sql.String(), st.args, []byte(version), s.as})
	return sha256.Sum256(text), err == nil
}

func (m *memory) recall(asked question) ([]Cell, bool) { return m.cells.GetIfPresent(asked) }

// keep keeps what was found. Nobody may change it any more.
func (m *memory) keep(asked question, found []Cell) {
	if weightOf(found) <= mostOfOne {
		m.cells.Set(asked, found)
	}
}

// found is what a statement finds, or has found before.
func (m *memory) found(ctx context.Context, tx pgx.Tx, src source, version string, st statement) ([]Cell, error) {
	asked, repeatable := src.ask(version, st)
	if repeatable {
		if cells, known := m.recall(asked); known {
			return cells, nil
		}
	}
	cells, err := collect[Cell](ctx, tx, st.sql.String(), st.args...)
	if err == nil && repeatable {
		m.keep(asked, cells)
	}
	return cells, err
}
