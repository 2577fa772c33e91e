package usage

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"iter"
	"slices"

	"github.com/jackc/pgx/v5"

	"github.com/promptcademy/promptops/internal/memo"
)

// mostRemembered is how many bytes of answers a process keeps.
const mostRemembered = 24 << 20

// memory keeps what statements about a part of a plan found that has a version: they
// would find the same again. What may change is never in it.
type memory = memo.Memory[answer]

func newMemory() *memory {
	return memo.New(mostRemembered, func(a answer) int { return len(a) })
}

// ask is the question that statements put together, to what has a version and as
// whom; without a version there is none that could be put again.
func (s source) ask(version string, statements ...statement) (asked memo.Key, repeatable bool) {
	if version == "" {
		return memo.Key{}, false
	}
	all := []any{[]byte(version), s.as}
	for _, st := range statements {
		all = append(all, st.sql, st.args)
	}
	text, err := json.Marshal(all)
	return sha256.Sum256(text), err == nil
}

// found is what a statement finds, or has found before.
func found(ctx context.Context, tx pgx.Tx, m *memory, src source, version string, st statement) (iter.Seq[Cell], error) {
	asked, repeatable := src.ask(version, st)
	if repeatable {
		if cells, known := m.Get(asked); known {
			return cells.all(), nil
		}
	}
	cells, err := collect[Cell](ctx, tx, st.sql, st.args...)
	if err == nil && repeatable {
		m.Put(asked, answerOf(cells))
	}
	return slices.Values(cells), err
}
