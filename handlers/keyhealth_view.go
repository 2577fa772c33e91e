package handlers

import (
	"strconv"
	"strings"
	"time"

	"github.com/labstack/echo/v4"
	"github.com/shopspring/decimal"

	"github.com/promptcademy/promptops/internal/notify"
	"github.com/promptcademy/promptops/internal/outreach"
	"github.com/promptcademy/promptops/internal/price"
	"github.com/promptcademy/promptops/views"
)

// keyHealthView writes out a report.
func (s *Server) keyHealthView(c echo.Context, r outreach.Report, q outreach.Query, now time.Time) views.KeyHealthPage {
	zone := s.zone(c)
	page := views.KeyHealthPage{
		Empty: r.Figures.Learners == 0, CSV: healthHref(".csv", q, ""),
		Filters: healthFilters(q), Figures: healthFigures(r.Figures, q, zone),
		Next: healthNext(r.Next, s.providerName), NextNote: nextNote(r.Figures),
		Providers: s.healthProviders(r, q), Teams: healthTeams(r.Teams, q),
		Nudges: healthNudges(r.Nudges, scopeOf(c).learner != nil, zone), Tabs: healthTabs(r.Figures, q),
		List: s.healthList(c, r, q, now),
	}
	if r.MoreTeams > 0 {
		all := q
		all.AllTeams, all.After = true, nil
		page.MoreTeams, page.AllTeams = plural(int64(r.MoreTeams), "more", "more"), healthHref("", all, "#by-team")
	}
	return page
}

// healthHref is an address of Key Health; after is what comes behind the path.
func healthHref(suffix string, q outreach.Query, anchor string) string {
	return strings.TrimSuffix(keyHealthPath+suffix+"?"+q.Values().Encode(), "?") + anchor
}

// listHref shows other learners, from the first page on, of the same team.
func listHref(q outreach.Query, show, provider string) string {
	return healthHref("", outreach.Query{Show: show, Provider: provider, TeamID: q.TeamID}, "#learners")
}

func healthFilters(q outreach.Query) views.KeyHealthFilters {
	var filters views.KeyHealthFilters
	filters.Search = q.Search
	rest := outreach.Query{Show: q.Show, Provider: q.Provider}
	for name, values := range rest.Values() {
		filters.Keep = append(filters.Keep, views.Option{Label: name, Value: values[0]})
	}
	if q.Search != "" || q.TeamID != nil {
		filters.Clear = healthHref("", rest, "")
	}
	return filters
}

func healthFigures(f outreach.Figures, q outreach.Query, zone *time.Location) []views.HealthFigure {
	number := func(n int) string { return views.Count(int64(n)) }
	share := func(n int) string { return views.Percent(int64(n), int64(f.Learners)) + " of all" }
	figures := []views.HealthFigure{
		{Label: "Learners", Value: number(f.Learners), Note: number(f.Active) + " active in 14 days", Href: listHref(q, outreach.ShowAll, "")},
		{Label: "With a usable key", Value: number(f.With), Note: share(f.With), Href: listHref(q, outreach.ShowWith, "")},
		{Label: "Without one", Value: number(f.Without), Note: share(f.Without), Href: listHref(q, outreach.ShowWithout, "")},
		{Label: "Of them active", Value: number(f.ActiveWithout), Note: "they hit fallbacks now", Href: listHref(q, outreach.ShowActive, "")},
		{Label: "Key broke", Value: number(f.Broken), Note: "all keys work", Href: listHref(q, outreach.ShowBroken, "")},
		{Label: "Fallbacks, next 30 days", Value: "Unknown", Note: plural(int64(f.OnFallback), "learner", "learners") + " on fallbacks", Href: listHref(q, outreach.ShowFallback, "")},
	}
	if f.ActiveWithout > 0 {
		figures[3].Tone = "warning"
	} else {
		figures[3].Note = "nobody at the moment"
	}
	if f.Broken > 0 {
		figures[4].Tone, figures[4].Note = "error", "invalid or out of credit"
		if f.BrokenSince != nil {
			figures[4].Note = "the first since " + f.BrokenSince.In(zone).Format("2 Jan 2006")
		}
	}
	if known := knownFallback(f.Cost, f.Unpriced); known != nil {
		figures[5].Value = views.Money(known.Round(2))
	}
	if f.Unpriced > 0 {
		figures[5].Note = views.Count(f.Unpriced) + " attempts unpriced"
	}
	return figures
}

// knownFallback is what fallbacks will cost; nil where nothing of it is known.
func knownFallback(last14Days price.USD, unpriced int64) *decimal.Decimal {
	if last14Days.IsZero() && unpriced > 0 {
		return nil
	}
	cost := outreach.Projected(last14Days).Decimal()
	return &cost
}

