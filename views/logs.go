package views

import (
	"bytes"
	"encoding/json"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
)

// LogsPage is a part of the list of events that pass the filters.
type LogsPage struct {
	Page
	Filters  LogsFilters
	Period   string // "18 – 24 Nov 2026", or with the times of a shorter one
	Count    string // "1,234 events"; "" when they could not be counted at once
	CSV      string // address of the events that pass, as CSV
	NDJSON   string // and as JSON, one object per line
	FileMost string // how many a file holds, "10,000"
	Cut      bool   // there are more than FileMost
	Kept     string // how long events are kept: "30 days"
	Chart    LogChart
	Events   []LogEvent
	Newest   string // address of the beginning; "" when this is it
	Newer    string // address of the events before these; "" when there are none
	Older    string // address of the events after these
	Tail     string // address of the stream of what comes; "" when nothing more can

	Searched string  // in how many events the text was looked for, "50,000"; "" when in all
	Since    *Moment // how far back that was
	Rest     string  // address where the search goes on
}

// LogsFilters is the form above the list, as it was filled in.
type LogsFilters struct {
	Period     PeriodChoice
	Start, End string // times of the first and the last day, "14:05"
	Levels     []Option
	Sources    []Option
	Events     []string // suggestions
	Event      string
	Request    string
	Learner    string
	Text       string
	Narrowed   bool
	Problem    string // why the filters could not be used as given; "" when they could
}

// LogEvent is one line of the log.
type LogEvent struct {
	ID      string
	Place   string // where it stands in every list: these sort as the events do
	At      Moment
	After   string // since the start of its run, "+1.83 s"; "" elsewhere
	Level   string // "INFO"
	Name    string
	Source  string
	Node    string
	Request string // "" for an event of no request
	Events  string // address of the events of its request
	Run     string // address of its run; "" when there is none
	Learner string // the address or the id; "" for an event of nobody
	Who     string // address of the learner's page; "" when there is none
	Facts   []LogFact
	JSON    string // the whole event, indented
}

// LogFact is one attribute.
type LogFact struct {
	Name  string // as it is logged
	Lines []string
}

// RunLog is what was logged about a run.
type RunLog struct {
	Events []LogEvent // in their order
	Href   string     // address of the same on the page of the log
	Silent string     // why there are none
}

// mark says in a word, a tone and a drawing how bad an event is.
func (e LogEvent) mark() runMark {
	switch {
	case strings.HasPrefix(e.Level, "ERROR"):
		return runMark{"Error", "error", "alert"}
	case strings.HasPrefix(e.Level, "WARN"):
		return runMark{"Warning", "warning", "alert"}
	case strings.HasPrefix(e.Level, "DEBUG"):
		return runMark{"Debug", "plain", "info"}
	}
	return runMark{"Info", "plain", "info"}
}

const maxGist = 180 // characters

// telling are the attributes that say most of an event.
var telling = []string{"error", "message", "reason", "status"}

// gist is the event in one line.
func (e LogEvent) gist() string {
	var first, others []string
	for _, name := range telling {
		for _, f := range e.Facts {
			if f.Name == name && !isNumber(f) {
				first = append(first, strings.Join(f.Lines, " "))
			}
		}
	}
	for _, f := range e.Facts {
		text := strings.Join(f.Lines, "; ")
		if isTelling(f) || f.Name == "results" || len(text) > maxGist/2 {
			continue
		}
		others = append(others, logWords(f.Name)+" "+text)
	}
	return cut(strings.Join(append(first, others...), " · "), maxGist)
}

func isTelling(f LogFact) bool { return slices.Contains(telling, f.Name) && !isNumber(f) }

// isNumber tells the status of an answer from that of a run.
func isNumber(f LogFact) bool { return len(f.Lines) == 1 && wholeNumber.MatchString(f.Lines[0]) }

func cut(text string, most int) string {
	if runes := []rune(text); len(runes) > most {
		return string(runes[:most-1]) + "…"
	}
	return text
}

// LogMomentOf is MomentOf to the millisecond, for a list above which the zone stands:
// "24 Nov, 13:00:05.123".
func LogMomentOf(at time.Time, zone *time.Location) Moment {
	utc := at.UTC()
	return Moment{
		Local: at.In(zone).Format("2 Jan, 15:04:05.000"), UTC: utc.Format("2 Jan 2006, 15:04:05.000000") + " UTC", Machine: utc.Format(time.RFC3339Nano),
	}
}

