package price

import (
	_ "embed"
	"encoding/csv"
	"fmt"
	"strconv"
	"strings"
	"time"
)

//go:embed prices.tsv
var pricesTSV string

// seedPrices returns the list prices the program comes with.
//
// Providers rarely publish what cache writes cost above a tier. Where the table
// does not say, a tier's cache write keeps its ratio to the input price, as in
// every case that is published.
func seedPrices() ([]Price, error) {
	r := csv.NewReader(strings.NewReader(pricesTSV))
	r.Comma, r.Comment = '\t', '#'
	records, err := r.ReadAll()
	if err != nil {
		return nil, fmt.Errorf("prices.tsv: %w", err)
	}
	columns := records[0]
	var prices []Price
	for _, record := range records[1:] {
		row := seedRow{cells: map[string]string{}}
		for i, column := range columns {
			row.cells[column] = record[i]
		}
		p := row.price()
		if row.err != nil {
			return nil, fmt.Errorf("prices.tsv: %s/%s: %w", p.Provider, p.Model, row.err)
		}
		prices = append(prices, p)
	}
	return prices, nil
}

// seedRow reads the cells of one row and keeps the first error.
type seedRow struct {
	cells map[string]string
	err   error
}

func (r *seedRow) price() Price {
	p := Price{
		Provider:             r.cells["provider"],
		Model:                r.cells["model"],
		Input:                r.requiredUSD("input"),
		Output:               r.requiredUSD("output"),
		CacheRead:            r.usd("cache_read"),
		CacheWrite5m:         r.usd("cache_write_5m"),
		CacheWrite1h:         r.usd("cache_write_1h"),
		TierAboveInputTokens: r.int("tier_above_input_tokens"),
		TierInput:            r.usd("tier_input"),
		TierOutput:           r.usd("tier_output"),
		TierCacheRead:        r.usd("tier_cache_read"),
		TierCacheWrite5m:     r.usd("tier_cache_write_5m"),
		TierCacheWrite1h:     r.usd("tier_cache_write_1h"),
		ContextWindow:        r.int("context_window"),
		EffectiveFrom:        r.date("effective_from"),
		EffectiveTo:          r.date("effective_to"),
		Source:               r.cells["source"],
		SourceDate:           r.date("source_date"),
		Note:                 r.cells["note"],
	}
	if from, to, ok := strings.Cut(r.cells["daily_utc"], "-"); ok {
		p.DailyFrom, p.DailyTo = r.timeOfDay(from), r.timeOfDay(to)
	}
	if p.TierInput != nil {
		if p.TierCacheWrite5m == nil {
			p.TierCacheWrite5m = inTier(p, p.CacheWrite5m)
		}
		if p.TierCacheWrite1h == nil {
			p.TierCacheWrite1h = inTier(p, p.CacheWrite1h)
		}
	}
	return p
}

// inTier returns the rate as it is in p's tier if it keeps its ratio to the
// input price.
func inTier(p Price, rate *USD) *USD {
	if rate == nil {
		return nil
	}
	return &USD{rate.amount.Mul(p.TierInput.amount).Div(p.Input.amount)}
}

func (r *seedRow) fail(err error) {
	if r.err == nil {
		r.err = err
	}
}

func (r *seedRow) requiredUSD(column string) USD {
	rate := r.usd(column)
	if rate == nil {
		r.fail(fmt.Errorf("%s is missing", column))
		return USD{}
	}
	return *rate
}

func (r *seedRow) usd(column string) *USD {
	if r.cells[column] == "" {
		return nil
	}
	rate, err := ParseUSD(r.cells[column])
	if err != nil {
		r.fail(fmt.Errorf("%s: %w", column, err))
	}
	return &rate
}

func (r *seedRow) int(column string) *int64 {
	if r.cells[column] == "" {
		return nil
	}
	n, err := strconv.ParseInt(r.cells[column], 10, 64)
	if err != nil {
		r.fail(fmt.Errorf("%s: %w", column, err))
	}
	return &n
}

func (r *seedRow) date(column string) *time.Time {
	if r.cells[column] == "" {
		return nil
	}
	day, err := time.Parse(time.DateOnly, r.cells[column])
	if err != nil {
		r.fail(fmt.Errorf("%s: %w", column, err))
	}
	return &day
}

func (r *seedRow) timeOfDay(s string) *time.Duration {
	t, err := time.Parse("15:04", s)
	if err != nil {
		r.fail(fmt.Errorf("daily_utc: %w", err))
	}
	sinceMidnight := time.Duration(t.Hour())*time.Hour + time.Duration(t.Minute())*time.Minute
	return &sinceMidnight
}
