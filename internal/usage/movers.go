package usage

import (
	"cmp"
	"slices"

	"github.com/promptcademy/promptops/internal/price"
)

// MostMovers is how many parts that rose and how many that fell are worth a line.
const MostMovers = 5

// Mover is a part of the usage, a model or a team say, that cost more or less than
// before.
type Mover struct {
	Part          string // what stands for it in a filter; "" is what has none
	Before, After price.USD
}

// Change is how much more it cost; negative: less.
func (m Mover) Change() price.USD { return m.After.Sub(m.Before) }

// New says whether it cost nothing before.
func (m Mover) New() bool { return m.Before.IsZero() }

// Movers are the parts that cost most more and most less than before, the largest
// change first; equal ones by name. What did not change is in neither.
func Movers(before, after map[string]price.USD) (up, down []Mover) {
	for part, cost := range after {
		m := Mover{Part: part, Before: before[part], After: cost}
		switch m.Change().Cmp(price.USD{}) {
		case 1:
			up = append(up, m)
		case -1:
			down = append(down, m)
		}
	}
	for part, cost := range before {
		if _, still := after[part]; !still && !cost.IsZero() {
			down = append(down, Mover{Part: part, Before: cost})
		}
	}
	largest := func(sign int) func(a, b Mover) int {
		return func(a, b Mover) int { return cmp.Or(-sign*a.Change().Cmp(b.Change()), cmp.Compare(a.Part, b.Part)) }
	}
	slices.SortFunc(up, largest(1))
	slices.SortFunc(down, largest(-1))
	return up[:min(len(up), MostMovers)], down[:min(len(down), MostMovers)]
}
