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

	flashProcedureMade      = "procedure-made"
	flashProcedureSaved     = "procedure-saved"
	flashProcedureMerged    = "procedure-merged"
	flashProcedureRestored  = "procedure-restored"
	flashProcedureTakenOver = "procedure-taken-over"
	flashProcedureRemoved   = "procedure-removed"
)

var flashes = map[string]views.Flash{
	flashPasswordSaved: {Kind: "success", Text: "Your password is saved. Other browsers in which you were signed in are signed out."},
	flashDemoCleared:   {Kind: "success", Text: "The demo data is gone. Add a real fallback key with promptops key add."},
	flashBudgetsSaved:  {Kind: "success", Text: "Saved, for every run that starts from now on."},
	flashChannelSaved:  {Kind: "success", Text: "Saved, for everything that is sent from now on. Send a test to see whether it works."},
	flashChannelSame:   {Kind: "info", Text: "Nothing was changed: the channel is set up like that already."},
	flashTestSent:      {Kind: "success", Text: "The test notification was taken by the other side. Look whether it has arrived."},
	flashTestFailed:    {Kind: "error", Text: "The test notification was not sent. The reason stands under Deliveries, in the first line."},
	flashSendingAgain:  {Kind: "success", Text: "It is queued again, and sent within seconds."},
	flashAuditWhole:    {Kind: "success", Text: "Every entry was read, and each is as it was written."},
	flashBudgetsSame:   {Kind: "info", Text: "Nothing was changed: these limits hold already."},

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
		return nil
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
