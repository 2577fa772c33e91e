package views

// DriftPage says whether the database lets everybody do what the migrations say, and
// which statements of ours it refused.
type DriftPage struct {
	Page
	Problem     string // why it could not be compared; "" when it was
	CheckedAt   Moment
	Compared    string // "184"
	Critical    string // how many of the differences; "0"
	Differences []Difference
	Script      string     // SQL that would mend all of them
	Errors      []RLSError // of the last 24 hours
	TryProblem  string
	Tried       *TriedRLS // nil: nobody has asked for it
}

// Difference is one thing that is not as the migrations make it.
type Difference struct {
	ID       string // "difference-1"
	Title    string // "policy teams_select on public.teams"
	Kind     string // "missing", "unexpected" or "different"
	Critical bool
	Foreign  bool // not one of our tables
	Why      string
	Lines    []DriftLine
	SQL      string
}

// DriftLine is a line of what is expected ("-"), of what is there ("+") or of both
// (" ").
type DriftLine struct{ Sign, Text string }

// RLSError is all refused statements of one kind.
type RLSError struct {
	Message string
	Reason  string // in words: what is missing
	Policy  string // where Postgres named it
	Role    string
	Route   string
	Hint    string
	N       string
	Recent  string // in the last minutes; "" for none
	First   Moment
	Last    Moment
}

// TriedRLS is what came of acting as learners.
type TriedRLS struct {
	Actors []string
	Rows   []TriedRow
	Tries  string
	Wrong  string // "" for none
	Closed string // how many of our own tables were closed to all, which are not listed
}

// TriedRow is a table and a verb.
type TriedRow struct {
	Table, Verb string
	Cells       []TriedCell
}

// TriedCell is what somebody could do; Expected is set where that is wrong.
type TriedCell struct{ Got, Expected string }

func (l DriftLine) class() string {
	switch l.Sign {
	case "-":
		return "diff-gone"
	case "+":
		return "diff-new"
	}
	return ""
}

// spoken is a line's sign for who does not see it.
func (l DriftLine) spoken() string {
	switch l.Sign {
	case "-":
		return "expected: "
	case "+":
		return "found: "
	}
	return ""
}

// differs is the kind of a difference in words.
func (d Difference) differs() string {
	switch d.Kind {
	case "missing":
		return "Is missing"
	case "unexpected":
		return "Should not be there"
	}
	return "Is different"
}
