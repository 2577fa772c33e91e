package views

import (
	"strconv"
	"strings"
	"time"

	"github.com/shopspring/decimal"
)

// Money writes US dollars to be read at a glance: from one dollar on with two
// decimals ("$1,234.57"), below with up to six significant digits and at least
// two decimals ("$0.001934"). MoneyExact has all digits.
func Money(d decimal.Decimal) string {
	abs := d.Abs()
	if abs.IsZero() || abs.GreaterThanOrEqual(decimal.NewFromInt(1)) {
		return dollars(d.Round(2))
	}
	// The first significant digit of 0.00ddd stands at decimal place 3, which
	// is what exponent and number of digits add up to.
	first := -(int32(len(abs.Coefficient().String())) + abs.Exponent()) + 1
	return dollars(d.Round(first + 5))
}

// moneyPart is Money beside the sum it is a part of: where the sum is shown in
// cents, so are its parts.
func moneyPart(d, whole decimal.Decimal) string {
	cent := decimal.New(1, -2)
	switch {
	case whole.LessThan(decimal.NewFromInt(1)) || d.IsZero():
		return Money(d)
	case d.LessThan(cent):
		return "<$0.01"
	default:
		return dollars(d.Round(2))
	}
}

// MoneyExact writes US dollars with every digit there is and at least two
// decimals.
func MoneyExact(d decimal.Decimal) string { return dollars(d) }

func dollars(d decimal.Decimal) string {
	sign := ""
	if d.IsNegative() {
		sign = "−"
	}
	whole, fraction, _ := strings.Cut(d.Abs().String(), ".")
	if len(fraction) < 2 {
		fraction += strings.Repeat("0", 2-len(fraction))
	}
	return sign + "$" + group(whole) + "." + fraction
}

// Count writes a whole number in groups of three: "12,345".
func Count(n int64) string {
	if n < 0 {
		return "−" + group(strconv.FormatInt(n, 10)[1:])
	}
	return group(strconv.FormatInt(n, 10))
}

// CountShort writes a large number in at most four digits: "12.3K", "1.25M".
// Below ten thousand it is Count.
func CountShort(n int64) string {
	if n < 10_000 {
		return Count(n)
	}
	value, unit := float64(n), ""
	for _, unit = range []string{"K", "M", "B", "T"} {
		if value /= 1000; value < 999.5 {
			break
		}
	}
	return strconv.FormatFloat(value, 'f', decimalsFor(value), 64) + unit
}

// decimalsFor leaves three significant digits.
func decimalsFor(value float64) int {
	switch {
	case value >= 99.95:
		return 0
	case value >= 9.995:
		return 1
	default:
		return 2
	}
}

// Percent writes part of whole with one decimal: "12.3%". It is a dash when
// there is no whole, and never rounds something to nothing or to everything.
func Percent(part, whole int64) string {
	if whole <= 0 {
		return "–"
	}
	return percent(float64(part) / float64(whole) * 100)
}

// PercentOf is Percent for money.
func PercentOf(part, whole decimal.Decimal) string {
	if !whole.IsPositive() {
		return "–"
	}
	return percent(part.Div(whole).InexactFloat64() * 100)
}

func percent(p float64) string {
	switch {
	case p == 0:
		return "0%"
	case p == 100:
		return "100%"
	case p < 0.05:
		return "<0.1%"
	case p > 99.9 && p < 100:
		return ">99.9%"
	default:
		return strconv.FormatFloat(p, 'f', 1, 64) + "%"
	}
}

// Milliseconds writes a duration: "412 ms", "1.83 s", "2 min 5 s". Below zero
// it is a dash: nothing was measured.
func Milliseconds(ms int64) string {
	switch {
	case ms < 0:
		return "–"
	case ms < 1000:
		return strconv.FormatInt(ms, 10) + " ms"
	case ms < 60_000:
		return strconv.FormatFloat(float64(ms)/1000, 'f', 2, 64) + " s"
	default:
		return Count(ms/60_000) + " min " + strconv.FormatInt(ms%60_000/1000, 10) + " s"
	}
}

// Moment is a time to be read: in the zone of whoever looks, in UTC on hover.
type Moment struct {
	Local   string // "24 Nov 2026, 13:00 CET"
	UTC     string // "24 Nov 2026, 12:00:00 UTC"
	Machine string // "2026-11-24T12:00:00Z"
}

// MomentOf writes a time for somebody in a zone.
func MomentOf(at time.Time, zone *time.Location) Moment {
	utc := at.UTC()
	return Moment{
		Local: at.In(zone).Format("2 Jan 2006, 15:04 MST"), UTC: utc.Format("2 Jan 2006, 15:04:05") + " UTC",
		Machine: utc.Format(time.RFC3339),
	}
}

// ShortMomentOf is MomentOf for a column of times, above which the zone stands:
// "24 Nov, 13:00".
func ShortMomentOf(at time.Time, zone *time.Location) Moment {
	m := MomentOf(at, zone)
	m.Local = at.In(zone).Format("2 Jan, 15:04")
	return m
}

// DayRange writes the days from first to last, both included, as short as it
// is clear: "25 Oct – 23 Nov 2026".
func DayRange(first, last time.Time) string {
	end := last.Format("2 Jan 2006")
	switch {
	case first.Format(time.DateOnly) == last.Format(time.DateOnly):
		return end
	case first.Year() != last.Year():
		return first.Format("2 Jan 2006") + " – " + end
	case first.Month() != last.Month():
		return first.Format("2 Jan") + " – " + end
	default:
		return first.Format("2") + " – " + end
	}
}

// group puts a comma between every three digits.
func group(digits string) string {
	if len(digits) <= 3 {
		return digits
	}
	var b strings.Builder
	for i, r := range digits {
		if i > 0 && (len(digits)-i)%3 == 0 {
			b.WriteByte(',')
		}
		b.WriteRune(r)
	}
	return b.String()
}

// Amount is money in a column: the part that people read, the digits after the
// cents, and as many zeros as keep the decimal points of the column in line.
type Amount struct {
	Main string // "$0.00"; "" means that nothing could be priced
	Rest string // "1934"
	Pad  string // "00": shown to nobody
}

// Amounts lays out a column of money. A nil cost is one that nobody knows.
func Amounts(costs []*decimal.Decimal) []Amount {
	amounts := make([]Amount, len(costs))
	longest := 0
	for i, cost := range costs {
		if cost == nil {
			continue
		}
		exact := MoneyExact(*cost)
		cents := strings.IndexByte(exact, '.') + 3
		amounts[i] = Amount{Main: exact[:cents], Rest: exact[cents:]}
		longest = max(longest, len(exact)-cents)
	}
	for i := range amounts {
		amounts[i].Pad = strings.Repeat("0", longest-len(amounts[i].Rest))
	}
	return amounts
}

// countOf writes how many there are: "1 model", "1,234 models".
func countOf(n int, one, many string) string {
	if n == 1 {
		return "1 " + one
	}
	return Count(int64(n)) + " " + many
}
