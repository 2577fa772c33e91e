// Package drift compares who may do what in the database with what the migrations
// make: roles, grants, row-level security, policies, triggers and functions. What
// it finds comes with the SQL that would mend it, which people run and not the
// program. It also tries out what learners may do (matrix.go) and keeps count of
// statements of ours that were refused (denials.go).
//
// What is expected is a snapshot of a database to which only the migrations were
// applied. A test makes it and fails while it is not what the migrations make. It is
// part of the program, and no scratch database is made to compare with, so that a
// check is a few reads that need no right to create databases, put no load on the
// server and can be asked for by a page.
package drift

import (
	_ "embed"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"
)

// Fact is one thing that decides who may do what.
type Fact struct {
	Kind   string   `json:"kind"`             // role, membership, function, table, sequence, rule, trigger, policy, grant, exposed
	Object string   `json:"object"`           // what it is about: public.teams, ops.led_team_ids()
	Name   string   `json:"name,omitempty"`   // which one of several: a policy's name, "select to anon"
	Parent string   `json:"parent,omitempty"` // of a partition, the table that it is a part of
	Parts  []string `json:"parts,omitempty"`  // what is compared: "to: authenticated"
	Make   string   `json:"make,omitempty"`   // SQL that makes it as it is
	Drop   string   `json:"drop,omitempty"`   // SQL that makes it go
}

type identity struct{ kind, object, name string }

func (f Fact) identity() identity { return identity{f.Kind, f.Object, f.Name} }

// part is one of Parts without its label; "" where there is none.
func (f Fact) part(label string) string {
	for _, part := range f.Parts {
		if value, ok := strings.CutPrefix(part, label+": "); ok {
			return value
		}
	}
	return ""
}

func (f Fact) text() string { return strings.Join(f.Parts, "\n") }

// alone is the text of a fact that there is nothing to compare with.
func (f Fact) alone() string {
	if f.Kind == "grant" && f.part("may grant it to others") == "no" {
		return f.Name
	}
	return f.text()
}

// title says in words what a fact is.
func (f Fact) title() string {
	switch f.Kind {
	case "grant":
		return "grant " + f.Name
	case "membership":
		return "membership of role " + f.Object + " in " + f.Name
	case "policy", "trigger", "rule":
		return f.Kind + " " + f.Name + " on " + f.Object
	case "exposed":
		return f.Name + " " + f.Object
	}
	return f.Kind + " " + f.Object
}

// Snapshot is a database as far as it decides who may do what.
type Snapshot struct {
	Versions []int64 // of the migrations that were applied
	Facts    []Fact
	Watched  bool // changes of accounts are noticed: our triggers are on auth.users
}

//go:embed expected.json
var expected []byte

// Expected is what the migrations of this program make.
func Expected() (Snapshot, error) {
	var s Snapshot
	if err := json.Unmarshal(expected, &s); err != nil {
		return s, fmt.Errorf("the snapshot of what migrations make: %w", err)
	}
	return s, nil
}

// encode writes a snapshot with a line for every fact, so that a change of the
// migrations shows as a change of lines.
func (s Snapshot) encode() ([]byte, error) {
	var b strings.Builder
	versions, err := json.Marshal(s.Versions)
	if err != nil {
		return nil, err
	}
	fmt.Fprintf(&b, "{\"Watched\": %t, \"Versions\": %s, \"Facts\": [\n", s.Watched, versions)
	for i, fact := range s.Facts {
		line, err := json.Marshal(fact)
		if err != nil {
			return nil, err
		}
		b.Write(line)
		if i < len(s.Facts)-1 {
			b.WriteByte(',')
		}
		b.WriteByte('\n')
	}
	b.WriteString("]}\n")
	return []byte(b.String()), nil
}

// Kind says in which way something drifted.
type Kind string

// The kinds of differences.
const (
	Missing    Kind = "missing"
	Unexpected Kind = "unexpected"
	Different  Kind = "different"
)

// Severity says how bad a difference is.
type Severity string

// Critical is what lets somebody do more than they should, or runs what nobody
// here wrote. A warning is what keeps somebody from what they should be able to.
const (
	Critical Severity = "critical"
	Warning  Severity = "warning"
)

// Difference is one thing that is not as the migrations make it.
type Difference struct {
	Object   string   `json:"object"` // "policy teams_select on public.teams"
	Kind     Kind     `json:"kind"`
	Severity Severity `json:"severity"`
	Expected string   `json:"expected"` // "" where nothing is
	Got      string   `json:"got"`      // "" where there is nothing
	Why      string   `json:"why"`      // one sentence: what it means
	SQL      string   `json:"sql"`      // would mend it
	Ours     bool     `json:"ours"`     // false: something else in schema public
	rank     int
}

// Result is what a check found.
type Result struct {
	CheckedAt   time.Time    `json:"checkedAt"`
	Facts       int          `json:"compared"` // how many things are as they are expected, or not
	Differences []Difference `json:"differences"`
}

// Critical is how many differences are critical.
func (r Result) Critical() int {
	n := 0
	for _, d := range r.Differences {
		if d.Severity == Critical {
			n++
		}
	}
	return n
}

// Script is the SQL that would mend everything, in an order in which it works.
func (r Result) Script() string {
	ordered := slices.Clone(r.Differences)
	slices.SortStableFunc(ordered, func(a, b Difference) int { return a.rank - b.rank })
	var lines []string
	for _, d := range ordered {
		lines = append(lines, d.SQL)
	}
	return strings.Join(lines, "\n")
}