// spent is what fallbacks have cost; nil where nothing of it is known.
func spent(cost price.USD, unpriced int64) *decimal.Decimal {
	if cost.IsZero() && unpriced > 0 {
		return nil
	}
	d := cost.Decimal()
	return &d
}

func countOrNone(n int64) string {
	if n == 0 {
		return ""
	}
	return views.Count(n)
}

func nextNote(f outreach.Figures) string {
	known := knownFallback(f.Cost, f.Unpriced)
	if known == nil || known.IsZero() {
		return ""
	}
	return views.Money(known.Round(2)) + " in all, by the last 14 days"
}

func (s *Server) providerNames(ids []string) string {
	names := make([]string, len(ids))
	for i, id := range ids {
		names[i] = s.providerName(id)
	}
	return strings.Join(names, ", ")
}

func healthNext(learners []outreach.Learner, providerName func(string) string) []views.HealthNext {
	costs := make([]*decimal.Decimal, len(learners))
	for i, l := range learners {
		costs[i] = knownFallback(l.Cost, l.Unpriced)
	}
	amounts := views.Amounts(costs)
	next := make([]views.HealthNext, len(learners))
	for i, l := range learners {
		var needs []string
		for _, p := range l.Needs {
			needs = append(needs, providerName(p))
		}
		next[i] = views.HealthNext{
			Name: l.Called(), Href: learnerAddress(l.ID), Needs: strings.Join(needs, ", "),
			Projected: amounts[i], Unpriced: countOrNone(l.Unpriced), Bar: costPart(l.Cost, learners[0].Cost),
		}
		if len(needs) == 0 {
			next[i].Needs = "none: has keys by now"
		}
	}
	return next
}

func costPart(of, whole price.USD) float64 {
	if whole.IsZero() {
		return 0
	}
	return of.Decimal().Div(whole.Decimal()).InexactFloat64()
}

func (s *Server) healthProviders(r outreach.Report, q outreach.Query) []views.HealthProvider {
	costs := make([]*decimal.Decimal, len(r.Providers))
	for i, p := range r.Providers {
		costs[i] = knownFallback(p.Cost, p.Unpriced)
	}
	amounts := views.Amounts(costs)
	rows := make([]views.HealthProvider, len(r.Providers))
	for i, p := range r.Providers {
		rows[i] = views.HealthProvider{
			Name: s.providerName(p.Provider), With: views.Count(int64(p.With)), Share: views.Percent(int64(p.With), int64(r.Figures.Learners)),
			Broken: views.Count(int64(p.Broken)), Fallback: views.Count(int64(p.Fallback)), Projected: amounts[i], Unpriced: countOrNone(p.Unpriced),
			Bar: float64(p.With) / float64(max(r.Figures.Learners, 1)),
		}
		if p.With > 0 {
			rows[i].WithHref = listHref(q, outreach.ShowWith, p.Provider)
		}
		if p.Broken > 0 {
			rows[i].BrokenHref = listHref(q, outreach.ShowBroken, p.Provider)
		}
		if p.Fallback > 0 {
			rows[i].FallbackHref = listHref(q, outreach.ShowFallback, p.Provider)
		}
	}
	return rows
}

func healthTeams(teams []outreach.TeamRow, q outreach.Query) []views.HealthTeam {
	costs := make([]*decimal.Decimal, len(teams))
	for i, t := range teams {
		costs[i] = knownFallback(t.Cost, t.Unpriced)
	}
	amounts := views.Amounts(costs)
	rows := make([]views.HealthTeam, len(teams))
	for i, t := range teams {
		its := q
		its.TeamID = &t.TeamID
		rows[i] = views.HealthTeam{
			Name: t.Name, Href: healthHref("", outreach.Query{Show: outreach.ShowOpen, TeamID: &t.TeamID}, ""),
			Members: views.Count(int64(t.Members)), With: views.Count(int64(t.With)), Without: views.Count(int64(t.Members - t.With)),
			Share: views.Percent(int64(t.With), int64(t.Members)), Bar: float64(t.With) / float64(max(t.Members, 1)),
			Active: views.Count(int64(t.ActiveWithout)), Projected: amounts[i], Unpriced: countOrNone(t.Unpriced),
		}
		if t.ActiveWithout > 0 {
			rows[i].ActiveHref = listHref(its, outreach.ShowActive, "")
		}
	}
	return rows
}

// nudgeStates are what deliveries are called, and how bad that is.
var nudgeStates = map[notify.State][2]string{
	notify.Queued: {"Waiting to be sent", "info"}, notify.Sent: {"Sent", "success"}, notify.Failed: {"Failed", "error"}, notify.Skipped: {"Not sent", "warning"},
}

