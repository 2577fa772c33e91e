package price

import (
	"io"
	"time"

	"github.com/promptcademy/promptops/internal/sheet"
)

// WriteCSV writes entries, a line each. What is not known is empty, not 0.
func WriteCSV(w io.Writer, entries []Entry) error {
	out := sheet.New(w, "provider", "model", "input", "output", "cache_read", "cache_write_5m", "cache_write_1h",
		"tier_above_input_tokens", "tier_input", "tier_output", "tier_cache_read", "tier_cache_write_5m", "tier_cache_write_1h",
		"effective_from", "effective_to", "daily_from_utc", "daily_to_utc", "source", "source_date", "note", "set_by")
	for _, e := range entries {
		values := e.Values(time.UTC)
		out.Row(e.Provider, e.Model, e.Input, e.Output, known(e.CacheRead), known(e.CacheWrite5m), known(e.CacheWrite1h),
			values.Get("tierAbove"), known(e.TierInput), known(e.TierOutput), known(e.TierCacheRead), known(e.TierCacheWrite5m), known(e.TierCacheWrite1h),
			stamp(e.EffectiveFrom), stamp(e.EffectiveTo), values.Get("dailyFrom"), values.Get("dailyTo"), e.Source, values.Get("sourceDate"), e.Note, e.CreatedBy)
	}
	return out.End()
}

func known(amount *USD) any {
	if amount == nil {
		return nil
	}
	return *amount
}

func stamp(at *time.Time) string {
	if at == nil {
		return ""
	}
	return at.UTC().Format(time.RFC3339)
}
