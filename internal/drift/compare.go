package drift

import (
	"cmp"
	"slices"
	"strings"
)

// ranks is the order in which things are mended: functions before the triggers and
// policies that call them.
var ranks = map[string]int{"role": 1, "membership": 2, "function": 3, "table": 4, "rule": 5, "trigger": 6, "policy": 7, "grant": 8, "exposed": 9}

// compare lists what is not as it is expected, the worst first.
func compare(want, got Snapshot) []Difference {
	expected, found := index(want.Facts), index(got.Facts)
	ours := map[string]bool{}
	for _, f := range want.Facts {
		switch f.Kind {
		case "table", "sequence", "function":
			ours[f.Object] = true
		}
	}
	gone := func(f Fact) bool { // with what it is about, which is reported
		table, isTable := expected[identity{"table", f.Object, ""}]
		_, is := found[identity{"table", f.Object, ""}]
		function, isFunction := expected[identity{"function", f.Object, ""}]
		_, isThere := found[identity{"function", f.Object, ""}]
		return isTable && !is && f.identity() != table.identity() || isFunction && !isThere && f.identity() != function.identity()
	}

	differences := []Difference{}
	for _, f := range want.Facts {
		if _, there := found[f.identity()]; there || f.Kind == "sequence" || gone(f) {
			continue
		}
		if f.Object == "auth.users" && !got.Watched {
			continue // the table is somebody else's and does not take our triggers
		}
		differences = append(differences, missing(f, want))
	}
	for _, f := range got.Facts {
		e, known := expected[f.identity()]
		if !known && f.Parent != "" && ours[f.Parent] {
			e, known = follower(f)
		}
		switch {
		case known && e.text() != f.text():
			differences = append(differences, different(e, f))
		case known, f.Kind == "sequence":
		case f.Kind == "exposed":
			if !ours[f.Object] && !ours[f.Parent] {
				differences = append(differences, unexpected(f, want))
			}
		case strings.HasPrefix(f.Object, "public.") && !ours[f.Object] && !ours[f.Parent] && !partition(f.Object, got, ours):
			// Somebody else's.
		case f.Kind == "grant" && unknownFunction(f.Object, expected, found):
			// It goes with the function, which is reported.
		default:
			differences = append(differences, unexpected(f, want))
		}
	}
	slices.SortStableFunc(differences, func(a, b Difference) int {
		return cmp.Or(cmp.Compare(a.Severity, b.Severity), a.rank-b.rank, cmp.Compare(a.Object, b.Object)) // critical < warning
	})
	return differences
}

func index(facts []Fact) map[identity]Fact {
	m := make(map[identity]Fact, len(facts))
	for _, f := range facts {
		m[f.identity()] = f
	}
	return m
}

func partition(object string, got Snapshot, ours map[string]bool) bool {
	return slices.ContainsFunc(got.Facts, func(f Fact) bool { return f.Kind == "table" && f.Object == object && ours[f.Parent] })
}

func unknownFunction(object string, expected, found map[identity]Fact) bool {
	_, known := expected[identity{"function", object, ""}]
	_, is := found[identity{"function", object, ""}]
	return is && !known
}

// follower is what a partition of a table of ours is expected to be: closed, since
// its rows are reached through the table, with the triggers of the table.
func follower(f Fact) (Fact, bool) {
	switch f.Kind {
	case "table":
		f.Parts = []string{"kind: table", "row-level security: off", "also for the owner: no", "owner: the program"}
	case "trigger":
		f.Parts = slices.Concat([]string{"enabled: yes"}, f.Parts[1:])
	default:
		return Fact{}, false
	}
	return f, true
}

