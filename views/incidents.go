package views

import "github.com/a-h/templ"

// IncidentsPage is the list of incidents.
type IncidentsPage struct {
	Page
	Filters   IncidentFilters
	Figures   []KeyFigure // of all that the filters let through; empty where there are none
	Incidents []IncidentRow
	FollowUps []FollowUpRow // what is left to do over all incidents
	MoreToDo  string        // how many follow-ups are not shown: "12"; "" for none
	CSV       string        // address of the same incidents as a file
	Newest    string        // address of the first page; "" where this is it
	Older     string        // address of the next one; "" where there is none
}

// IncidentFilters is the form above the list.
type IncidentFilters struct {
	Statuses   []Option
	Severities []Option
	From, To   string // days: "2026-11-24"
	Today      string
	Narrowed   bool
	Problem    string // why the filters could not be used
}

// IncidentRow is an incident in a list, or at the head of its page.
type IncidentRow struct {
	ID            string
	Title         string
	Severity      string // "SEV1"
	Words         string // what that stands for
	Status        string // "open", "mitigated" or "resolved"
	Lead          string // "" for nobody
	Detected      Moment
	ToAcknowledge string // "4 min"; "" as long as nobody has
	ToResolve     string // "" as long as it goes on
	FollowUps     string // how many are to do; "" for none
}

// OpenIncident is an incident that goes on, as every page tells of it.
type OpenIncident struct {
	Title    string
	Severity string
	Status   string
	Since    Moment
	Href     string
}

// LeadIncidentsPage is what a team lead sees of incidents: those that go on.
type LeadIncidentsPage struct {
	Page
	Open []OpenIncident
}

// IncidentForm is what an operator decides about an incident.
type IncidentForm struct {
	Title      string
	Severities []Option
	Leads      []Option
	DetectedAt string // "2026-11-24T13:00", in the zone; may be empty
	Zone       string
	Problems   map[string]string // by field
}

// NewIncidentPage is the form that starts an incident.
type NewIncidentPage struct {
	Page
	Form    IncidentForm
	CheckID string
	Step    string
	Reading *IncidentReading // what the check says now; nil: it is started by hand
	Problem string
}

// IncidentReading is what a live check said.
type IncidentReading struct {
	Title   string
	Verdict string // "failing"
	Value   string
	Detail  string
	At      Moment
}

// IncidentPage is one incident.
type IncidentPage struct {
	Page
	IncidentRow
	Problem      string
	Acknowledged *Moment
	By           string // who acknowledged it
	Mitigated    *Moment
	Resolved     *Moment
	Step         string // of the runbook that it was started from; may be empty
	Steps        []IncidentStep
	Revision     string
	Form         IncidentForm
	Editing      bool             // the form was refused: show it open
	Impact       []IncidentFigure // empty: it could not be computed
	Failures     []IncidentFailure
	RunsNote     string // what the links to runs lead to; "" where there are none
	Entries      []IncidentEntry
	Note         string // typed and refused
	Checks       []Option
	CheckProblem string
	FollowUps    []FollowUpRow
	Task         TaskForm
	Texts        []IncidentText
	Markdown     string
}

// IncidentStep is a button that moves an incident on.
type IncidentStep struct {
	Do      string // value of the form
	Label   string
	Primary bool
}

// IncidentFigure is a number of the impact.
type IncidentFigure struct {
	KeyFigure
	Href string // the runs behind it; "" where there is no page of them
}

// IncidentFailure is the failed attempts at one provider.
type IncidentFailure struct {
	Provider string
	Failed   string
	Attempts string
	Rate     string
	Href     string
	Classes  []IncidentClass
}

// IncidentClass is how many attempts failed for one reason.
type IncidentClass struct {
	Name, Count, Href string
}

// IncidentEntry is a line of the time line.
type IncidentEntry struct {
	ID      string // of a note; "" for all else
	At      Moment
	Kind    string // in a word: "Check"
	Icon    string
	Tone    string // of the word: "error", "success", … or ""
	Title   string
	Body    string
	Who     string // "" for nobody
	Changes []AuditDetail
	Own     bool // a note that who looks may change
	Version string
	Earlier []IncidentEarlier
	Deleted *Moment // a note that was taken back
	Typed   string  // what the note was to say, where that was refused; else what it says
	Editing bool    // that was refused: show it open
}

// IncidentEarlier is what a note said until a moment.
type IncidentEarlier struct {
	Body  string
	Until Moment
}

// FollowUpRow is something that is left to do.
type FollowUpRow struct {
	ID         string
	IncidentID string
	Incident   string // its title, where it is not plain
	Body       string
	Owner      string // "" for nobody
	Due        string // "24 Nov 2026"; "" for no day
	Late       bool
	Done       bool
	Revision   string
	Form       TaskForm // that changes it, on the page of its incident
}

// TaskForm adds or changes a follow-up.
type TaskForm struct {
	Task     string
	Owners   []Option
	DueOn    string // "2026-11-24"; may be empty
	Problems map[string]string
	Open     bool // it was refused: show it open
}

// IncidentText is a part of the post-mortem that people write.
type IncidentText struct {
	Field   string
	Label   string
	Hint    string
	Text    string
	Saved   string // what is saved by now and differs from Text, which was refused; else ""
	Problem string
}

func (p IncidentPage) action(what string) templ.SafeURL {
	path := "/incidents/" + p.ID
	if what != "" {
		path += "/" + what
	}
	return templ.SafeURL(path)
}

// statusTag is the look of a status.
func statusTag(status string) string {
	switch status {
	case "open":
		return "tag tag-error"
	case "mitigated":
		return "tag tag-warning"
	}
	return "tag tag-success"
}

func statusIcon(status string) string {
	switch status {
	case "open":
		return "alert"
	case "mitigated":
		return "info"
	}
	return "check"
}

// VerdictTone is the look of a check's verdict. What is not known to be good is
// not green.
func VerdictTone(verdict string) string {
	switch verdict {
	case "ok", "good", "healthy":
		return "success"
	case "failing", "critical", "bad", "error":
		return "error"
	}
	return "warning"
}

// StatusWord is a status at the beginning of a sentence.
func StatusWord(status string) string {
	return map[string]string{"open": "Open", "mitigated": "Mitigated", "resolved": "Resolved"}[status]
}

func toneClass(tone string) string {
	if tone == "" {
		return "tag"
	}
	return "tag tag-" + tone
}

// bannerTone is the look of the banner: as bad as the worst.
func bannerTone(open []OpenIncident) string {
	if len(open) > 0 && open[0].Severity == "SEV1" {
		return "banner banner-error"
	}
	return "banner"
}

// others is how many more go on than the banner names.
func others(open []OpenIncident) string { return Count(int64(len(open) - 1)) }
