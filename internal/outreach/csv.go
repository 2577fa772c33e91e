package outreach

import (
	"encoding/csv"
	"io"
	"strconv"
	"strings"
	"time"

	"github.com/promptcademy/promptops/internal/sheet"
)

// WriteCSV writes learners, a line each, as RFC 4180 asks for. It begins with a
// byte order mark, since names are not ASCII and spreadsheets would spoil them.
// Amounts have all their digits; one that is not known at all is empty, not 0.
func WriteCSV(w io.Writer, learners []Learner) error {
	if _, err := io.WriteString(w, "\ufeff"); err != nil {
		return err
	}
	out := csv.NewWriter(w)
	out.UseCRLF = true
	// Errors of Write come back from Error below.
	_ = out.Write([]string{
		"id", "name", "email", "teams", "state", "state_since", "snoozed_until", "nudged_at", "usable_keys", "broken_keys", "broken_since",
		"active", "last_run_at", "needs_key_for", "fallback_cost_14_days_usd", "projected_30_days_usd", "unpriced_attempts",
	})
	for _, l := range learners {
		cost, projected := l.Cost.String(), Projected(l.Cost).String()
		if l.Cost.IsZero() && l.Unpriced > 0 {
			cost, projected = "", ""
		}
		_ = out.Write([]string{
			l.ID.String(), sheet.Text(l.Name), sheet.Text(l.Email), sheet.Text(strings.Join(l.Teams, "; ")),
			string(l.State), instant(l.StateAt), instant(l.Until), instant(l.NudgedAt),
			sheet.Text(strings.Join(l.Usable, "; ")), sheet.Text(strings.Join(l.Broken, "; ")), instant(l.BrokenSince),
			strconv.FormatBool(l.Active), instant(l.LastRunAt), sheet.Text(strings.Join(l.Needs, "; ")),
			cost, projected, strconv.FormatInt(l.Unpriced, 10),
		})
	}
	out.Flush()
	return out.Error()
}

func instant(at *time.Time) string {
	if at == nil {
		return ""
	}
	return at.UTC().Format(time.RFC3339)
}
