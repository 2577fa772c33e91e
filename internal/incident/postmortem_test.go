package incident

import (
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/promptcademy/promptops/internal/price"
)

func named(id string) string { return map[string]string{"openai": "OpenAI"}[id] }

func exampleReport() Report {
	at := func(minutes int) *time.Time { return new(noon.Add(time.Duration(minutes) * time.Minute)) }
	cost, _ := price.ParseUSD("1.2300000001")
	return Report{
		Incident: Incident{
			ID: 7, Title: "OpenAI refuses *our* keys", Severity: 1, Status: Resolved, LeadName: "Marta", DetectedAt: noon,
			AcknowledgedAt: at(4), AcknowledgedName: "marta@example.org", ResolvedAt: at(65),
			Summary: "The key was <b>revoked</b>.\n\n# Not a heading", WentWell: "- noticed soon\n* the spare key\n1. and more", Lessons: "",
		},
		Entries: []Entry{
			{At: noon, Kind: KindReading, Actor: "marta@example.org", Title: "Usable fallback keys: 0", Body: "none at OpenAI", Verdict: "failing"},
			{At: *at(1), Kind: KindKey, Provider: "openai", Title: "Fallback key “Main”", Body: "401", Changes: []Change{{"status", "healthy", "invalid"}}},
			{At: *at(2), Kind: KindEdit, Actor: "marta@example.org", Title: "Changed", Changes: []Change{{FieldDetected, "2026-11-24T12:10:00Z", "2026-11-24T12:00:00Z"}}},
			{At: *at(3), Kind: KindNote, Actor: "marta@example.org", Body: "Asked @support\n> quoted\n## Time line"},
			{At: *at(4), Kind: KindNote, Actor: "x", Body: "taken back", DeletedAt: at(5)},
			{At: *at(70), Kind: KindNote, Actor: "x", Body: "after the end"},
		},
		Impact: Impact{
			From: noon, To: *at(65), Runs: 20, Failed: 12, Partial: 1, Learners: 5, Teams: 2, Fallback: cost, Unknown: 3,
			Failures: []Failures{{"openai", 20, 12, []Class{{"invalid_key", 11}, {"", 1}}}},
		},
		FollowUps: []FollowUp{{Body: "Watch [keys](javascript:alert(1))", OwnerName: "Ada", DueOn: at(60 * 24)}, {Body: "Tell learners", DoneAt: at(80)}},
	}
}

func TestPostMortem(t *testing.T) {
	want := `# Incident 7: OpenAI refuses \*our\* keys

SEV1 (learners cannot work), resolved. All times are UTC.

| | |
| --- | --- |
| Lead | Marta |
| Detected | 2026-11-24 12:00:00 |
| Acknowledged | 2026-11-24 12:04:00, after 4 min, by marta@example.org |
| Resolved | 2026-11-24 13:05:00, after 1 h 5 min |

## Summary

The key was &lt;b&gt;revoked&lt;/b&gt;.

\# Not a heading

## Impact

- Duration: 1 h 5 min
- Runs that failed: 12 of 20; 1 more were answered in part, 0 interrupted
- Hit: learners 5, teams 2
- Fallback keys paid: $1.2300000001, and what 3 attempts cost is not known
- Attempts that failed at OpenAI: 12 of 20 (invalid\_key 11, not known 1)

## Time line

- **2026-11-24 12:00:00** Check failing: Usable fallback keys: 0 (marta@example.org)
  > none at OpenAI  
- **2026-11-24 12:01:00** OpenAI: Fallback key “Main”: status healthy → invalid
  > 401  
- **2026-11-24 12:02:00** Changed: detected at 2026-11-24 12:10:00 → 2026-11-24 12:00:00 (marta@example.org)
- **2026-11-24 12:03:00** Note (marta@example.org)
  > Asked &#64;support  
  > &gt; quoted  
  > \## Time line  

## What went well

- noticed soon
- the spare key
1. and more

## What went badly

Not written yet.

## What we learned

Not written yet.

## Follow-ups

- [ ] Watch \[keys\](javascript:alert(1)) (Ada, due 2026-11-25)
- [x] Tell learners (nobody yet)
`
	got := PostMortem(exampleReport(), named, noon)
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	running := exampleReport()
	running.Status, running.ResolvedAt, running.Incomplete = Open, nil, true
	text := PostMortem(running, named, noon.Add(time.Hour))
	for _, piece := range []string{"how it was on 2026-11-24 13:00:00", "could not be computed", "after the end", "| Resolved | not yet |"} {
		if !strings.Contains(text, piece) {
			t.Errorf("%q is missing in:\n%s", piece, text)
		}
	}
}

// Whatever somebody types, and wherever, the document has the headings, tables and
// links that we gave it.
func TestPostMortemLetsNothingThrough(t *testing.T) {
	evil := []string{
		"# heading", "<script>alert(1)</script>", "[x](javascript:alert(1))", "![x](http://evil.example/p.png)", "a | b", "```\ncode", "~~~", "---", "===",
		"    indented", "> quote", "\\# x", "&lt;b&gt;", "&#60;b>", "a\r# b", "a\u2028# b", "\u202Etxet", "- # nested", "1. <b>", "+ ---", "* * *", "[x]: http://evil.example", "|x|\n|-|\n|y|", "@channel", "x\x00y", "$$e$$", "- [ ] task", "![x][y]", "- - deeper", "-\t# tab",
	}
	headings := regexp.MustCompile(`(?m)^ {0,3}#{1,6} .*$`)
	want := headings.FindAllString(PostMortem(exampleReport(), named, noon), -1)[1:]
	for _, words := range evil {
		r := exampleReport()
		r.Title, r.LeadName, r.AcknowledgedName = words, words, words
		r.Summary, r.WentWell, r.WentBadly, r.Lessons = words, words, words, words
		for i := range r.Entries {
			e := &r.Entries[i]
			e.Title, e.Body, e.Actor, e.Verdict, e.Provider, e.Changes = words, words, words, words, words, []Change{{words, words, words}}
		}
		r.Impact.Failures[0].Provider, r.Impact.Failures[0].Classes[0].Class = words, words
		r.FollowUps[0].Body, r.FollowUps[0].OwnerName = words, words
		text := PostMortem(r, func(id string) string { return id }, noon)
		if diff := cmp.Diff(want, headings.FindAllString(text, -1)[1:]); diff != "" {
			t.Errorf("%q: headings (-want +got):\n%s", words, diff)
		}
		for line := range strings.Lines(text) {
			line = strings.TrimRight(line, " \n")
			body := strings.NewReplacer(`\\`, "", `\[`, "", `\]`, "", `\|`, "", "\\`", "", `\*`, "", `\_`, "", `\~`, "", `\$`, "").Replace(line)
			body = strings.TrimPrefix(strings.TrimPrefix(body, "  > "), "- ")
			for _, bad := range []string{"<", "](", "![", "```", "~~", "\u202E", "\x00", "$$", "]:", "|-|"} {
				if strings.Contains(body, bad) {
					t.Errorf("%q: %q in %q", words, bad, line)
				}
			}
			if regexp.MustCompile(`^(-{3,}|={2,}|\x60{3}|~{3}| {4,})`).MatchString(line) {
				t.Errorf("%q makes a block: %q", words, line)
			}
			if strings.HasPrefix(line, "|") && strings.Count(strings.ReplaceAll(strings.ReplaceAll(line, `\\`, ""), `\|`, ""), "|") != 3 {
				t.Errorf("%q adds a cell: %q", words, line)
			}
		}
	}
}
