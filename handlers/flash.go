package handlers

import (
	"net/http"
	"net/url"
	"strings"

	"github.com/labstack/echo/v4"

	"github.com/promptcademy/promptops/views"
)

// flashCookie names what the next page should say of the form just sent. It
// holds a name of the table below, and numbers, never text.
const flashCookie = "promptops-flash"

const (
	flashPasswordSaved = "password-saved"
	flashDemoCleared   = "demo-cleared"
	flashBudgetsSaved  = "budgets-saved" // and which limits, from what to what: "?dailyUsd=25&dailyUsd=30"
	flashBudgetsSame   = "budgets-same"
	flashChannelSaved  = "channel-saved"
	flashChannelSame   = "channel-same"
	flashTestSent      = "test-sent"
	flashTestFailed    = "test-failed"
	flashSendingAgain  = "sending-again"
	flashAuditWhole    = "audit-whole"
	flashOutreach      = "outreach" // and what was done with how many: "?verb=contacted&done=3"
	flashNobodyChosen  = "nobody-chosen"
	flashMessagesSaved = "messages-saved"

	flashIncidentStarted      = "incident-started"
	flashIncidentSaved        = "incident-saved"
	flashIncidentAcknowledged = "incident-acknowledged"
	flashIncidentMitigated    = "incident-mitigated"
	flashIncidentResolved     = "incident-resolved"
	flashIncidentReopened     = "incident-reopened"
	flashNoteAdded            = "note-added"
	flashNoteChanged          = "note-changed"
	flashNoteDeleted          = "note-deleted"
	flashReadingRecorded      = "reading-recorded"
	flashFollowUpAdded        = "follow-up-added"
	flashFollowUpChanged      = "follow-up-changed"

	flashOperatorSaved    = "operator-saved"
	flashOperatorDisabled = "operator-disabled"
	flashOperatorEnabled  = "operator-enabled"
	flashSessionsEnded    = "sessions-ended"
	flashTeamMade         = "team-made"
	flashTeamRenamed      = "team-renamed"
	flashTeamShares       = "team-shares"
	flashTeamPrivate      = "team-private"
	flashTeamDeleted      = "team-deleted"
	flashMemberAdded      = "member-added"
	flashMemberRemoved    = "member-removed"
	flashMemberLeads      = "member-leads"
	flashMemberLeadsNot   = "member-leads-not"

	flashViewSaved    = "view-saved"
	flashViewFirst    = "view-first"
	flashViewNotFirst = "view-not-first"
	flashViewDeleted  = "view-deleted"
	flashViewRestored = "view-restored"
	flashViewNameless = "view-nameless"
	flashViewTaken    = "view-taken"

	flashPriceSet     = "price-set"
	flashPriceSame    = "price-same"
	flashPriceRemoved = "price-removed"

	flashProcedureMade      = "procedure-made"
	flashProcedureSaved     = "procedure-saved"
	flashProcedureMerged    = "procedure-merged"
	flashProcedureRestored  = "procedure-restored"
	flashProcedureTakenOver = "procedure-taken-over"
	flashProcedureRemoved   = "procedure-removed"
)

