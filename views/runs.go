package views

import (
	"cmp"
	"strings"
)

// RunsPage is a part of the list of runs that pass the filters.
type RunsPage struct {
	Page
	Filters RunsFilters
	Period  string // "25 Oct – 23 Nov 2026"
	Count   string // "1,000+ runs"; "" when they could not be counted at once
	CSV     string // address of the runs that pass, as CSV
	CSVMost string // how many a file holds, "10,000"
	Cut     bool   // there may be more than CSVMost
	Runs    []RunLine
	Newest  string // address of the beginning; "" when this is it
	Newer   string // address of the runs before these; "" when there are none
	Older   string // address of the runs after these

	Searched string // "back to 12 Oct 2026, 14:05 UTC": how far was looked; "" when that is all there is
	Further  string // address from which to look on
}

// RunsFilters is the form above the list, as it was filled in.
type RunsFilters struct {
	Period    PeriodChoice
	Statuses  []Option
	Models    []string // suggestions
	Model     string
	Teams     []Option
	Learner   string
	Providers []Option
	Keys      []Option
	Classes   []Option
	Templates []Option
	Streams   []Option
	Cost      string
	Seconds   string
	Request   string
	Problem   string // why the filters could not be used as given; "" when they could
	Narrowed  bool   // anything but the period is chosen: offer to show all
	Clear     string // address that shows all; "" for /runs
	More      bool   // one of the filters that are folded up is in use
}

func (f RunsFilters) clearHref() string { return cmp.Or(f.Clear, "/runs") }

// RunLine is one run of the list.
type RunLine struct {
	Href     string
	Started  Moment
	Who      string // address of a learner or an operator
	WhoHref  string // may be empty
	WhoNote  string // "Operator"; may be empty
	Team     string
	Models   []string // "gpt-5-mini", in the order in which they were asked for
	Status   string   // of the run
	Errors   string   // "Rate limited, No key"; shown on hover
	Tokens   string
	Cost     *Amount // nil: it is running
	Unpriced string  // models that are not in Cost, "1"; "" when there are none
	Duration string
	Keys     string // "Own", "Fallback", "Both" or "–"
}

// models is the first model, and how many more there are.
func (l RunLine) models() (first, more string) {
	if len(l.Models) == 0 {
		return "–", ""
	}
	if len(l.Models) > 1 {
		more = "+" + Count(int64(len(l.Models)-1))
	}
	return l.Models[0], more
}

// allModels is every model, for those who hover.
func (l RunLine) allModels() string { return strings.Join(l.Models, ", ") }

// KeysLabel says whose keys paid for a run.
func KeysLabel(sources []string) string {
	switch len(sources) {
	case 0:
		return "–"
	case 1:
		label, _, _ := strings.Cut(keyLabel(sources[0]), " ")
		return label
	default:
		return "Both"
	}
}

// ErrorLabels names error classes.
func ErrorLabels(classes []string) string {
	labels := make([]string, len(classes))
	for i, class := range classes {
		labels[i] = hintOf(class).Label
	}
	return strings.Join(labels, ", ")
}

// ClassOptions are the choices of an error class; the first is any.
func ClassOptions(classes []string) []Option {
	options := []Option{{Label: "Any outcome"}}
	for _, class := range classes {
		options = append(options, Option{Value: class, Label: hintOf(class).Label})
	}
	return options
}

// StatusOptions are the choices of a run's status; the first is any.
func StatusOptions(statuses []string) []Option {
	options := []Option{{Label: "Any status"}}
	for _, status := range statuses {
		options = append(options, Option{Value: status, Label: statusMark(status).Label})
	}
	return options
}