func missing(f Fact, want Snapshot) Difference {
	d := Difference{Object: f.title(), Kind: Missing, Severity: Warning, Expected: f.alone(), SQL: f.Make, Ours: true, rank: ranks[f.Kind]}
	switch f.Kind {
	case "table":
		d.SQL = "-- " + f.Object + " is gone with its rows. Restore it from a backup, then check again."
		d.Why = "The table is gone, and with it its rows, policies and grants."
	case "function":
		// A new function can be called by everybody.
		d.SQL += "\nrevoke all on function " + f.Object + " from public, anon, authenticated, service_role;"
		for _, g := range want.Facts {
			if g.Kind == "grant" && g.Object == f.Object {
				d.SQL += "\n" + g.Make
			}
		}
		d.Why = "What calls it fails: policies and triggers, and so whole queries."
	case "role":
		d.SQL = "create role " + f.Object + " nologin;"
		d.Why = "The role of the Data API is gone."
	case "trigger":
		d.Why = "Changes of this table are no longer noticed."
		if enabled := f.part("enabled"); enabled != "yes" {
			d.SQL += "\n" + setTrigger(f, enabled)
		}
	case "policy":
		d.Why = "Rows that it showed, or let be changed, are refused without an error or with 42501."
		if f.part("mode") == "restrictive" {
			d.Severity, d.Why = Critical, "What it forbade is allowed now."
		}
	case "grant":
		d.Why = "Statements of this role fail with 42501, permission denied."
	}
	return d
}

func unexpected(f Fact, want Snapshot) Difference {
	d := Difference{Object: f.title(), Kind: Unexpected, Severity: Critical, Got: f.alone(), SQL: f.Drop, Ours: true, rank: ranks[f.Kind]}
	switch f.Kind {
	case "table":
		d.Severity = Warning
		d.SQL = "-- Look at what it holds, and who made it. Then: drop " + f.part("kind") + " " + f.Object + ";"
		d.Why = "Schema ops is the program's own, and this is not part of it."
	case "function":
		d.Why = "Schema ops is the program's own, and nobody here wrote this function."
		if f.part("runs with the rights of") != "its owner" {
			d.Severity = Warning
		}
	case "membership":
		d.Why = "Everybody who comes through the Data API has the rights of that role."
	case "trigger", "rule":
		d.Why = "With every change of the table something runs that nobody here wrote."
	case "policy":
		d.Why = "It shows rows, or lets them be changed, in addition to what the other policies allow."
		if f.part("mode") == "restrictive" {
			d.Severity, d.Why = Warning, "It refuses rows that the other policies allow."
		}
	case "grant":
		d.Why = "The role may do more than it should; of rows, what policies allow."
		d.SQL += regrant(f, want)
	case "exposed":
		d.Ours = false
		d.Why = "Not one of our tables: everybody who has the project's public key reads or changes all of it."
		if !strings.Contains(f.Name, "table") {
			d.Why = "It reads with its owner's rights what row-level security hides from learners."
		}
	}
	return d
}

// regrant is what a revoke on a whole table takes along: the same right to columns.
func regrant(f Fact, want Snapshot) string {
	verb, rest, _ := strings.Cut(f.Name, " on table ")
	if rest == "" || strings.Contains(verb, "(") {
		return ""
	}
	sql := ""
	for _, g := range want.Facts {
		if g.Kind == "grant" && g.Object == f.Object && strings.HasPrefix(g.Name, verb+" (") && strings.HasSuffix(g.Name, ") on table "+rest) {
			sql += "\n" + g.Make
		}
	}
	return sql
}