var flashes = map[string]views.Flash{
	flashPasswordSaved: {Kind: "success", Text: "Your password is saved. Other browsers in which you were signed in are signed out."},
	flashDemoCleared:   {Kind: "success", Text: "The demo data is gone. Add a real fallback key on Fallback Keys."},
	flashBudgetsSaved:  {Kind: "success", Text: "Saved, for every run that starts from now on."},
	flashChannelSaved:  {Kind: "success", Text: "Saved, for everything that is sent from now on. Send a test to see whether it works."},
	flashChannelSame:   {Kind: "info", Text: "Nothing was changed: the channel is set up like that already."},
	flashTestSent:      {Kind: "success", Text: "The test notification was taken by the other side. Look whether it has arrived."},
	flashTestFailed:    {Kind: "error", Text: "The test notification was not sent. The reason stands under Deliveries, in the first line."},
	flashSendingAgain:  {Kind: "success", Text: "It is queued again, and sent within seconds."},
	flashAuditWhole:    {Kind: "success", Text: "Every entry was read, and each is as it was written."},
	flashBudgetsSame:   {Kind: "info", Text: "Nothing was changed: these limits hold already."},

	flashIncidentStarted:      {Kind: "success", Text: "The incident is started, and every page says so. Write notes while you work on it."},
	flashIncidentSaved:        {Kind: "success", Text: "Saved."},
	flashIncidentAcknowledged: {Kind: "success", Text: "Acknowledged: everybody can see that you look after it."},
	flashIncidentMitigated:    {Kind: "success", Text: "Marked as mitigated. Resolve it when the cause is gone."},
	flashIncidentResolved:     {Kind: "success", Text: "Resolved. Its figures and its time line stay as they are now; write the post-mortem while you remember."},
	flashIncidentReopened:     {Kind: "success", Text: "Reopened: its figures and its time line go on."},
	flashNoteAdded:            {Kind: "success", Text: "The note is on the time line."},
	flashNoteChanged:          {Kind: "success", Text: "The note is changed. What it said before can still be read."},
	flashNoteDeleted:          {Kind: "success", Text: "The note is taken back, and not in the post-mortem."},
	flashReadingRecorded:      {Kind: "success", Text: "What the check says now is on the time line."},
	flashFollowUpAdded:        {Kind: "success", Text: "The follow-up is added."},
	flashFollowUpChanged:      {Kind: "success", Text: "The follow-up is changed."},
	flashOutreach:             {Kind: "success"},
	flashNobodyChosen:         {Kind: "warning", Text: "Nobody was chosen: tick the learners in the list first."},
	flashMessagesSaved:        {Kind: "success", Text: "Saved. New nudges begin with these texts."},

	flashOperatorSaved:    {Kind: "success", Text: "Saved. It takes effect with the operator’s next click."},
	flashOperatorDisabled: {Kind: "success", Text: "Disabled, and signed out everywhere."},
	flashOperatorEnabled:  {Kind: "success", Text: "Enabled: this operator may sign in again."},
	flashSessionsEnded:    {Kind: "success", Text: "Signed out there."},
	flashTeamMade:         {Kind: "success", Text: "The team is made. Add its members."},
	flashTeamRenamed:      {Kind: "success", Text: "Renamed, here and on the platform."},
	flashTeamShares:       {Kind: "success", Text: "Leads of this team may read its prompts from now on."},
	flashTeamPrivate:      {Kind: "success", Text: "Prompts of this team are private from now on."},
	flashTeamDeleted:      {Kind: "success", Text: "The team is deleted. What it spent stays in the books."},
	flashMemberAdded:      {Kind: "success", Text: "Added to the team."},
	flashMemberRemoved:    {Kind: "success", Text: "Removed from the team."},
	flashMemberLeads:      {Kind: "success", Text: "Leads the team from now on. To look at its figures here, they need to be an operator, too: see Settings, Operators."},
	flashMemberLeadsNot:   {Kind: "success", Text: "Is a member from now on, and sees nothing of the others."},

	flashViewSaved:    {Kind: "success", Text: "Saved. It stands in the menu of views."},
	flashViewFirst:    {Kind: "success", Text: "The page opens with this view from now on. “All” in the menu shows it without."},
	flashViewNotFirst: {Kind: "success", Text: "The page opens without a view again."},
	flashViewDeleted:  {Kind: "success", Text: "The view is deleted. For an hour, Undo in the menu of views brings it back."},
	flashViewRestored: {Kind: "success", Text: "The view is back."},
	flashViewNameless: {Kind: "warning", Text: "Nothing was saved: a view needs a name of at most 60 characters, and filters that the page understands."},
	flashViewTaken:    {Kind: "warning", Text: "Nothing was saved: you have a view of that name already, or 50 of this page. Take another name, or delete one first."},

	flashPriceSet:     {Kind: "success", Text: "Saved: it prices every run that starts while it is in force. What attempts cost already stays as it is; recompute it below if it should not."},
	flashPriceSame:    {Kind: "info", Text: "Nothing was changed: that is how it is already."},
	flashPriceRemoved: {Kind: "success", Text: "Removed. What attempts cost that it priced stays as it is until you recompute it."},

	flashProcedureMade:      {Kind: "success", Text: "The procedure is in the runbook."},
	flashProcedureSaved:     {Kind: "success", Text: "Saved. The version before stays in the history."},
	flashProcedureMerged:    {Kind: "info", Text: "Saved. Somebody else had changed other lines meanwhile: this text holds their changes and yours. Read it once."},
	flashProcedureRestored:  {Kind: "success", Text: "Restored, as a new version."},
	flashProcedureTakenOver: {Kind: "success", Text: "The built-in text is in force. What was edited is in the history."},
	flashProcedureRemoved:   {Kind: "success", Text: "Removed from the runbook. Its versions are kept: see Removed, at the end of the list."},
}

func setFlash(c echo.Context, name string) {
	c.SetCookie(&http.Cookie{Name: flashCookie, Value: name, Path: "/", MaxAge: 60, HttpOnly: true, SameSite: http.SameSiteLaxMode})
}

// takeFlash returns what to say and sees to it that it is said once.
func takeFlash(c echo.Context) *views.Flash {
	cookie, err := c.Cookie(flashCookie)
	if err != nil {
		return nil
	}
	c.SetCookie(&http.Cookie{Name: flashCookie, Path: "/", MaxAge: -1})
	name, numbers, _ := strings.Cut(cookie.Value, "?")
	flash, ok := flashes[name]
	if !ok {
		values, _ := url.ParseQuery(numbers)
		return keyFlash(name, values)
	}
	if name == flashOutreach {
		counts, _ := url.ParseQuery(numbers)
		flash.Text = views.OutreachDone(counts)
		if counts.Get("done") == "0" {
			flash.Kind = "warning"
		}
	}
	if name == flashBudgetsSaved {
		changes, _ := url.ParseQuery(numbers)
		flash.Text += views.LimitChanges(changes)
	}
	return &flash
}

// refererPath is the page that a form was sent from.
func refererPath(c echo.Context) string {
	from, err := url.Parse(c.Request().Referer())
	if err != nil || from.Host != c.Request().Host {
		return "/"
	}
	return localPath(from.RequestURI())
}