// healthNudges writes out nudges. Why one could not be delivered may tell of the
// server that sends, which is nothing for leads.
func healthNudges(all []outreach.Nudged, lead bool, zone *time.Location) []views.HealthNudge {
	rows := make([]views.HealthNudge, len(all))
	for i, n := range all {
		who := outreach.Learner{ID: n.LearnerID, Name: n.LearnerName, Email: n.LearnerEmail}
		row := views.HealthNudge{At: views.MomentOf(n.At, zone), Who: who.Called(), Href: learnerAddress(n.LearnerID), By: n.Actor, Channel: "E-mail"}
		if n.Channel == outreach.Slack {
			row.Channel = "Slack"
		}
		switch state, known := nudgeStates[n.State]; {
		case n.Skipped != "":
			row.State, row.Why = "Skipped", "The learner "+n.Skipped+"."
		case known:
			row.State, row.Tone = state[0], state[1]
			if !lead {
				row.Why = n.StateReason
			}
		default:
			row.State = "No longer on record"
		}
		rows[i] = row
	}
	return rows
}

// healthStates are what states are called, and how they look.
var healthStates = map[outreach.State][2]string{
	outreach.New: {"New", "info"}, outreach.Contacted: {"Contacted", ""}, outreach.Snoozed: {"Snoozed", ""},
	outreach.Resolved: {"Resolved", "success"}, outreach.Reopened: {"Reopened", "warning"},
}

func healthTabs(f outreach.Figures, q outreach.Query) []views.HealthTab {
	var tabs []views.HealthTab
	for _, t := range []struct {
		show, label string
		n           int
	}{
		{outreach.ShowOpen, "To do", f.New + f.Reopened}, {outreach.ShowContacted, "Contacted", f.Contacted}, {outreach.ShowSnoozed, "Snoozed", f.Snoozed},
		{outreach.ShowResolved, "Resolved", f.Resolved}, {outreach.ShowAll, "All learners", f.Learners},
	} {
		tabs = append(tabs, views.HealthTab{Label: t.label, Count: views.Count(int64(t.n)), Href: listHref(q, t.show, ""), Current: q.Show == t.show})
	}
	return tabs
}

// listTitles are what lists are called, and what is said of an empty one.
var listTitles = map[string][2]string{
	outreach.ShowOpen:      {"to do", "Nothing to do: everybody without a usable key has been talked to, or is snoozed."},
	outreach.ShowContacted: {"contacted", "Nobody was contacted who is still without a usable key."},
	outreach.ShowSnoozed:   {"snoozed", "Nobody is snoozed."},
	outreach.ShowResolved:  {"resolved", "Nobody has come by a usable key yet."},
	outreach.ShowWithout:   {"without a usable key", "Everybody has a usable key."},
	outreach.ShowActive:    {"active without a usable key", "Everybody who is active has a usable key."},
	outreach.ShowWith:      {"with a usable key", "Nobody has a usable key yet."},
	outreach.ShowBroken:    {"with a broken key", "No key is broken."},
	outreach.ShowFallback:  {"on fallbacks without a key of their own", "Nobody ran on a fallback key without a key of their own in the last 14 days."},
	outreach.ShowAll:       {"all learners", "There are no learners."},
}

func (s *Server) healthList(c echo.Context, r outreach.Report, q outreach.Query, now time.Time) views.HealthList {
	title := listTitles[q.Show]
	list := views.HealthList{Title: title[0], None: title[1], Count: plural(int64(r.Listed), "learner", "learners"), Back: q.Values().Encode()}
	if q.Provider != "" {
		list.Title += ", " + s.providerName(q.Provider)
	}
	if q.Search != "" {
		list.None = "No learner of this list has “" + q.Search + "” in the name or address. Look among all learners."
	}
	list.Tomorrow, list.NextWeek = snoozeDays(now.In(s.zone(c)))
	if r.After != nil {
		next := q
		next.After = r.After
		list.NextHref = healthHref("", next, "#learners")
	}
	if q.After != nil {
		first := q
		first.After = nil
		list.FirstHref = healthHref("", first, "#learners")
	}
	list.All = c.QueryParam("select") == "all"
	if !list.All {
		values := q.Values()
		values.Set("select", "all")
		list.SelectAll = keyHealthPath + "?" + values.Encode() + "#learners"
	}
	costs := make([]*decimal.Decimal, 0, 2*len(r.Learners))
	for _, l := range r.Learners {
		costs = append(costs, spent(l.Cost, l.Unpriced))
	}
	amounts := views.Amounts(costs)
	for i, l := range r.Learners {
		costs[i] = knownFallback(l.Cost, l.Unpriced)
	}
	projected := views.Amounts(costs)
	for i, l := range r.Learners {
		line := s.healthLearner(l, s.zone(c))
		line.Cost, line.Projected = amounts[i], projected[i]
		line.Href += "?back=" + strings.ReplaceAll(strings.ReplaceAll(list.Back, "%", "%25"), "&", "%26")
		list.Learners = append(list.Learners, line)
	}
	return list
}

