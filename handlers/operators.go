package handlers

import (
	"context"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/labstack/echo/v4"

	"github.com/promptcademy/promptops/internal/account"
	"github.com/promptcademy/promptops/internal/fault"
	"github.com/promptcademy/promptops/views"
)

const (
	operatorsPath = "/settings/operators"
	inviteTTL     = 72 * time.Hour
)

// operatorsPage is GET /settings/operators.
func (s *Server) operatorsPage(c echo.Context) error {
	return s.renderOperators(c, views.OperatorForm{Role: string(account.RoleTeamLead)}, nil)
}

// addOperator is POST /settings/operators. The link is in the answer and nowhere
// else.
func (s *Server) addOperator(c echo.Context) error {
	form, err := formOf(c)
	if err != nil {
		return err
	}
	ctx := c.Request().Context()
	typed := operatorForm(form)
	n, err := s.newOperator(ctx, typed)
	if err != nil {
		return s.renderOperators(c, typed, err)
	}
	operator, err := s.Accounts.Create(ctx, actorOf(c), n, s.Now())
	if err != nil {
		return s.renderOperators(c, typed, err)
	}
	return s.renderLink(c, operator.ID, true)
}

// operatorPage is GET /settings/operators/:id.
func (s *Server) operatorPage(c echo.Context) error {
	id, err := idParam(c, "id")
	if err != nil {
		return err
	}
	return s.renderOperator(c, id, nil, nil)
}

// editOperator is POST /settings/operators/:id.
func (s *Server) editOperator(c echo.Context) error {
	id, err := idParam(c, "id")
	if err != nil {
		return err
	}
	form, err := formOf(c)
	if err != nil {
		return err
	}
	ctx := c.Request().Context()
	operator, err := s.Accounts.Find(ctx, id)
	if err != nil {
		return err
	}
	typed := operatorForm(form)
	if form.Get("version") != operator.Version() {
		return s.renderOperator(c, id, nil, changedSince())
	}
	n, err := s.newOperator(ctx, typed)
	if err != nil {
		return s.renderOperator(c, id, &typed, err)
	}
	edited, err := s.Accounts.Edit(ctx, actorOf(c), operator, n, s.Now())
	if err != nil {
		return s.renderOperator(c, id, &typed, err)
	}
	setFlash(c, flashOperatorSaved)
	if id == *callerOf(c).operatorID && edited.Role != account.RoleAdmin {
		return c.Redirect(http.StatusSeeOther, "/") // this page is theirs no more
	}
	return c.Redirect(http.StatusSeeOther, operatorsPath+"/"+id.String())
}

func changedSince() *fault.Error {
	return fault.New(fault.Conflict, "Nothing was saved: somebody else changed this operator while this page was open. This is how it is now; change it again if need be.")
}

// linkOperator is POST /settings/operators/:id/link.
func (s *Server) linkOperator(c echo.Context) error {
	id, err := idParam(c, "id")
	if err != nil {
		return err
	}
	return s.renderLink(c, id, false)
}

// disableOperator is POST /settings/operators/:id/disable.
func (s *Server) disableOperator(c echo.Context) error {
	return s.changeOperator(c, flashOperatorDisabled, func(ctx context.Context, id uuid.UUID) error {
		return s.Accounts.Disable(ctx, actorOf(c), id, s.Now())
	})
}

// enableOperator is POST /settings/operators/:id/enable.
func (s *Server) enableOperator(c echo.Context) error {
	return s.changeOperator(c, flashOperatorEnabled, func(ctx context.Context, id uuid.UUID) error {
		return s.Accounts.Enable(ctx, actorOf(c), id, s.Now())
	})
}

// endOperatorSessions is POST /settings/operators/:id/end-sessions.
func (s *Server) endOperatorSessions(c echo.Context) error {
	return s.changeOperator(c, flashSessionsEnded, func(ctx context.Context, id uuid.UUID) error {
		_, err := s.Accounts.EndSessions(ctx, actorOf(c), id, s.Now())
		return err
	})
}

// changeOperator does something to an operator and shows what they are now.
func (s *Server) changeOperator(c echo.Context, done string, change func(ctx context.Context, id uuid.UUID) error) error {
	id, err := idParam(c, "id")
	if err != nil {
		return err
	}
	err = change(c.Request().Context(), id)
	if err != nil && fault.KindOf(err) == fault.Conflict {
		return s.renderOperator(c, id, nil, err)
	}
	if err != nil {
		return err
	}
	setFlash(c, done)
	return c.Redirect(http.StatusSeeOther, operatorsPath+"/"+id.String())
}

func operatorForm(form url.Values) views.OperatorForm {
	return views.OperatorForm{
		Email: strings.TrimSpace(form.Get("email")), Name: strings.TrimSpace(form.Get("name")), Role: form.Get("role"),
		Learner: strings.TrimSpace(form.Get("learner")), Timezone: strings.TrimSpace(form.Get("timezone")),
	}
}

// newOperator finds the learner whose address was typed. It is fault.Invalid, on
// the field learner, when there is none who may be used.
func (s *Server) newOperator(ctx context.Context, f views.OperatorForm) (account.NewOperator, error) {
	n := account.NewOperator{Email: f.Email, Name: f.Name, Role: account.Role(f.Role), Timezone: f.Timezone}
	refuse := func(message string) error {
		return fault.InvalidFields([]fault.Field{{Field: "learner", Message: message}})
	}
	if f.Learner == "" {
		return n, nil
	}
	if strings.ContainsRune(f.Learner, 0) || len(f.Learner) > 254 {
		return n, refuse("must be an e-mail address such as ada@example.org")
	}
	found, err := s.Learners.FindByEmail(ctx, f.Learner, s.Now())
	switch {
	case err == nil:
		n.LearnerID = &found.ID
		return n, nil
	case fault.KindOf(err) == fault.NotFound:
		return n, refuse("is the address of no learner; they have to sign up on the platform first")
	case fault.KindOf(err) == fault.Forbidden:
		return n, refuse("is the address of an account that is deleted or suspended")
	}
	return n, err
}

