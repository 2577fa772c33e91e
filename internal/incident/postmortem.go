package incident

import (
	"fmt"
	"regexp"
	"strings"
	"time"
)

// PostMortem writes an incident up as Markdown, with all times in UTC so that it
// reads the same for everybody. What people typed, and names from outside, are only
// text: of their Markdown lists stay lists, and nothing else has a meaning.
// provider says what a provider is called.
//
// What was added to the time line after the incident was resolved is left out.
func PostMortem(r Report, provider func(id string) string, now time.Time) string {
	var b strings.Builder
	line := func(format string, args ...any) { fmt.Fprintf(&b, format+"\n", args...) }
	line("# Incident %d: %s", r.ID, inline(r.Title))
	line("")
	line("%s (%s), %s. All times are UTC.", r.Severity, r.Severity.Words(), r.Status)
	if r.ResolvedAt == nil {
		line("")
		line("It is not resolved: this is how it was on %s.", utc(now))
	}
	line("")
	line("| | |")
	line("| --- | --- |")
	line("| Lead | %s |", inline(or(r.LeadName, "nobody")))
	line("| Detected | %s |", utc(r.DetectedAt))
	line("| Acknowledged | %s |", after(r.AcknowledgedAt, r.DetectedAt, r.AcknowledgedName))
	if r.MitigatedAt != nil || r.ResolvedAt == nil {
		line("| Mitigated | %s |", after(r.MitigatedAt, r.DetectedAt, ""))
	}
	line("| Resolved | %s |", after(r.ResolvedAt, r.DetectedAt, ""))
	section := func(title, text string) {
		line("\n## %s\n", title)
		line("%s", prose(or(text, "Not written yet.")))
	}
	section("Summary", r.Summary)
	line("\n## Impact\n")
	writeImpact(line, r, provider)
	line("\n## Time line\n")
	for _, e := range r.Entries {
		if r.ResolvedAt != nil && e.At.After(*r.ResolvedAt) || e.DeletedAt != nil {
			continue
		}
		writeEntry(line, e, provider)
	}
	section("What went well", r.WentWell)
	section("What went badly", r.WentBadly)
	section("What we learned", r.Lessons)
	line("\n## Follow-ups\n")
	for _, f := range r.FollowUps {
		done, owner, due := " ", or(f.OwnerName, "nobody yet"), ""
		if f.DoneAt != nil {
			done = "x"
		}
		if f.DueOn != nil {
			due = ", due " + f.DueOn.Format(time.DateOnly)
		}
		line("- [%s] %s (%s%s)", done, inline(f.Body), inline(owner), due)
	}
	if len(r.FollowUps) == 0 {
		line("None.")
	}
	return b.String()
}

func writeImpact(line func(string, ...any), r Report, provider func(string) string) {
	if r.Incomplete {
		line("It could not be computed: the database was too busy.")
		return
	}
	i := r.Impact
	line("- Duration: %s", Span(i.Duration()))
	line("- Runs that failed: %d of %d; %d more were answered in part, %d interrupted", i.Failed, i.Runs, i.Partial, i.Interrupted)
	line("- Hit: learners %d, teams %d", i.Learners, i.Teams)
	cost := "$" + i.Fallback.String()
	if i.Unknown > 0 {
		cost += fmt.Sprintf(", and what %d attempts cost is not known", i.Unknown)
	}
	line("- Fallback keys paid: %s", cost)
	for _, f := range i.Failures {
		classes := make([]string, len(f.Classes))
		for n, c := range f.Classes {
			classes[n] = fmt.Sprintf("%s %d", or(c.Class, "not known"), c.Failed)
		}
		line("- Attempts that failed at %s: %d of %d (%s)", inline(provider(f.Provider)), f.Failed, f.Attempts, inline(strings.Join(classes, ", ")))
	}
}

func writeEntry(line func(string, ...any), e Entry, provider func(string) string) {
	text := e.Title
	if e.Kind == KindNote {
		text = "Note"
	}
	if e.Verdict != "" {
		text = "Check " + e.Verdict + ": " + text
	}
	if e.Provider != "" {
		text = provider(e.Provider) + ": " + text
	}
	for n, c := range e.Changes {
		separator := ", "
		if n == 0 {
			separator = ": "
		}
		from, to := c.From, c.To
		if c.Field == FieldDetected {
			from, to = utcText(from), utcText(to)
		}
		text += separator + c.Field + " " + or(from, "empty") + " → " + or(to, "empty")
	}
	who := ""
	if e.Actor != "" {
		who = " (" + inline(e.Actor) + ")"
	}
	line("- **%s** %s%s", e.At.UTC().Format("2006-01-02 15:04:05"), inline(text), who)
	if e.Body != "" {
		for body := range strings.Lines(e.Body) {
			if body = inline(body); body != "" {
				line("  > %s  ", lead(body))
			}
		}
	}
}

func or(s, otherwise string) string {
	if s == "" {
		return otherwise
	}
	return s
}

func utc(at time.Time) string { return at.UTC().Format("2006-01-02 15:04:05") }

func utcText(machine string) string {
	at, err := time.Parse(time.RFC3339, machine)
	if err != nil {
		return machine
	}
	return utc(at)
}

func after(at *time.Time, since time.Time, who string) string {
	if at == nil {
		return "not yet"
	}
	text := utc(*at) + ", after " + Span(at.Sub(since))
	if who != "" {
		text += ", by " + inline(who)
	}
	return text
}

// special are the characters that mean something inside a line of Markdown.
var special = strings.NewReplacer(
	`\`, `\\`, "`", "\\`", "*", `\*`, "_", `\_`, "[", `\[`, "]", `\]`, "|", `\|`, "~", `\~`, "$", `\$`, "&", "&amp;", "<", "&lt;", ">", "&gt;",
)

// mention matches the sign with which many sites call somebody; addresses have a
// letter before it.
var mention = regexp.MustCompile(`(^|[^\pL\pN.+-])@`)

// inline is text as one line of Markdown in which nothing has a meaning: no markup,
// no hidden target of a link, no mention of somebody.
func inline(s string) string {
	return mention.ReplaceAllString(special.Replace(strings.Join(strings.Fields(readable(s)), " ")), "$1&#64;")
}

// item matches the beginning of a line of a list, block what else could begin a
// block.
var (
	item  = regexp.MustCompile(`^([-+]|\d{1,3}[.)]) +`)
	block = regexp.MustCompile(`^([-+=#:]|\d+[.)])`)
)

// lead escapes what would make a block of an escaped line.
func lead(line string) string {
	at := block.FindStringIndex(line)
	if at == nil {
		return line
	}
	return line[:at[1]-1] + `\` + line[at[1]-1:]
}

// prose is text of several lines as Markdown in which only lists have a meaning.
func prose(s string) string {
	var b strings.Builder
	for part := range strings.SplitSeq(readable(s), "\n") {
		part = strings.TrimSpace(part)
		if rest, ok := strings.CutPrefix(part, "* "); ok {
			part = "- " + rest
		}
		mark := item.FindString(part)
		text := inline(strings.TrimPrefix(part, mark))
		if mark != "" && text != "" {
			b.WriteString(strings.TrimSpace(mark) + " " + lead(text) + "\n")
		} else {
			b.WriteString(lead(inline(part)) + "\n")
		}
	}
	return strings.TrimSpace(b.String())
}
