package views

// PeriodChoice is the choice of days, as it was filled in.
type PeriodChoice struct {
	Ranges   []Option // UsageRanges
	From, To string   // first and last day, "2026-11-23"; set whatever the range
	Today    string   // no later day can be chosen
}
