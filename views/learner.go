package views

// LearnerPage is one learner: figures, and everything they did, the latest first.
type LearnerPage struct {
	Page
	ID       string
	Email    string
	Closed   string // "banned" or "deleted"; "" for an account that may be used
	SignedUp Moment
	Figures  []KeyFigure
	Teams    []LearnerTeam
	Keys     []LearnerKey
	Entries  []TimelineEntry
	Runs     string // address of their runs
	Newest   string // address of the timeline's beginning; "" when this is it
	Older    string // address of what comes after Entries; "" when that is all
	Last     bool   // Entries end with the sign-up
}

// LearnerTeam is a team that the learner belongs to.
type LearnerTeam struct{ Name, Role, Href string }

// LearnerKey is the state of a key.
type LearnerKey struct {
	Provider string
	Name     string // "mine …9f2a"; "" when it is not for whoever looks
	Status   string
	Added    Moment
}

// TimelineEntry is one thing that a learner did, or that happened to a key.
type TimelineEntry struct {
	At   Moment
	Icon string
	Text string
	Href string   // where Text leads; may be empty
	Mark *runMark // how it went; may be nil
	Note string   // smaller; may be empty
}

// RunEntry is a run in a timeline.
func RunEntry(at Moment, href, models, status string) TimelineEntry {
	return TimelineEntry{At: at, Icon: "run", Text: "Ran a prompt", Href: href, Mark: new(statusMark(status)), Note: models}
}

// keyMark is the state of a key.
func keyMark(status string) runMark {
	switch status {
	case "healthy":
		return runMark{"Healthy", "success", "check"}
	case "cooling":
		return runMark{"Resting", "info", "info"}
	case "invalid":
		return runMark{"Invalid", "error", "alert"}
	case "billing":
		return runMark{"Billing", "error", "alert"}
	case "disabled":
		return runMark{"Disabled", "warning", "stop"}
	}
	return runMark{status, "info", "info"}
}

// KeyEntry is a change of a key's state in a timeline.
func KeyEntry(at Moment, provider, status string) TimelineEntry {
	return TimelineEntry{At: at, Icon: "key", Text: "The key for " + provider + " changed", Mark: new(keyMark(status))}
}
