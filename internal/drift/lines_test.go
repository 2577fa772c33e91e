package drift

import (
	"strings"
	"testing"
)

func TestLines(t *testing.T) {
	for _, c := range []struct{ want, got, lines string }{
		{"", "", ""},
		{"a\nb", "", "-a -b"},
		{"", "a\n", "+a"},
		{"a\nb\nc", "a\nx\nc", " a -b +x  c"},
		{"a\nb\nc\n", "b\nc\nd", "-a  b  c +d"},
		{"a\na\nb", "a\nb\nb", " a -a  b +b"},
	} {
		var all []string
		for _, line := range (Difference{Expected: c.want, Got: c.got}).Lines() {
			all = append(all, line.Sign+line.Text)
		}
		if got := strings.Join(all, " "); got != c.lines {
			t.Errorf("%q and %q: %q, want %q", c.want, c.got, got, c.lines)
		}
	}
}
