package handlers

import (
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/labstack/echo/v4"

	"github.com/promptcademy/promptops/internal/fault"
	"github.com/promptcademy/promptops/internal/outreach"
	"github.com/promptcademy/promptops/views"
)

const (
	nudgePath         = keyHealthPath + "/nudge"
	nudgeSettingsPath = keyHealthPath + "/settings"
)

// nudgePage is GET /keys/health/nudge: the message as it is usually written.
func (s *Server) nudgePage(c echo.Context) error {
	settings, err := s.Outreach.Settings(c.Request().Context())
	if err != nil {
		return err
	}
	return s.renderNudge(c, c.QueryParams(), settings.Template(c.QueryParam("channel")))
}

// nudge is POST /keys/health/nudge: it shows the message as it was changed, or
// sends it.
func (s *Server) nudge(c echo.Context) error {
	form, err := formOf(c)
	if err != nil {
		return err
	}
	text := outreach.Template{Subject: strings.TrimSpace(form.Get("subject")), Text: strings.ReplaceAll(form.Get("text"), "\r\n", "\n")}
	if form.Get("step") != "send" {
		return s.renderNudge(c, form, text)
	}
	scope, n, err := s.nudgeOf(c, form, text)
	if err != nil {
		return err
	}
	if _, bad := invalid(n.Check()); bad {
		return s.renderNudge(c, form, text)
	}
	recipients, err := s.Outreach.Nudge(c.Request().Context(), scope, n, s.Now())
	if err != nil {
		return err
	}
	sent := 0
	for _, r := range recipients {
		if r.Skipped == "" {
			sent++
		}
	}
	counts := url.Values{"verb": {n.Channel}, "done": {strconv.Itoa(sent)}, "skipped": {strconv.Itoa(len(recipients) - sent)}}
	setFlash(c, flashOutreach+"?"+counts.Encode())
	return c.Redirect(http.StatusSeeOther, strings.TrimSuffix(keyHealthPath+"?"+backTo(form), "?"))
}

// nudgeOf is the nudge that a form asks for.
func (s *Server) nudgeOf(c echo.Context, form url.Values, text outreach.Template) (outreach.Scope, outreach.Nudge, error) {
	chosen, err := chosenLearners(form)
	if err != nil {
		return outreach.Scope{}, outreach.Nudge{}, err
	}
	scope, err := outreachScope(c, nil)
	n := outreach.Nudge{Channel: form.Get("channel"), Template: text, KeysURL: s.keysURL(), Provider: s.providerName, By: actorOf(c)}
	for _, l := range chosen {
		n.Learners = append(n.Learners, l.ID)
	}
	return scope, n, err
}

// keysURL is where learners add a key if nobody says otherwise: the settings of
// the frontend.
func (s *Server) keysURL() string {
	if len(s.CORSOrigins) == 0 {
		return ""
	}
	return s.CORSOrigins[0] + "/settings/api-keys"
}

// renderNudge shows what will become of a nudge.
func (s *Server) renderNudge(c echo.Context, form url.Values, text outreach.Template) error {
	scope, n, err := s.nudgeOf(c, form, text)
	if err != nil {
		return err
	}
	if len(n.Learners) == 0 {
		setFlash(c, flashNobodyChosen)
		return c.Redirect(http.StatusSeeOther, strings.TrimSuffix(keyHealthPath+"?"+backTo(form), "?")+"#learners")
	}
	ctx := c.Request().Context()
	recipients, err := s.Outreach.Prepare(ctx, scope, n, s.Now())
	if err != nil {
		return err
	}
	settings, err := s.Outreach.Settings(ctx)
	if err != nil {
		return err
	}
	setup, err := s.Channels.Setup(ctx, n.Channel)
	if err != nil {
		return err
	}
	page := nudgeView(n, recipients, settings, form.Get("as"))
	page.Page, page.Back, page.Lead = s.page(c, "Nudge"), backTo(form), scope.As != nil
	if !setup.Configured() || !setup.Enabled {
		page.NotSetUp = setup.Name() + " is not set up or switched off, so this message will not go out. An administrator changes that in Settings, Channels."
	}
	status := http.StatusOK
	if len(page.Problems) > 0 {
		status = http.StatusUnprocessableEntity
	}
	return s.render(c, status, views.Nudge(page))
}

