package handlers

import (
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"github.com/google/uuid"
	"github.com/labstack/echo/v4"

	"github.com/promptcademy/promptops/internal/fault"
	"github.com/promptcademy/promptops/internal/notify"
	"github.com/promptcademy/promptops/views"
)

const (
	channelsPath   = "/settings/channels"
	maxChannelForm = 64 << 10
	deliveriesPage = 50
)

// channelsPage is GET /settings/channels.
func (s *Server) channelsPage(c echo.Context) error {
	return s.renderChannels(c, "", nil, nil)
}

// setChannel is POST /settings/channels/:channel.
func (s *Server) setChannel(c echo.Context) error {
	c.Request().Body = http.MaxBytesReader(c.Response(), c.Request().Body, maxChannelForm)
	form, err := c.FormParams()
	if err != nil {
		if f := asFault(err); f.Kind == fault.TooLarge {
			return f
		}
		return fault.New(fault.Malformed, "The form could not be read.").Because(err)
	}
	channel := c.Param("channel")
	wanted, err := notify.ParseSetup(channel, form)
	if err != nil {
		return s.renderChannels(c, channel, form, err)
	}
	revision, err := strconv.Atoi(form.Get("revision"))
	if err != nil {
		revision = -1 // was never shown: a conflict
	}
	changed, err := s.Channels.Set(c.Request().Context(), wanted, revision, actorOf(c), s.Now())
	if err != nil {
		return s.renderChannels(c, channel, form, err)
	}
	setFlash(c, flashChannelSame)
	if changed {
		setFlash(c, flashChannelSaved)
	}
	return c.Redirect(http.StatusSeeOther, channelsPath)
}

// testChannel is POST /settings/channels/:channel/test.
func (s *Server) testChannel(c echo.Context) error {
	operator := callerOf(c).operator
	d, err := s.Notifications.Test(c.Request().Context(), c.Param("channel"), operator.Email, actorOf(c), s.Now())
	if err != nil {
		return err
	}
	setFlash(c, flashTestFailed)
	if d.State == notify.Sent {
		setFlash(c, flashTestSent)
	}
	return c.Redirect(http.StatusSeeOther, channelsPath+"#deliveries")
}

// sendAgain is POST /settings/channels/deliveries/:id/again.
func (s *Server) sendAgain(c echo.Context) error {
	id, err := uuid.Parse(c.Param("id"))
	if err != nil {
		return fault.New(fault.NotFound, "There is no such delivery.")
	}
	if err := s.Channels.Again(c.Request().Context(), id, actorOf(c), s.Now()); err != nil {
		return err
	}
	setFlash(c, flashSendingAgain)
	return c.Redirect(http.StatusSeeOther, channelsPath+"#deliveries")
}

// renderChannels shows the page; form is what was sent for one channel and could
// not be saved because of refused, nil on a first look.
func (s *Server) renderChannels(c echo.Context, channel string, form url.Values, refused error) error {
	f, isFault := errors.AsType[*fault.Error](refused)
	if refused != nil && (!isFault || f.Kind != fault.Invalid && f.Kind != fault.Conflict) {
		return refused
	}
	ctx, status := c.Request().Context(), http.StatusOK
	page := views.ChannelsPage{}
	for _, name := range notify.Channels() {
		setup, err := s.Channels.Setup(ctx, name)
		if err != nil {
			return err
		}
		card := channelCard(setup, s.zone(c), s.Now())
		if f != nil && name == channel {
			status = statusOf[f.Kind]
			refuseChannel(&card, form, f)
		}
		page.Channels = append(page.Channels, card)
	}
	state, before := notify.State(c.QueryParam("state")), uuid.Nil
	if text := c.QueryParam("before"); text != "" {
		before, _ = uuid.Parse(text) // anything else: from the newest on
	}
	list, err := s.Channels.List(ctx, notify.Filter{State: state}, before, deliveriesPage+1)
	if err != nil {
		return err
	}
	if len(list) > deliveriesPage {
		list = list[:deliveriesPage]
		page.Older = deliveriesHref(state, list[len(list)-1].ID.String())
	}
	for _, d := range list {
		page.Deliveries = append(page.Deliveries, deliveryRow(d, s.zone(c)))
	}
	page.Filtered = state != "" || before != uuid.Nil
	page.Filters = deliveryFilters(state)
	page.Page = s.page(c, "Channels")
	return s.render(c, status, views.Channels(page))
}

// refuseChannel puts back what was typed, and says why it was not saved.
func refuseChannel(card *views.ChannelCard, form url.Values, f *fault.Error) {
	problems := problemsByField(f)
	switch {
	case f.Kind == fault.Conflict:
		// Sent once more, the form takes the place of what holds by now.
		card.Problem = "Nothing was saved yet: " + somebody(card.Changed) + " changed this channel while the page was open. Below is what you typed; save again to have it so, or open the page anew to see what holds."
	case len(problems) == 0:
		card.Problem = "Nothing was saved: " + f.Message
	default:
		card.Problem, card.Revision = "Nothing was saved: what is marked below cannot be used.", form.Get("revision")
	}
	card.Enabled = form.Get("enabled") != ""
	card.Fields = views.ChannelFields(card.ID, withoutSecrets(form), problems)
}

