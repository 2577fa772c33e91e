package usage

import (
	"encoding/binary"
	"iter"
	"math"
	"slices"

	"github.com/shopspring/decimal"

	"github.com/promptcademy/promptops/internal/price"
	"github.com/promptcademy/promptops/internal/rollup"
)

// answer is cells written down: in a quarter of the room that they take, and as one
// thing in place of very many that the garbage collector would have to look at.
type answer string

func answerOf(cells []Cell) answer {
	var text []byte
	columns := measures()
	for i := range cells {
		c := &cells[i]
		text = binary.AppendUvarint(text, uint64(c.Bucket))
		text = appendText(text, c.Grp)
		text = appendText(text, c.Sub)
		text = appendText(text, string(rollup.Repack(c.Latency)))
		text = appendText(text, string(rollup.Repack(c.FirstToken)))
		there := uint64(0) // which columns are not 0
		for bit, m := range columns {
			if m.count != nil && *m.count(c) != 0 || m.money != nil && !m.money(c).IsZero() {
				there |= 1 << bit
			}
		}
		text = binary.AppendUvarint(text, there)
		for bit, m := range columns {
			switch {
			case there&(1<<bit) == 0:
			case m.count != nil:
				text = binary.AppendVarint(text, *m.count(c))
			default:
				text = appendMoney(text, m.money(c).Decimal())
			}
		}
	}
	return answer(text)
}

func appendText(to []byte, text string) []byte {
	return append(binary.AppendUvarint(to, uint64(len(text))), text...)
}

// appendMoney writes an amount with all its digits; most of them with as many, since
// such are quick to add and to compare.
func appendMoney(to []byte, amount decimal.Decimal) []byte {
	digits, exponent := amount.Coefficient(), amount.Exponent()
	if !digits.IsInt64() {
		return appendText(append(binary.AppendVarint(to, int64(exponent)), 1), digits.String())
	}
	n := digits.Int64()
	for ; exponent > -usualDigits && n < math.MaxInt64/10 && n > math.MinInt64/10; exponent-- {
		n *= 10
	}
	return binary.AppendVarint(append(binary.AppendVarint(to, int64(exponent)), 0), n)
}

// usualDigits are those that amounts have after the point.
const usualDigits = 12

// about is how many cells there may be: a learner's takes so many bytes.
func (a answer) about() int { return len(a) / 64 }

// all are the cells.
func (a answer) all() iter.Seq[Cell] {
	return func(yield func(Cell) bool) {
		columns := measures()
		for left := (reading{string(a)}); left.text != ""; {
			if !yield(left.cell(columns)) {
				return
			}
		}
	}
}

// first are the first cells of groups, so many that are not among others, and all
// that are; left is how many more there are.
func (a answer) first(most int, others map[string]bool) (some iter.Seq[Cell], left int) {
	var cells []Cell
	columns := measures()
	for rest := (reading{string(a)}); rest.text != ""; {
		next := rest
		next.number()
		other := others[next.part()]
		if !other && most == 0 {
			rest.skip(columns)
			left++
			continue
		}
		if cells = append(cells, rest.cell(columns)); !other {
			most--
		}
	}
	return slices.Values(cells), left
}

// reading is what is left to read of an answer.
type reading struct{ text string }

func (r *reading) cell(columns []measure) Cell {
	c := Cell{Bucket: int32(r.number()), Grp: r.part(), Sub: r.part(), Latency: []byte(r.part()), FirstToken: []byte(r.part())}
	there := r.number()
	for bit, m := range columns {
		switch {
		case there&(1<<bit) == 0:
		case m.count != nil:
			*m.count(&c) = r.signed()
		default:
			*m.money(&c) = r.money()
		}
	}
	return c
}

// skip passes over a cell.
func (r *reading) skip(columns []measure) {
	r.number()
	for range 4 {
		r.part()
	}
	there := r.number()
	for bit, m := range columns {
		switch {
		case there&(1<<bit) == 0:
		case m.count != nil:
			r.number()
		default:
			r.number()
			if r.number() == 0 {
				r.number()
			} else {
				r.part()
			}
		}
	}
}

func (r *reading) number() (n uint64) {
	for shift := 0; ; shift += 7 {
		b := r.text[0]
		r.text = r.text[1:]
		n |= uint64(b&0x7f) << shift
		if b < 0x80 {
			return n
		}
	}
}

func (r *reading) signed() int64 {
	n := r.number()
	return int64(n>>1) ^ -int64(n&1)
}

func (r *reading) part() string {
	n := r.number()
	part := r.text[:n]
	r.text = r.text[n:]
	return part
}

func (r *reading) money() price.USD {
	exponent := int32(r.signed())
	if r.number() == 0 {
		return price.NewUSD(decimal.New(r.signed(), exponent))
	}
	digits, _ := decimal.NewFromString(r.part()) // an integer, written above
	return price.NewUSD(digits.Shift(exponent))
}
