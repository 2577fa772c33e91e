package views

import (
	"strconv"
	"time"
)

// RunPage is one run: what it was, how long its calls to the providers took, and
// what became of each model.
type RunPage struct {
	Page
	ID      string
	Status  string // running, success, partial, error, cancelled or interrupted
	Started Moment
	Figures []KeyFigure
	Facts   []Fact    // who made it, for whom, with which settings
	Axis    [3]string // begin, middle and end of the time line; all "" when nothing is on it
	Models  []RunModel

	List   string   // address of the list that this run is in
	Newer  string   // of the run before it in the list; "" when there is none
	Older  string   // of the run after it
	Said   *RunSaid // nil: it is not shown, and Silent says why
	Silent string
	Curl   string  // the same run as a command; "" when Said is nil
	Log    *RunLog // nil: it is not for whoever looks
}

// RunSaid is what a run was about.
type RunSaid struct {
	Messages []SaidText // the system's first
	Outputs  []SaidText // by model
}

// SaidText is one text and who wrote it: "user", "gpt-5-mini".
type SaidText struct {
	By   string
	Text string
}

// Fact is a name and its value in a list.
type Fact struct {
	Label string
	Value string
	Note  string  // smaller, after the value; may be empty
	Since *Moment // when what Note says began to hold; may be nil
	Mono  bool    // Value is an id
	Href  string  // where Value leads; may be empty
	More  string  // a second address, of the runs that share Value; may be empty
}

// RunModel is one model of a run.
type RunModel struct {
	Name     string // "gpt-5-mini"
	Provider string // "OpenAI"
	Status   string // running, ok, error, cancelled or interrupted
	Finish   string // finish reason; "length" is shown as cut off
	Took     string // "1.83 s"; "" when it is not known, or nothing was called
	Called   bool   // the provider was, even if Tries does not say how that went
	Tries    []RunTry
	Facts    []Fact

	ErrorClass string // "rate_limited"; "" when there was no error
	Message    string // what the provider or we said, scrubbed
}

// RunTry is one call to a provider.
type RunTry struct {
	Key    RunKey
	Begin  string // since the run's start: "12 ms", "about 12 ms"
	Took   string
	Class  string // error class; "" when the model answered
	HTTP   string // "429"; "" when there was no answer or a good one
	Action string // done, again, next_key or give_up
	Reason string // why; may be empty
	Bar    Bar
}

// RunKey is a key as people tell it from others.
type RunKey struct {
	Label    string // "" when it has none
	LastFour string
	Source   string // user or fallback
	Deleted  bool   // nothing but Source is known any more
	Withheld bool   // nothing but Source is for whoever looks
}

// Bar is a place on a time line of 1000 units.
type Bar struct{ X, Width string }

// BarOf is where a call stands on a time line that is whole long. However short
// a call was, it can be seen.
func BarOf(begin, took, whole time.Duration) Bar {
	const units, least = 1000.0, 4.0
	if whole <= 0 {
		return Bar{"0", strconv.FormatFloat(units, 'f', -1, 64)}
	}
	x := min(max(float64(begin)/float64(whole)*units, 0), units-least)
	width := min(max(float64(took)/float64(whole)*units, least), units-x)
	return Bar{strconv.FormatFloat(x, 'f', 1, 64), strconv.FormatFloat(width, 'f', 1, 64)}
}

// Duration is Milliseconds for what may be shorter than one.
func Duration(d time.Duration) string {
	if d > 0 && d < time.Millisecond {
		return "<1 ms"
	}
	return Milliseconds(d.Milliseconds())
}

// name is how the key is called in a sentence.
func (k RunKey) name() string {
	switch {
	case k.Withheld && k.Source == "user":
		return "Own key"
	case k.Withheld:
		return "Fallback key"
	case k.Deleted:
		return "Deleted key"
	case k.Label == "":
		return "No label"
	default:
		return k.Label
	}
}

// digits are the end of the key, as consoles of providers show it.
func (k RunKey) digits() string {
	if k.LastFour == "" {
		return ""
	}
	return "…" + k.LastFour
}

// String is the key in one line: "main …9f2a".
func (k RunKey) String() string {
	if k.LastFour == "" {
		return k.name()
	}
	return k.name() + " " + k.digits()
}

// mark says in a word, a tone and a drawing how something went.
type runMark struct{ Label, Kind, Icon string }

func (p RunPage) mark() runMark { return statusMark(p.Status) }

// statusMark is how a run as a whole went.
func statusMark(status string) runMark {
	switch status {
	case "running":
		return runMark{"Running", "info", "run"}
	case "cancelled":
		return runMark{"Cancelled", "warning", "stop"}
	case "interrupted":
		return runMark{"Interrupted", "error", "alert"}
	}
	label, kind := runLabel(status)
	if kind == "success" {
		return runMark{label, kind, "check"}
	}
	return runMark{label, kind, "alert"}
}

func (m RunModel) mark() runMark {
	switch {
	case m.Status == "running":
		return runMark{"Running", "info", "run"}
	case m.Status == "ok" && m.Finish == "length":
		return runMark{"Cut off", "warning", "alert"}
	case m.Status == "ok":
		return runMark{"Answered", "success", "check"}
	case m.Status == "cancelled":
		return runMark{"Cancelled", "warning", "stop"}
	case m.Status == "interrupted":
		return runMark{"Interrupted", "error", "alert"}
	}
	return runMark{hintOf(m.ErrorClass).Label, "error", "alert"}
}

func (t RunTry) mark() runMark {
	switch {
	case t.Class == "" && t.Action == "done":
		return runMark{"Answered", "success", "check"}
	case t.Class == "cancelled":
		return runMark{"Cancelled", "warning", "stop"}
	case t.Action == "give_up":
		return runMark{hintOf(t.Class).Label, "error", "alert"}
	}
	return runMark{hintOf(t.Class).Label, "warning", "alert"}
}

// next says what followed the try.
func (t RunTry) next() string {
	text := map[string]string{"again": "Tried again", "next_key": "Went on to the next key", "give_up": "Gave up"}[t.Action]
	if text == "" || t.Reason == "" {
		return text
	}
	return text + ": " + t.Reason
}

// silence says why nothing of the model is on the time line.
func (m RunModel) silence() string {
	switch m.Status {
	case "running":
		return "Its calls are written down when the run ends."
	case "interrupted":
		return "What was called is not known: the server stopped first."
	}
	if m.Called {
		return "How its calls went one by one was not written down."
	}
	return "The provider was not called."
}

// hintOf falls back to the class's own name for one that has no hint yet.
func hintOf(class string) Hint {
	if h, ok := ErrorHints()[class]; ok {
		return h
	}
	if class == "" {
		class = "Failed"
	}
	return Hint{Label: class}
}
