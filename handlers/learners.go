package handlers

import (
	"cmp"
	"net/http"
	"net/url"
	"time"

	"github.com/google/uuid"
	"github.com/labstack/echo/v4"

	"github.com/promptcademy/promptops/internal/activity"
	"github.com/promptcademy/promptops/internal/fault"
	"github.com/promptcademy/promptops/views"
)

// entriesOnPage is how much of a timeline a page has.
const entriesOnPage = 50

// learnerPage is GET /learners/:id.
func (s *Server) learnerPage(c echo.Context) error {
	id, err := uuid.Parse(c.Param("id"))
	if err != nil {
		return fault.New(fault.NotFound, "This is no id of a learner.").Because(err)
	}
	from, err := activity.ParsePlace(c.QueryParam("before"))
	if err != nil {
		return err
	}
	store, query, err := s.activityOf(c, activity.Query{})
	if err != nil {
		return err
	}
	ctx := c.Request().Context()
	learner, err := store.Learner(ctx, id, query.TeamIDs, s.Now(), s.zone(c))
	if err != nil {
		return err
	}
	events, next, err := store.Timeline(ctx, id, query.TeamIDs, from, entriesOnPage)
	if err != nil {
		return err
	}
	page := learnerView(learner, events, s.zone(c), s.providerName)
	page.Page = s.page(c, cmp.Or(learner.Email, "Learner"))
	if from.String() != "" {
		page.Newest = learnerPath(id)
	}
	if next.String() != "" {
		page.Older = learnerPath(id) + "?" + url.Values{"before": {next.String()}}.Encode()
	} else {
		page.Entries = append(page.Entries, views.TimelineEntry{At: page.SignedUp, Icon: "check", Text: "Signed up"})
	}
	return s.render(c, http.StatusOK, views.Learner(page))
}

// learnerView writes out a learner.
func learnerView(l activity.Learner, events []activity.Event, zone *time.Location, providerName func(string) string) views.LearnerPage {
	page := views.LearnerPage{
		ID: l.ID.String(), Email: cmp.Or(l.Email, "A learner without an address"), Closed: l.Closed, SignedUp: views.MomentOf(l.SignedUpAt, zone),
		Figures: learnerFigures(l, zone), Runs: "/runs?" + url.Values{"learner": {l.Email}, "range": {"180d"}}.Encode(),
	}
	for _, t := range l.Teams {
		page.Teams = append(page.Teams, views.LearnerTeam{Name: t.Name, Role: t.Role, Href: "/activity?team=" + t.TeamID.String()})
	}
	for _, k := range l.Keys {
		key := views.LearnerKey{Provider: providerName(k.Provider), Status: k.Status, Added: views.MomentOf(k.AddedAt, zone)}
		if k.LastFour != "" {
			key.Name = views.RunKey{Label: k.Label, LastFour: k.LastFour}.String()
		}
		page.Keys = append(page.Keys, key)
	}
	for _, e := range events {
		page.Entries = append(page.Entries, timelineEntry(e, zone, providerName))
	}
	return page
}

func learnerFigures(l activity.Learner, zone *time.Location) []views.KeyFigure {
	runs := views.KeyFigure{Label: "Runs", Value: views.Count(l.Runs), Note: "none yet"}
	if l.LastRunAt != nil {
		runs.Note = "last on " + l.LastRunAt.In(zone).Format("2 Jan 2006")
	}
	unpriced := l.Own.Unpriced + l.Fallback.Unpriced + l.Other.Unpriced
	return []views.KeyFigure{
		runs,
		costOf("Cost on own keys", l.Own),
		costOf("Cost on fallback keys", l.Fallback),
		{Label: "Unpriced", Value: views.Count(unpriced), Note: "attempts in no sum"},
		{Label: "Lessons completed", Value: views.Count(l.Completed), Note: views.Count(l.Started) + " started"},
		{Label: "Own keys", Value: views.Count(int64(len(l.Keys))), Note: views.Count(healthy(l.Keys)) + " healthy"},
	}
}

func healthy(keys []activity.Key) (n int64) {
	for _, k := range keys {
		if k.Status == "healthy" {
			n++
		}
	}
	return n
}

func costOf(label string, spent activity.Spent) views.KeyFigure {
	f := views.KeyFigure{Label: label, Value: "Unknown", Note: "no attempt has a price"}
	if spent.Known() {
		f.Value, f.Exact, f.Note = views.Money(spent.Cost.Decimal()), views.MoneyExact(spent.Cost.Decimal()), "of what has a price"
	}
	return f
}

// templateVerbs say what was done with a template.
var templateVerbs = map[string]string{
	"created": "Created a template", "viewed": "Viewed a template", "used": "Used a template", "forked": "Forked a template", "shared": "Shared a template",
}

func timelineEntry(e activity.Event, zone *time.Location, providerName func(string) string) views.TimelineEntry {
	at := views.MomentOf(e.At, zone)
	switch e.Kind {
	case "run":
		return views.RunEntry(at, "/runs/"+e.Ref, e.What, e.Detail)
	case "key_status":
		return views.KeyEntry(at, providerName(e.What), e.Detail)
	case "key_added":
		return views.TimelineEntry{At: at, Icon: "key", Text: "Added a key for " + providerName(e.What)}
	case "lesson_started":
		return views.TimelineEntry{At: at, Icon: "activity", Text: "Started a lesson", Note: cmp.Or(e.What, "not published")}
	case "lesson_completed":
		entry := views.TimelineEntry{At: at, Icon: "smoke", Text: "Completed a lesson", Note: cmp.Or(e.What, "not published")}
		if e.Detail != "" {
			entry.Note += ", score " + e.Detail
		}
		return entry
	default:
		return views.TimelineEntry{At: at, Icon: "runbook", Text: cmp.Or(templateVerbs[e.Detail], e.Detail), Note: cmp.Or(e.What, "a private one")}
	}
}
