package views

import "strconv"

// UsagePage is AI Usage: what runs cost and how they went.
type UsagePage struct {
	Page
	Filters  UsageFilters
	Period   string // "25 Oct – 23 Nov 2026"
	Against  string // the period that it is compared with, "25 Sep – 24 Oct 2026"; "" for none
	Empty    bool   // no attempt in the period passes the filters: nothing below is shown
	Figures  []KeyFigure
	Unpriced string // attempts without a price, "3"; "" when there are none
	Charts   []Chart
	Table    UsageTable
	CSV      string // address of the same figures as CSV, of every bucket and group
	JSON     string // address of the same figures for programs

	Forecast *ForecastCard // of this month, by the same filters; nil: not counted
	Patterns UsagePatterns
}

// UsageFilters is the form above the page, as it was filled in.
type UsageFilters struct {
	Ranges    []Option // today, 7d, 30d, 90d, 180d, custom; exactly one is selected
	From, To  string   // first and last day, "2026-11-23"; set whatever the range
	Today     string   // no later day can be chosen
	Providers []Option // the first is "All providers" with the value ""
	Models    []Option // the first is "All models" with the value ""
	Teams     []Option // the first is "All teams" with the value ""; none for leads, who have the TeamSwitch
	TeamID    string   // the team of the TeamSwitch; "" for all
	Keys      []Option // whose key paid: "", "user", "fallback"
	Learner   string   // e-mail address; "" for all
	Template  *Option  // the one chosen; nil: all
	Groups    []Option // by what the table tells apart
	Subs      []Option // and then by what; the first is "" for nothing
	Metrics   []Option // what the chart shows
	Buckets   []Option // how it divides time
	Compare   bool     // with the period before
	Problem   string   // why the filters could not be used as given; "" when they could
	Narrowed  bool     // anything but the period is chosen: offer to show all
	Clear     string   // address that does
}

// Option is one choice of a select or of a row of radio buttons.
type Option struct {
	Value    string
	Label    string
	Selected bool
}

// UsageRanges are the choices of a period; selected is one of their values.
func UsageRanges(selected string) []Option {
	ranges := []Option{
		{Value: "today", Label: "Today"},
		{Value: "7d", Label: "7 days"},
		{Value: "30d", Label: "30 days"},
		{Value: "90d", Label: "90 days"},
		{Value: "180d", Label: "180 days"},
		{Value: "custom", Label: "Custom"},
	}
	for i := range ranges {
		ranges[i].Selected = ranges[i].Value == selected
	}
	return ranges
}

// KeyFigure is one key figure.
type KeyFigure struct {
	Label  string
	Value  string
	Exact  string // all digits, shown on hover; "" when Value has them
	Note   string // one short line below; may be empty
	Badge  string // a warning beside the label, "3 unpriced"; may be empty
	Change Change
	Href   string // of what explains it; may be empty
}

// UsageTable is what each group did. Everything is written out.
type UsageTable struct {
	By         string   // "model": "By model"
	Head       string   // "Model"
	Providers  bool     // there is a column of providers
	Durations  []string // heads of the percentiles: "P95"
	Rows       []UsageRow
	Total      UsageRow // the last line; Swatch and Share are not shown
	Note       string   // what is special about these figures; may be empty
	Cut        string   // "The 100 largest of 1,240 are shown …"; "" when all are
	HasUnknown bool     // there are attempts without a price
}

// UsageRow is one line of the table.
type UsageRow struct {
	Name      string // "gpt-5-mini"
	Title     string // in full
	Href      string // its runs; "" where no filter finds them
	Provider  string // "OpenAI"
	Swatch    int    // colour in the charts; 0 for those that are in "Other"
	Sub       bool   // part of the group above
	Rest      bool   // several that are too small for a line each
	Runs      string
	Attempts  string
	Errors    string
	ErrorRate string // shown on hover
	Input     string // tokens, cached ones included
	Cached    string
	Output    string // tokens, reasoning included
	Reasoning string
	Cost      Amount
	Unpriced  string  // attempts without a price, "2"; "" when there are none
	Share     string  // of the period's cost
	ShareBar  float64 // the same from 0 to 1
	Fallback  string  // share of the attempts that fallback keys paid
	Durations []string
}

// shareWidth is the width of a share's bar in its 48 units.
func (r UsageRow) shareWidth() string {
	return strconv.FormatFloat(min(max(r.ShareBar, 0), 1)*48, 'f', 1, 64)
}