// LogLevels are the choices of how bad an event is at least.
func LogLevels(selected string) []Option {
	levels := []Option{{Label: "All levels"}, {Value: "warn", Label: "Warnings and errors"}, {Value: "error", Label: "Errors"}}
	if selected == "info" {
		levels = append(levels, Option{Value: "info", Label: "All but debug"})
	}
	for i := range levels {
		levels[i].Selected = levels[i].Value == selected
	}
	return levels
}

// LogFacts writes out the attributes of an event, in the order in which they were
// logged, without those that are null or empty.
func LogFacts(attributes []byte) (facts []LogFact) {
	for _, m := range members(attributes) {
		if lines := logLines(m.name, m.value); len(lines) > 0 {
			facts = append(facts, LogFact{m.name, lines})
		}
	}
	return facts
}

// IndentJSON is JSON to be read.
func IndentJSON(text []byte) string {
	var out bytes.Buffer
	if err := json.Indent(&out, text, "", "  "); err != nil {
		return string(text)
	}
	return out.String()
}

type member struct {
	name  string
	value json.RawMessage
}

// members are those of an object, in their order; none of what is no object.
func members(object []byte) (all []member) {
	decoder := json.NewDecoder(bytes.NewReader(object))
	if open, err := decoder.Token(); err != nil || open != json.Delim('{') {
		return nil
	}
	for decoder.More() {
		name, err := decoder.Token()
		m := member{}
		if err != nil || decoder.Decode(&m.value) != nil {
			return all
		}
		m.name, _ = name.(string)
		all = append(all, m)
	}
	return all
}

// logLines writes out one attribute.
func logLines(name string, value json.RawMessage) []string {
	switch first(value) {
	case '[':
		var items []json.RawMessage
		if json.Unmarshal(value, &items) != nil {
			return nil
		}
		var lines, words []string
		for _, item := range items {
			if first(item) == '{' {
				lines = append(lines, logItem(item))
			} else {
				words = append(words, logLines(name, item)...)
			}
		}
		if len(words) > 0 {
			lines = append(lines, strings.Join(words, ", "))
		}
		return lines
	case '{':
		var parts []string
		for _, m := range members(value) {
			if text := strings.Join(logLines(m.name, m.value), ", "); text != "" {
				parts = append(parts, m.name+": "+text)
			}
		}
		if len(parts) == 0 {
			return nil
		}
		return []string{strings.Join(parts, " · ")}
	}
	if text := logValue(name, value); text != "" {
		return strings.Split(strings.TrimRight(text, "\n"), "\n")
	}
	return nil
}

// logItem is an object of a list: of errors and results, what they are of comes
// first.
func logItem(object json.RawMessage) string {
	var parts []string
	head := ""
	for _, m := range members(object) {
		text := strings.Join(logLines(m.name, m.value), ", ")
		switch {
		case text == "":
		case head == "" && (m.name == "model" || m.name == "field"):
			head = text + ": "
		case m.name == "class" || m.name == "message":
			parts = append(parts, text)
		default:
			parts = append(parts, logWords(m.name)+" "+text)
		}
	}
	return head + strings.Join(parts, " · ")
}

var wholeNumber = regexp.MustCompile(`^\d{1,15}$`)

func logValue(name string, value json.RawMessage) string {
	text := string(value)
	switch {
	case text == "null":
		return ""
	case text == "true":
		return "yes"
	case text == "false":
		return "no"
	case first(value) == '"':
		var s string
		if json.Unmarshal(value, &s) != nil {
			return text
		}
		return s
	case wholeNumber.MatchString(text) && strings.HasSuffix(name, "Ms"):
		n, _ := strconv.ParseInt(text, 10, 64)
		return Milliseconds(n)
	case wholeNumber.MatchString(text) && strings.HasSuffix(strings.ToLower(name), "tokens"):
		n, _ := strconv.ParseInt(text, 10, 64)
		return Count(n)
	case name == "cost" || name == "totalCost":
		return "$" + text
	}
	return text
}

func first(value json.RawMessage) byte {
	if len(value) == 0 {
		return 0
	}
	return value[0]
}

// logLabel is what an attribute is called beside its value.
func logLabel(name string) string {
	words := logWords(name)
	return strings.ToUpper(words[:1]) + words[1:]
}

// logWords is the same within a line. The unit is beside the value.
func logWords(name string) string {
	if name == "keyAvailability" {
		return "keys"
	}
	if words := strings.TrimSuffix(Words(name), " ms"); words != "" {
		return words
	}
	return "value"
}

// LogSpan is how many events there were in a while.
type LogSpan struct {
	From, To                 time.Time
	Errors, Warnings, Others int64
	Href                     string // of the list of just these
}