// snoozeDays are the first day to snooze until and the usual one.
func snoozeDays(today time.Time) (tomorrow, nextWeek string) {
	return today.AddDate(0, 0, 1).Format(time.DateOnly), today.AddDate(0, 0, 7).Format(time.DateOnly)
}

func (s *Server) healthLearner(l outreach.Learner, zone *time.Location) views.HealthLearner {
	moment := func(at *time.Time) *views.Moment {
		if at == nil {
			return nil
		}
		m := views.MomentOf(*at, zone)
		return &m
	}
	state := healthStates[l.State]
	line := views.HealthLearner{
		ID: l.ID.String(), Choice: l.ID.String() + "." + strconv.Itoa(l.Revision), Name: l.Called(), Email: l.Email, Href: learnerAddress(l.ID),
		Teams: strings.Join(l.Teams, ", "), Usable: s.providerNames(l.Usable), Broken: s.providerNames(l.Broken), Needs: s.providerNames(l.Needs),
		Since: moment(l.BrokenSince), Active: l.Active, Unpriced: countOrNone(l.Unpriced), State: state[0], Tone: state[1],
		StateAt: moment(l.StateAt), Nudged: moment(l.NudgedAt), Closed: len(l.Usable) > 0,
	}
	if l.Until != nil {
		line.Until = "until " + l.Until.In(zone).Format("2 Jan 2006")
	}
	return line
}

func (s *Server) learnerKeysView(c echo.Context, l outreach.Learner, history []outreach.Event, nudges []outreach.Nudged, now time.Time) views.LearnerKeysPage {
	zone := s.zone(c)
	page := views.LearnerKeysPage{Learner: s.healthLearner(l, zone), Back: backTo(c.QueryParams()), Nudges: healthNudges(nudges, scopeOf(c).learner != nil, zone)}
	page.List.Tomorrow, page.List.NextWeek = snoozeDays(now.In(zone))
	orNone := func(text string) string {
		if text == "" {
			return "None"
		}
		return text
	}
	money := func(d *decimal.Decimal) string {
		if d == nil {
			return "Unknown"
		}
		return views.MoneyExact(*d)
	}
	ran := views.Fact{Label: "Last run", Value: "None in 14 days"}
	if l.LastRunAt != nil {
		ran.Value = views.MomentOf(*l.LastRunAt, zone).Local
	}
	cost := views.Fact{Label: "Fallbacks, last 14 days", Value: money(spent(l.Cost, l.Unpriced))}
	if l.Unpriced > 0 {
		cost.Note = "and " + plural(l.Unpriced, "attempt", "attempts") + " without a price"
	}
	page.Facts = []views.Fact{
		{Label: "Teams", Value: orNone(page.Learner.Teams)},
		{Label: "Usable keys", Value: orNone(page.Learner.Usable)},
		{Label: "Broken keys", Value: orNone(page.Learner.Broken), Since: page.Learner.Since},
		{Label: "On fallback", Value: orNone(page.Learner.Needs)},
		ran, cost,
		{Label: "Fallbacks, next 30 days", Value: money(knownFallback(l.Cost, l.Unpriced)), Note: "by the last 14"},
	}
	for _, e := range history {
		page.History = append(page.History, healthEvent(e, zone))
	}
	if len(history) > 0 {
		_, refused := outreach.Act(l.Status(), outreach.Undo, time.Time{}, len(l.Usable) > 0, &history[0])
		page.Undo = refused == ""
	}
	return page
}

// eventNames are what entries of a history are called.
var eventNames = map[string]string{
	"contacted": "Marked as contacted", "snoozed": "Snoozed", "reopened": "Reopened", "resolved": "Resolved", "nudged": "Nudged", "undone": "Undone",
}

func healthEvent(e outreach.Event, zone *time.Location) views.HealthEvent {
	event := views.HealthEvent{At: views.MomentOf(e.At, zone), What: eventNames[e.Kind], By: e.Actor, Note: e.Note}
	switch {
	case e.Kind == "snoozed" && e.ToUntil != nil:
		event.What += " until " + e.ToUntil.In(zone).Format("2 Jan 2006")
	case e.Kind == "undone":
		event.What += ": " + strings.ToLower(healthStates[outreach.State(e.ToState)][0]) + " again"
	case e.OperatorID == nil && (e.Kind == "resolved" || e.Kind == "reopened"):
		event.By = "By itself"
	}
	return event
}
