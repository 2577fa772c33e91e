package usage

import (
	"encoding/csv"
	"io"
	"strconv"

	"github.com/promptcademy/promptops/internal/sheet"
)

// WriteCSV writes a report's days by model, a line each, as RFC 4180 asks for:
// comma, CRLF, a header. Amounts have all their digits; one that is unknown is
// empty, not 0. There is no byte order mark, since programs stumble over it and
// everything in the file but exotic models' names is ASCII.
func WriteCSV(w io.Writer, r Report) error {
	out := csv.NewWriter(w)
	out.UseCRLF = true
	// Errors of Write come back from Error below.
	_ = out.Write([]string{
		"date", "provider", "model", "attempts", "errors",
		"input_tokens", "cached_input_tokens", "cache_write_tokens", "output_tokens", "reasoning_tokens", "total_tokens",
		"cost_usd", "unpriced",
	})
	for _, day := range r.Days {
		for _, m := range day.Models {
			cost := m.Cost.String()
			if m.Priced() == 0 {
				cost = ""
			}
			_ = out.Write([]string{
				day.Date(), sheet.Text(m.Provider), sheet.Text(m.Model), digits(m.Attempts), digits(m.Errors),
				digits(m.Input), digits(m.CachedInput), digits(m.CacheWrite), digits(m.Output), digits(m.Reasoning), digits(m.Total()),
				cost, digits(m.Unpriced),
			})
		}
	}
	out.Flush()
	return out.Error()
}

func digits(n int64) string { return strconv.FormatInt(n, 10) }
