package outreach

import (
	"encoding/base64"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/google/uuid"

	"github.com/promptcademy/promptops/internal/fault"
	"github.com/promptcademy/promptops/internal/price"
)

// Scope is whom a question or an action is about. The zero value is all learners.
type Scope struct {
	As    *uuid.UUID  // a team lead's learner account, whose rights everything is read with; nil: an admin
	Teams []uuid.UUID // only their members; of a lead never empty
}

// Choices of Query.Show. Those with a state in their name are about the queue.
const (
	ShowOpen      = "open" // new and reopened: what is to be done
	ShowContacted = "contacted"
	ShowSnoozed   = "snoozed"
	ShowResolved  = "resolved"
	ShowWithout   = "without"
	ShowActive    = "active" // active and without a usable key
	ShowWith      = "with"
	ShowBroken    = "broken"
	ShowFallback  = "fallback" // ran on fallback keys without a usable key of their own
	ShowAll       = "all"
)

var shows = []string{ShowOpen, ShowContacted, ShowSnoozed, ShowResolved, ShowWithout, ShowActive, ShowWith, ShowBroken, ShowFallback, ShowAll}

// byProvider are the choices that can be narrowed to one provider.
var byProvider = []string{ShowWith, ShowWithout, ShowActive, ShowBroken, ShowFallback}

// Query is which learners to list. They come in the order of the queue: active
// ones first, and of them those whose fallbacks cost most.
type Query struct {
	Show     string     // one of the choices above
	Provider string     // with, without, active, broken, fallback: of this provider; "": of any
	TeamID   *uuid.UUID // nil: all teams of the scope, and nobody's
	Search   string     // part of the name or address
	AllTeams bool       // the table of teams is shown in full
	After    *Place     // only those behind this one; nil: from the first on
}

// Place is a learner's place in the order of the queue.
type Place struct {
	Active bool
	Cost   price.USD
	ID     uuid.UUID
}

const maxSearch = 100

// ParseQuery reads a Query from the parameters show, provider, team, q, teams and
// after of a URL. Bad values come back as one fault.Invalid that names them all.
func ParseQuery(values url.Values) (Query, error) {
	q := Query{Show: values.Get("show"), Provider: values.Get("provider"), Search: strings.TrimSpace(values.Get("q")), AllTeams: values.Get("teams") == "all"}
	var problems []fault.Field
	refuse := func(field, message string) { problems = append(problems, fault.Field{Field: field, Message: message}) }
	if q.Show == "" {
		q.Show = ShowOpen
	}
	if !slices.Contains(shows, q.Show) {
		refuse("show", "must be one of "+strings.Join(shows, ", "))
	}
	if q.Provider != "" && !slices.Contains(byProvider, q.Show) {
		refuse("provider", "can be chosen only with show="+strings.Join(byProvider, ", "))
	}
	for field, text := range map[string]string{"provider": q.Provider, "q": q.Search} {
		if len(text) > maxSearch || !utf8.ValidString(text) || strings.ContainsFunc(text, unicode.IsControl) {
			refuse(field, "is too long, or holds characters that no name has")
		}
	}
	if team := values.Get("team"); team != "" {
		id, err := uuid.Parse(team)
		if err != nil {
			refuse("team", "is not an id of a team")
		}
		q.TeamID = &id
	}
	if after := values.Get("after"); after != "" {
		place, ok := parsePlace(after)
		if !ok {
			refuse("after", "is no place in the list; begin on its first page")
		}
		q.After = &place
	}
	if len(problems) > 0 {
		slices.SortFunc(problems, func(a, b fault.Field) int { return strings.Compare(a.Field, b.Field) })
		return Query{}, fault.InvalidFields(problems)
	}
	return q, nil
}

// Values is the inverse of ParseQuery: the shortest parameters that ask for the
// same.
func (q Query) Values() url.Values {
	values := url.Values{}
	set := func(name, value string) {
		if value != "" {
			values.Set(name, value)
		}
	}
	if q.Show != ShowOpen {
		set("show", q.Show)
	}
	set("provider", q.Provider)
	set("q", q.Search)
	if q.TeamID != nil {
		set("team", q.TeamID.String())
	}
	if q.AllTeams {
		set("teams", "all")
	}
	if q.After != nil {
		set("after", q.After.String())
	}
	return values
}

// String is what ParseQuery reads as "after".
func (p Place) String() string {
	return base64.RawURLEncoding.EncodeToString([]byte(strconv.FormatBool(p.Active) + " " + p.Cost.String() + " " + p.ID.String()))
}

func parsePlace(s string) (p Place, ok bool) {
	text, err := base64.RawURLEncoding.DecodeString(s)
	parts := strings.Fields(string(text))
	if err != nil || len(parts) != 3 {
		return Place{}, false
	}
	active, activeErr := strconv.ParseBool(parts[0])
	cost, costErr := price.ParseUSD(parts[1])
	id, idErr := uuid.Parse(parts[2])
	return Place{active, cost, id}, activeErr == nil && costErr == nil && idErr == nil
}
