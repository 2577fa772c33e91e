package history

import (
	"context"
	"io"
	"strings"

	"github.com/promptcademy/promptops/internal/sheet"
)

// MostInCSV is how many runs a file holds.
const MostInCSV = 10_000

// WriteCSV writes the newest runs that pass, a line each; cut says that there are
// more than MostInCSV. An amount that is unknown is empty, not 0. It fails like
// List.
func (s *Store) WriteCSV(ctx context.Context, w io.Writer, f Filter) (cut bool, err error) {
	page, err := s.list(ctx, f, Cursor{}, MostInCSV, search{first: forPages.piece, piece: forPages.piece})
	if err != nil {
		return false, err
	}
	out := sheet.New(w, "started_at", "request_id", "client_request_id", "learner", "operator", "team", "template", "status", "models", "stream",
		"duration_ms", "total_tokens", "cost_usd", "unpriced", "key_sources", "error_classes")
	for _, r := range page.Runs {
		learner, operator := r.Who.Email, ""
		if r.Who.Operator {
			learner, operator = "", r.Who.Email
		}
		var cost any
		if r.Cost != nil && (r.Unpriced == 0 || !r.Cost.IsZero()) {
			cost = *r.Cost
		}
		out.Row(r.StartedAt.Format("2006-01-02T15:04:05.000Z07:00"), r.ID.String(), r.ClientRequestID, learner, operator, name(r.Team), name(r.Template),
			r.Status, strings.Join(r.Models, " "), r.Stream, known64(r.DurationMs), known64(r.Tokens), cost, r.Unpriced,
			strings.Join(r.KeySources, " "), strings.Join(r.ErrorClasses, " "))
	}
	return page.Older, out.End()
}

func name(n *Named) string {
	if n == nil {
		return ""
	}
	return n.Name
}

// known64 is the number, or nothing.
func known64(n *int64) any {
	if n == nil {
		return nil
	}
	return *n
}