func (s LogSpan) sum() int64 { return s.Errors + s.Warnings + s.Others }

// LogChart is how many events there were over time.
type LogChart struct {
	Bars                     []LogBar
	Axis                     [3]string // beginning, middle and end
	Most                     string    // what the height of the drawing stands for
	Unit                     string    // "Events per 30 minutes"
	Summary                  string
	Rows                     []LogRow // of spans that have events, the newest first
	Unknown                  bool     // they could not be counted at once
	Errors, Warnings, Others string
}

// LogBar is the column of a span, on a drawing of 1000 by 100.
type LogBar struct {
	Href     string
	Title    string
	X, Width string
	Pieces   []LogPiece
}

// LogPiece is a level's part of a column.
type LogPiece struct{ Kind, Y, Height string }

// LogRow is a span in the table.
type LogRow struct {
	Href, When, Errors, Warnings, Others string
}

// LogChartOf draws spans that follow each other. step is how long one is; 0 is a day.
func LogChartOf(spans []LogSpan, step time.Duration, zone *time.Location) LogChart {
	c := LogChart{Unit: "Events per day"}
	if step > 0 {
		c.Unit = "Events per " + stepLabel(step)
	}
	var most, errors, warnings, others int64
	for _, s := range spans {
		most = max(most, s.sum())
		errors, warnings, others = errors+s.Errors, warnings+s.Warnings, others+s.Others
	}
	c.Most, c.Errors, c.Warnings, c.Others = CountShort(most), Count(errors), Count(warnings), Count(others)
	c.Summary = c.Unit + ", " + logTime(spans[0].From, step, zone) + " to " + logTime(spans[len(spans)-1].To, step, zone) + ": " +
		countOf(int(errors), "error", "errors") + ", " + countOf(int(warnings), "warning", "warnings") + ", " + Count(others) + " others, at most " + Count(most) + " at a time. The numbers are in the table below."
	c.Axis = [3]string{logTime(spans[0].From, step, zone), "", logTime(spans[len(spans)-1].To, step, zone)}
	if len(spans) > 2 {
		c.Axis[1] = logTime(spans[len(spans)/2].From, step, zone)
	}
	width := 1000 / float64(len(spans))
	for i, s := range spans {
		if s.sum() == 0 {
			continue
		}
		row := LogRow{Href: s.Href, When: logTime(s.From, step, zone), Errors: Count(s.Errors), Warnings: Count(s.Warnings), Others: Count(s.Others)}
		c.Rows = append([]LogRow{row}, c.Rows...)
		bar := LogBar{Href: s.Href, X: coordinate(float64(i)*width + width*0.08), Width: coordinate(width * 0.84)}
		bar.Title = row.When + ": " + countOf(int(s.Errors), "error", "errors") + ", " + countOf(int(s.Warnings), "warning", "warnings") + ", " + row.Others + " others"
		bar.Pieces = logPieces(s, most)
		c.Bars = append(c.Bars, bar)
	}
	return c
}

// logPieces stands what is worst at the bottom, where it is looked for. However few
// they are, they can be seen.
func logPieces(s LogSpan, most int64) (pieces []LogPiece) {
	const whole, least = 100.0, 4.0
	top := whole
	for _, p := range []struct {
		kind string
		n    int64
	}{{"error", s.Errors}, {"warning", s.Warnings}, {"other", s.Others}} {
		if p.n == 0 {
			continue
		}
		height := min(max(float64(p.n)/float64(most)*whole, least), top)
		top -= height
		pieces = append(pieces, LogPiece{p.kind, coordinate(top), coordinate(height)})
	}
	return pieces
}

func coordinate(f float64) string { return strconv.FormatFloat(f, 'f', 2, 64) }

func stepLabel(step time.Duration) string {
	if step < time.Hour {
		return strconv.Itoa(int(step/time.Minute)) + " minutes"
	}
	if step == time.Hour {
		return "hour"
	}
	return strconv.Itoa(int(step/time.Hour)) + " hours"
}

// logTime is the beginning of a span.
func logTime(at time.Time, step time.Duration, zone *time.Location) string {
	if step == 0 {
		return at.In(zone).Format("Mon 2 Jan")
	}
	return at.In(zone).Format("2 Jan, 15:04")
}

// LogRanges are the choices of a period that make sense for what is not kept for
// ever.
func LogRanges(all []Option, names []string) (some []Option) {
	for _, o := range all {
		if slices.Contains(names, o.Value) {
			some = append(some, o)
		}
	}
	return some
}