// renderOperators shows the list; refused is why what was typed was not added.
func (s *Server) renderOperators(c echo.Context, form views.OperatorForm, refused error) error {
	status, problem, problems, err := s.refusal(refused)
	if err != nil {
		return err
	}
	operators, err := s.Accounts.List(c.Request().Context(), s.Now())
	if err != nil {
		return err
	}
	page := views.OperatorsPage{Page: s.page(c, "Operators"), Form: form, Problem: problem}
	page.Form.New, page.Form.Problems, page.Form.Zone = true, problems, s.Zone.String()
	for _, o := range operators {
		page.Operators = append(page.Operators, operatorRow(o, *callerOf(c).operatorID, s.zone(c)))
	}
	return s.render(c, status, views.Operators(page))
}

// renderOperator shows one operator; typed, if any, was refused.
func (s *Server) renderOperator(c echo.Context, id uuid.UUID, typed *views.OperatorForm, refused error) error {
	status, problem, problems, err := s.refusal(refused)
	if err != nil {
		return err
	}
	o, err := s.Accounts.FindListed(c.Request().Context(), id, s.Now())
	if err != nil {
		return err
	}
	zone := s.zone(c)
	page := views.OperatorPage{
		OperatorRow: operatorRow(o, *callerOf(c).operatorID, zone), Created: views.MomentOf(o.CreatedAt, zone), HasPassword: o.HasPassword,
		Form:    views.OperatorForm{Name: o.Name, Role: string(o.Role), Learner: o.LearnerEmail, Timezone: o.Timezone},
		Version: o.Version(), Problem: problem,
	}
	page.Page = s.page(c, "Operator "+o.Email)
	page.Path = operatorsPath
	if o.DisabledAt != nil {
		page.DisabledAt = views.MomentOf(*o.DisabledAt, zone)
	}
	if o.LinkUntil != nil && o.DisabledAt == nil {
		page.LinkUntil = new(views.MomentOf(*o.LinkUntil, zone))
	}
	if typed != nil {
		page.Form = *typed
	}
	page.Form.Problems, page.Form.Zone = problems, s.Zone.String()
	return s.render(c, status, views.OperatorDetails(page))
}

// renderLink makes a one-time link and shows it.
func (s *Server) renderLink(c echo.Context, id uuid.UUID, created bool) error {
	ctx, now := c.Request().Context(), s.Now()
	o, err := s.Accounts.FindListed(ctx, id, now)
	if err != nil {
		return err
	}
	if o.DisabledAt != nil {
		return s.renderOperator(c, id, nil, fault.New(fault.Conflict, "A link would not let a disabled operator in. Enable them first."))
	}
	token, err := s.Accounts.CreateLink(ctx, actorOf(c), id, inviteTTL, now)
	if err != nil {
		return err
	}
	return s.render(c, http.StatusOK, views.OneTimeLink(views.OneTimeLinkPage{
		Page: s.page(c, "Sign-in link"), ID: id.String(), Email: o.Email, Role: roleWord(o.Role), Created: created,
		Link: s.BaseURL + "/sign-in/link/" + token, Until: views.MomentOf(now.Add(inviteTTL), s.zone(c)),
		Hours: strconv.Itoa(int(inviteTTL.Hours())), Warning: leadWarning(o),
	}))
}

// refusal is what a form says that was refused: the sentence above it and those
// beside its fields. What no form can explain comes back as err.
func (s *Server) refusal(refused error) (status int, problem string, problems map[string]string, err error) {
	if refused == nil {
		return http.StatusOK, "", nil, nil
	}
	f := asFault(refused)
	if f.Kind != fault.Invalid && f.Kind != fault.Conflict {
		return 0, "", nil, refused
	}
	problems = problemsByField(f)
	if problem, ok := problems["learnerId"]; ok {
		problems["learner"] = problem
	}
	problem = "Nothing was saved: what is marked below cannot be used."
	if f.Kind == fault.Conflict {
		problem = f.Message
	}
	return statusOf[f.Kind], problem, problems, nil
}

func operatorRow(o account.Listed, viewer uuid.UUID, zone *time.Location) views.OperatorRow {
	row := views.OperatorRow{
		ID: o.ID.String(), Name: o.Name, Email: o.Email, Role: "Admin", You: o.ID == viewer,
		Learner: o.LearnerEmail, Leads: views.NamesShort(o.Leads), Warning: leadWarning(o), Disabled: o.DisabledAt != nil,
		Invited: o.LastSignInAt == nil && o.LinkUntil != nil,
	}
	if o.Role == account.RoleTeamLead {
		row.Role = "Team lead"
	}
	if o.LastSignInAt != nil {
		row.LastSignIn = new(views.MomentOf(*o.LastSignInAt, zone))
	}
	if o.Sessions > 0 {
		row.Sessions = views.Count(int64(o.Sessions))
	}
	return row
}

// leadWarning is why a team lead sees nothing at the moment.
func leadWarning(o account.Listed) string {
	switch {
	case o.Role != account.RoleTeamLead:
		return ""
	case o.LearnerClosed:
		return "Learner account is closed"
	case len(o.Leads) == 0:
		return "Leads no team"
	}
	return ""
}

func roleWord(role account.Role) string {
	if role == account.RoleTeamLead {
		return "a team lead"
	}
	return "an admin"
}
