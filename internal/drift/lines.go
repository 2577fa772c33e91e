package drift

import "strings"

// Line is a line of a difference: "-" is expected and not there, "+" is there and not
// expected, " " is both.
type Line struct{ Sign, Text string }

// Lines writes out what is expected and what is there as one text.
func (d Difference) Lines() []Line { return lines(split(d.Expected), split(d.Got)) }

func split(text string) []string {
	if text == "" {
		return nil
	}
	return strings.Split(strings.TrimRight(text, "\n"), "\n")
}

// lines keeps the most lines that both have, in their order. Texts are short: a
// function's body at most.
func lines(want, got []string) (all []Line) {
	common := make([][]int, len(want)+1) // of want[i:] and got[j:]
	for i := range common {
		common[i] = make([]int, len(got)+1)
	}
	for i := len(want) - 1; i >= 0; i-- {
		for j := len(got) - 1; j >= 0; j-- {
			if want[i] == got[j] {
				common[i][j] = common[i+1][j+1] + 1
			} else {
				common[i][j] = max(common[i+1][j], common[i][j+1])
			}
		}
	}
	i, j := 0, 0
	for i < len(want) || j < len(got) {
		switch {
		case i < len(want) && j < len(got) && want[i] == got[j]:
			all = append(all, Line{" ", want[i]})
			i, j = i+1, j+1
		case j == len(got) || i < len(want) && common[i+1][j] >= common[i][j+1]:
			all = append(all, Line{"-", want[i]})
			i++
		default:
			all = append(all, Line{"+", got[j]})
			j++
		}
	}
	return all
}