// withoutSecrets is a form to be shown again: what is masked stays so, and a
// password has to be typed once more.
func withoutSecrets(form url.Values) url.Values {
	shown := url.Values{}
	for field, values := range form {
		shown[field] = values
	}
	for _, field := range []string{"password", "key"} {
		if form.Get(field) != notify.Kept {
			shown.Del(field)
		}
	}
	return shown
}

func somebody(last *views.Changed) string {
	if last == nil || last.By == "" {
		return "somebody"
	}
	return last.By
}

// channelAbout says what each channel is for.
var channelAbout = map[string]string{
	notify.Email:   "Through your own mail server. Warnings go to the addresses under “To”, nudges to the learner.",
	notify.Slack:   "Into one channel of a workspace, by an incoming webhook.",
	notify.Webhook: "To a program of yours, as signed JSON.",
}

func channelCard(setup notify.Setup, zone *time.Location, now time.Time) views.ChannelCard {
	card := views.ChannelCard{
		ID: setup.Channel, Name: map[string]string{notify.Webhook: "Webhook"}[setup.Channel], About: channelAbout[setup.Channel],
		Ready: setup.Configured(), Enabled: setup.Enabled, Revision: strconv.Itoa(setup.Revision),
		Fields: views.ChannelFields(setup.Channel, setup.Values(), nil), Sent: momentIf(setup.LastSentAt, zone),
	}
	if card.Name == "" {
		card.Name = setup.Name()
	}
	switch {
	case !setup.Configured():
		card.State = "Not set up"
	case setup.Enabled:
		card.State, card.Kind = "On", "success"
	default:
		card.State, card.Kind = "Off", "warning"
	}
	if setup.FailedAt != nil && (setup.LastSentAt == nil || setup.LastSentAt.Before(*setup.FailedAt)) {
		card.Failed, card.Failure = momentIf(setup.FailedAt, zone), setup.Failure
		if setup.RestUntil != nil && setup.RestUntil.After(now) {
			card.Resting = momentIf(setup.RestUntil, zone)
		}
	}
	if !setup.ChangedAt.IsZero() {
		card.Changed = &views.Changed{At: views.MomentOf(setup.ChangedAt, zone), By: setup.ChangedAs}
		if setup.ChangedBy != nil && setup.ChangedAs == "" {
			card.Changed.By = "an operator who is gone"
		}
	}
	return card
}

func momentIf(at *time.Time, zone *time.Location) *views.Moment {
	if at == nil {
		return nil
	}
	return new(views.MomentOf(*at, zone))
}

func deliveriesHref(state notify.State, before string) string {
	query := url.Values{}
	if state != "" {
		query.Set("state", string(state))
	}
	if before != "" {
		query.Set("before", before)
	}
	if len(query) == 0 {
		return channelsPath + "#deliveries"
	}
	return channelsPath + "?" + query.Encode() + "#deliveries"
}

// deliveryStates say how a state is called and how bad it is.
var deliveryStates = map[notify.State][2]string{
	notify.Queued: {"Queued", "info"}, notify.Sent: {"Sent", "success"}, notify.Failed: {"Failed", "error"}, notify.Skipped: {"Skipped", "warning"},
}

func deliveryFilters(active notify.State) []views.DeliveryFilter {
	filters := []views.DeliveryFilter{{Label: "All", Href: deliveriesHref("", ""), Active: active == ""}}
	for _, state := range notify.States() {
		filters = append(filters, views.DeliveryFilter{Label: deliveryStates[state][0], Href: deliveriesHref(state, ""), Active: active == state})
	}
	return filters
}

// purposes are what deliveries are for, in words.
var purposes = map[string]string{"nudge": "Nudge", "key_alert": "Key alert", "test": "Test"}

func deliveryRow(d notify.Delivery, zone *time.Location) views.DeliveryRow {
	row := views.DeliveryRow{
		ID: d.ID.String(), At: views.MomentOf(d.CreatedAt, zone), Channel: map[string]string{notify.Email: "E-mail", notify.Slack: "Slack", notify.Webhook: "Webhook"}[d.Channel],
		To: d.To, Subject: d.Subject, Purpose: purposes[d.Purpose], State: deliveryStates[d.State][0], Kind: deliveryStates[d.State][1],
		Reason: d.Reason, CanRetry: d.State == notify.Failed || d.State == notify.Skipped,
	}
	if row.Purpose == "" {
		row.Purpose = d.Purpose
	}
	if d.Attempts > 1 || d.Attempts > 0 && d.State == notify.Queued {
		row.Note = fmt.Sprintf("after %d attempts", d.Attempts)
		if d.Attempts == 1 {
			row.Note = "after 1 attempt"
		}
		if d.State == notify.Queued {
			row.Note += ", next " + views.MomentOf(d.DueAt, zone).Local
		}
	}
	return row
}
