package outreach

import (
	"time"

	"github.com/google/uuid"
	"github.com/shopspring/decimal"

	"github.com/promptcademy/promptops/internal/price"
)

const (
	// Window is how far back "active" and fallback costs look.
	Window = 14 * 24 * time.Hour

	windowDays  = 14
	projectDays = 30
)

// Projected is what the fallbacks of the last 14 days would cost in the next 30 at
// the same rate, rounded to a millionth of a dollar.
func Projected(last14Days price.USD) price.USD {
	return price.NewUSD(last14Days.Decimal().Mul(decimal.NewFromInt(projectDays)).DivRound(decimal.NewFromInt(windowDays), 6))
}

// Report is all that the page shows, counted at the same moment.
type Report struct {
	Figures   Figures
	Providers []ProviderRow // most learners with a key first
	Teams     []TeamRow     // most active learners without a key first
	MoreTeams int           // how many are not in Teams
	Next      []Learner     // who costs most on fallback keys, whether or not they have some key
	Nudges    []Nudged      // the latest, the newest first
	Listed    int           // learners that the query finds, on all pages
	Learners  []Learner     // one page of them
	After     *Place        // where the next page begins; nil: there is none
}

// Figures count learners.
type Figures struct {
	Learners      int        `json:"learners"`
	With          int        `json:"with"` // have a usable key, of any provider
	Without       int        `json:"without"`
	Active        int        `json:"active"` // of all
	ActiveWithout int        `json:"active_without"`
	Broken        int        `json:"broken"`       // have a key that stopped working
	BrokenSince   *time.Time `json:"broken_since"` // the longest of them
	Cost          price.USD  `json:"cost"`         // on fallback keys in the last 14 days
	Unpriced      int64      `json:"unpriced"`     // attempts that are not in it
	OnFallback    int        `json:"on_fallback"`  // learners that Cost and Unpriced come from

	New       int `json:"new"`
	Contacted int `json:"contacted"`
	Snoozed   int `json:"snoozed"`
	Resolved  int `json:"resolved"`
	Reopened  int `json:"reopened"`
}

// ProviderRow is how the learners are off with one provider.
type ProviderRow struct {
	Provider string    `json:"provider"`
	With     int       `json:"with"`     // have a usable key for it
	Broken   int       `json:"broken"`   // have one for it that stopped working
	Fallback int       `json:"fallback"` // used it on a fallback key in the last 14 days without a usable key for it
	Cost     price.USD `json:"cost"`
	Unpriced int64     `json:"unpriced"`
}

// TeamRow is how the members of one team are off.
type TeamRow struct {
	TeamID        uuid.UUID `json:"team_id"`
	Name          string    `json:"name"`
	Members       int       `json:"members"`
	With          int       `json:"with"`
	ActiveWithout int       `json:"active_without"`
	Cost          price.USD `json:"cost"` // of the members on fallback keys in the last 14 days
	Unpriced      int64     `json:"unpriced"`
}

// Learner is one of a list.
type Learner struct {
	ID          uuid.UUID  `json:"id"`
	Email       string     `json:"email"` // may be empty
	Name        string     `json:"name"`  // may be empty
	Teams       []string   `json:"teams"`
	Usable      []string   `json:"usable"`       // providers for which they have a usable key
	Broken      []string   `json:"broken"`       // … one that stopped working
	BrokenSince *time.Time `json:"broken_since"` // the first of them
	Needs       []string   `json:"needs"`        // providers they used on fallback keys in the last 14 days without a usable key
	Active      bool       `json:"active"`
	LastRunAt   *time.Time `json:"last_run_at"` // within the last 14 days
	Cost        price.USD  `json:"cost"`        // on fallback keys in the last 14 days
	Unpriced    int64      `json:"unpriced"`    // attempts that are not in Cost
	State       State      `json:"state"`
	StateAt     *time.Time `json:"state_at"`
	Until       *time.Time `json:"until"` // the end of a snooze
	NudgedAt    *time.Time `json:"nudged_at"`
	Revision    int        `json:"revision"`
}

// Place is where they stand in the order of the queue.
func (l Learner) Place() Place { return Place{l.Active, l.Cost, l.ID} }

// Status is their state with the end of a snooze.
func (l Learner) Status() Status {
	s := Status{State: l.State}
	if l.Until != nil {
		s.Until = *l.Until
	}
	return s
}
