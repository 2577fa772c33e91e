package runbook

import (
	"slices"
	"strings"
)

// Line is one line of a comparison.
type Line struct {
	Kind byte // ' ' in both, '-' only in the old text, '+' only in the new one
	Text string
}

// Diff compares two texts line by line.
func Diff(before, after string) []Line {
	a, b := linesOf(before), linesOf(after)
	var lines []Line
	i, j := 0, 0
	for _, m := range append(matches(a, b), match{len(a), len(b)}) {
		for ; i < m.a; i++ {
			lines = append(lines, Line{'-', a[i]})
		}
		for ; j < m.b; j++ {
			lines = append(lines, Line{'+', b[j]})
		}
		if i < len(a) {
			lines = append(lines, Line{' ', a[i]})
		}
		i, j = i+1, j+1
	}
	return lines
}

// Merge takes what two people made of one text and returns a text with the
// changes of both. ok is false when they changed the same lines, or lines that
// touch: then a person has to decide.
func Merge(base, mine, theirs string) (merged string, ok bool) {
	switch {
	case mine == theirs || base == theirs:
		return mine, true
	case base == mine:
		return theirs, true
	}
	o, a, b := linesOf(base), linesOf(mine), linesOf(theirs)
	inMine, inTheirs := partners(o, a), partners(o, b)
	var out []string
	from, fromA, fromB := 0, 0, 0
	// Between two lines that all three have, at most one side may have changed
	// something.
	for i := 0; i <= len(o); i++ {
		atA, atB := len(a), len(b)
		if i < len(o) {
			if atA, atB = inMine[i], inTheirs[i]; atA < 0 || atB < 0 {
				continue
			}
		}
		was, mineNow, theirsNow := o[from:i], a[fromA:atA], b[fromB:atB]
		switch {
		case slices.Equal(mineNow, theirsNow), slices.Equal(was, theirsNow):
			out = append(out, mineNow...)
		case slices.Equal(was, mineNow):
			out = append(out, theirsNow...)
		default:
			return "", false
		}
		if i < len(o) {
			out = append(out, o[i])
		}
		from, fromA, fromB = i+1, atA+1, atB+1
	}
	return strings.Join(out, "\n") + "\n", true
}

func linesOf(text string) []string {
	text = strings.TrimSuffix(text, "\n")
	if text == "" {
		return nil
	}
	return strings.Split(text, "\n")
}

// partners says for each line of a which one of b it is, -1 for none.
func partners(a, b []string) []int {
	found := make([]int, len(a))
	for i := range found {
		found[i] = -1
	}
	for _, m := range matches(a, b) {
		found[m.a] = m.b
	}
	return found
}

type match struct{ a, b int }

// matches is a longest common subsequence of two texts of at most MaxLines.
func matches(a, b []string) []match {
	var found []match
	begin := 0
	for begin < len(a) && begin < len(b) && a[begin] == b[begin] {
		found = append(found, match{begin, begin})
		begin++
	}
	endA, endB := len(a), len(b)
	for endA > begin && endB > begin && a[endA-1] == b[endB-1] {
		endA, endB = endA-1, endB-1
	}
	rows, columns := endA-begin, endB-begin
	longest := make([][]uint16, rows+1) // from here to the end
	for i := range longest {
		longest[i] = make([]uint16, columns+1)
	}
	for i := rows - 1; i >= 0; i-- {
		for j := columns - 1; j >= 0; j-- {
			if a[begin+i] == b[begin+j] {
				longest[i][j] = longest[i+1][j+1] + 1
			} else {
				longest[i][j] = max(longest[i+1][j], longest[i][j+1])
			}
		}
	}
	for i, j := 0, 0; i < rows && j < columns; {
		switch {
		case a[begin+i] == b[begin+j]:
			found = append(found, match{begin + i, begin + j})
			i, j = i+1, j+1
		case longest[i+1][j] >= longest[i][j+1]:
			i++
		default:
			j++
		}
	}
	for ; endA < len(a); endA, endB = endA+1, endB+1 {
		found = append(found, match{endA, endB})
	}
	return found
}