func different(e, f Fact) Difference {
	d := Difference{Object: f.title(), Kind: Different, Severity: Critical, Expected: e.text(), Got: f.text(), Ours: true, rank: ranks[f.Kind]}
	switch f.Kind {
	case "role":
		d.SQL, d.Why = e.Make, "The role has rights that no role of the Data API should have."
	case "function":
		d.SQL, d.Why = e.Make, "Policies, triggers or the program call it and rely on what it did."
		if e.part("returns") != f.part("returns") {
			d.SQL = f.Drop + "\n" + e.Make
		}
		if e.part("owner") != f.part("owner") {
			d.SQL += "\nalter function " + f.Object + " owner to current_user;"
		}
	case "table":
		d.SQL, d.Severity, d.Why = mendTable(e, f)
	case "trigger":
		d.Why = "Changes of this table are not noticed as they should be."
		d.Severity = Warning
		if e.part("definition") == f.part("definition") {
			d.SQL = setTrigger(f, e.part("enabled"))
			break
		}
		d.Severity = Critical
		d.SQL = f.Drop + "\n" + e.Make
		if enabled := e.part("enabled"); enabled != "yes" {
			d.SQL += "\n" + setTrigger(e, enabled)
		}
	case "policy":
		d.SQL = f.Drop + "\n" + e.Make
		d.Why = "It may show more rows than it should, or let more of them be changed."
		if tighter(e, f) {
			d.Severity, d.Why = Warning, "It refuses rows that it should allow."
		}
	case "grant":
		d.SQL = "revoke grant option for " + strings.TrimPrefix(f.Drop, "revoke ")
		d.Why = "The role may hand on its right to others."
		if e.part("may grant it to others") == "yes" {
			d.SQL, d.Severity, d.Why = e.Make, Warning, "The role may no longer hand on its right to others."
		}
	case "rule":
		d.SQL, d.Why = f.Drop+"\n"+e.Make, "The rule does something else than it should."
	}
	return d
}

func mendTable(e, f Fact) (sql string, severity Severity, why string) {
	var lines []string
	severity, why = Warning, "Statements can be refused that should not be."
	if on := e.part("row-level security"); on != f.part("row-level security") {
		verb := "disable"
		if on == "on" {
			verb, severity = "enable", Critical
			why = "Policies do not count: whoever has a grant sees and changes the rows of everybody."
		}
		lines = append(lines, "alter table "+f.Object+" "+verb+" row level security;")
	}
	if forced := e.part("also for the owner"); forced != f.part("also for the owner") {
		verb := "no force"
		if forced == "yes" {
			verb, severity = "force", Critical
			why = "Policies do not count for the owner of the table."
		}
		lines = append(lines, "alter table "+f.Object+" "+verb+" row level security;")
	}
	if owner := e.part("owner"); owner != f.part("owner") {
		severity, why = Critical, "The owner of a table may do everything with it, whatever policies say."
		lines = append(lines, "alter table "+f.Object+" owner to current_user;")
	}
	if kind := e.part("kind"); kind != f.part("kind") {
		severity, why = Critical, "It is not a "+kind+" any more."
		lines = append(lines, "-- "+f.Object+" should be a "+kind+". Restore it from a backup, then check again.")
	}
	return strings.Join(lines, "\n"), severity, why
}

// setTrigger switches a trigger to how it should be enabled.
func setTrigger(f Fact, enabled string) string {
	verb := map[string]string{"yes": "enable", "no": "disable", "replica": "enable replica", "always": "enable always"}[enabled]
	return "alter table " + f.Object + " " + verb + " trigger " + quoteName(f.Drop) + ";"
}

// quoteName takes a trigger's quoted name out of "drop trigger NAME on …;".
func quoteName(drop string) string {
	name := strings.TrimPrefix(drop, "drop trigger ")
	return name[:strings.LastIndex(name, " on ")]
}

// tighter says whether a policy certainly allows less than it should: for fewer
// roles, or nothing at all, and otherwise the same.
func tighter(e, f Fact) bool {
	if f.part("mode") != "permissive" || e.part("mode") != "permissive" || e.part("for") != f.part("for") && e.part("for") != "all" {
		return false
	}
	all := strings.Split(e.part("to"), ", ")
	for role := range strings.SplitSeq(f.part("to"), ", ") {
		if !slices.Contains(all, role) && !slices.Contains(all, "public") {
			return false
		}
	}
	for _, label := range []string{"using", "with check"} {
		if got := f.part(label); got != e.part(label) && got != "false" {
			return false
		}
	}
	return true
}
