package usage_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/promptcademy/promptops/internal/price"
	"github.com/promptcademy/promptops/internal/usage"
)

func TestMovers(t *testing.T) {
	costs := func(lines string) map[string]price.USD {
		all := map[string]price.USD{}
		for line := range strings.FieldsSeq(lines) {
			part, amount, _ := strings.Cut(line, "=")
			usd, err := price.ParseUSD(amount)
			if err != nil {
				t.Fatal(err)
			}
			all[part] = usd
		}
		return all
	}
	written := func(movers []usage.Mover) string {
		var all []string
		for _, m := range movers {
			text := m.Part + m.Change().String()
			if m.New() {
				text += "!"
			}
			all = append(all, text)
		}
		return strings.Join(all, " ")
	}
	for name, c := range map[string]struct{ before, after, up, down string }{
		"nothing at all":             {"", "", "", ""},
		"the same":                   {"a=1 b=2.50", "a=1.00 b=2.5", "", ""},
		"largest first":              {"a=1 b=1 c=9 d=9", "a=2 b=3 c=8 d=1", "b2 a1", "d-8 c-1"},
		"new and gone":               {"a=1 z=0", "b=2", "b2!", "a-1"},
		"equal ones by name":         {"", "b=1 a=1", "a1! b1!", ""},
		"no more than five":          {"", "a=1 b=2 c=3 d=4 e=5 f=6", "f6! e5! d4! c3! b2!", ""},
		"exact":                      {"a=0.1 b=0.3", "a=0.3 b=0.3000000000000000000001", "a0.2 b0.0000000000000000000001", ""},
		"what has no name is a part": {"=1", "=3", "2", ""},
	} {
		up, down := usage.Movers(costs(c.before), costs(c.after))
		if written(up) != c.up || written(down) != c.down {
			t.Errorf("%s: up %q, down %q, want %q and %q", name, written(up), written(down), c.up, c.down)
		}
	}
	many := map[string]price.USD{}
	for i := range 20000 {
		many[fmt.Sprint(i)] = price.USD{}
	}
	if up, down := usage.Movers(nil, many); len(up)+len(down) > 0 {
		t.Error("what never cost anything moved")
	}
}