// nudgeView writes out a nudge before it is sent.
func nudgeView(n outreach.Nudge, recipients []outreach.Recipient, settings outreach.Settings, as string) views.NudgePage {
	page := views.NudgePage{
		Channel: n.Channel, Subject: n.Template.Subject, Text: n.Template.Text, Placeholders: placeholders(n.Channel),
		Days: plural(int64(settings.NudgeDays), "day", "days"),
	}
	if f, bad := invalid(n.Check()); bad {
		page.Problems = problemsByField(f)
	}
	if settings.KeysURL != "" {
		n.KeysURL = settings.KeysURL
	}
	for _, id := range n.Learners {
		page.Learners = append(page.Learners, id.String())
	}
	var named []outreach.Learner
	shown := 0
	for _, r := range recipients {
		recipient := views.NudgeRecipient{Name: r.Called(), Email: r.Email, Why: r.Skipped}
		if r.Skipped != "" {
			page.Not = append(page.Not, recipient)
			continue
		}
		if r.ID.String() == as {
			shown = len(named)
		}
		page.Gets, named = append(page.Gets, recipient), append(named, r.Learner)
	}
	if len(page.Problems) > 0 || len(named) == 0 {
		return page
	}
	page.Preview = &views.NudgePreview{}
	if n.Channel == outreach.Slack {
		page.Preview.To, page.Preview.Text = "Your company’s channel", n.Template.ForChannel(named, n.Provider, n.KeysURL).Text
		return page
	}
	message := n.Template.ForLearner(named[shown], n.Provider, n.KeysURL)
	page.Preview.To, page.Preview.Subject, page.Preview.Text = named[shown].Email, message.Subject, message.Text
	for i, l := range named {
		page.Preview.Of = append(page.Preview.Of, views.Option{Value: l.ID.String(), Label: l.Called(), Selected: i == shown})
	}
	return page
}

func placeholders(channel string) []views.Placeholder {
	var all []views.Placeholder
	for _, p := range outreach.Placeholders(channel) {
		all = append(all, views.Placeholder{Name: p.Name, About: p.About})
	}
	return all
}

// nudgeSettingsPage is GET /keys/health/settings.
func (s *Server) nudgeSettingsPage(c echo.Context) error {
	settings, err := s.Outreach.Settings(c.Request().Context())
	if err != nil {
		return err
	}
	return s.renderNudgeSettings(c, settings, strconv.Itoa(settings.NudgeDays), settings.ChangedAt.Format(time.RFC3339Nano), nil)
}

// setNudgeSettings is POST /keys/health/settings.
func (s *Server) setNudgeSettings(c echo.Context) error {
	form, err := formOf(c)
	if err != nil {
		return err
	}
	wanted, err := outreach.ParseSettings(form)
	if err == nil {
		seen, _ := time.Parse(time.RFC3339Nano, form.Get("seen")) // anything else was never shown: a conflict
		err = s.Outreach.SaveSettings(c.Request().Context(), wanted, seen, actorOf(c), s.Now())
	}
	if kind := fault.KindOf(err); err != nil && (kind == fault.Invalid || kind == fault.Conflict) {
		return s.renderNudgeSettings(c, wanted, form.Get("nudgeDays"), form.Get("seen"), asFault(err))
	}
	if err != nil {
		return err
	}
	setFlash(c, flashMessagesSaved)
	return c.Redirect(http.StatusSeeOther, nudgeSettingsPath)
}

// renderNudgeSettings shows settings; refused is why they could not be saved, nil
// on a first look.
func (s *Server) renderNudgeSettings(c echo.Context, settings outreach.Settings, days, seen string, refused *fault.Error) error {
	page := views.NudgeSettingsPage{
		Page: s.page(c, "Messages to learners"), Seen: seen, NudgeDays: days, KeysURL: settings.KeysURL,
		EmailSubject: settings.Email.Subject, EmailText: settings.Email.Text, SlackText: settings.Slack.Text,
		EmailPlaceholders: placeholders(outreach.Email), SlackPlaceholders: placeholders(outreach.Slack),
	}
	if !settings.ChangedAt.IsZero() {
		changed := views.MomentOf(settings.ChangedAt, s.zone(c))
		page.Changed = &changed
	}
	status := http.StatusOK
	switch {
	case refused == nil:
	case refused.Kind == fault.Invalid:
		status, page.Problem, page.Problems = statusOf[refused.Kind], "Nothing was saved: what is marked below has to change first.", problemsByField(refused)
	default:
		// What was typed stays; saving again is a decision to have it so.
		now, err := s.Outreach.Settings(c.Request().Context())
		if err != nil {
			return err
		}
		status, page.Problem = statusOf[refused.Kind], "Nothing was saved yet: somebody else changed these settings while this page was open. Open it in another tab to see how they are now; save again to have what stands below."
		page.Seen = now.ChangedAt.Format(time.RFC3339Nano)
	}
	return s.render(c, status, views.NudgeSettings(page))
}

// learnerAddress is a learner's page.
func learnerAddress(id uuid.UUID) string { return keyHealthPath + "/learners/" + id.String() }
