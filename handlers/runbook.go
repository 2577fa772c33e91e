package handlers

import (
	"context"
	"errors"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/labstack/echo/v4"

	"github.com/promptcademy/promptops/internal/account"
	"github.com/promptcademy/promptops/internal/fault"
	"github.com/promptcademy/promptops/internal/runbook"
	"github.com/promptcademy/promptops/views"
)

const runbookPath = "/runbook"

// runbookPage is GET /runbook: every procedure, every check, and the search.
func (s *Server) runbookPage(c echo.Context) error {
	procedures, err := s.procedures(c)
	if err != nil {
		return err
	}
	page := views.RunbookPage{Page: s.page(c, "Runbook"), Query: searchOf(c), Away: exchangeOf(c).away}
	if page.Query != "" {
		for _, hit := range runbook.Search(procedures, page.Query) {
			page.Hits = append(page.Hits, hitView(hit, runbook.Words(page.Query)))
		}
		return s.render(c, http.StatusOK, views.Runbook(page))
	}
	if s.seesAll(c) && !page.Away {
		removed, err := s.Runbook.Removed(c.Request().Context())
		if err != nil {
			return err
		}
		for _, p := range removed {
			page.Removed = append(page.Removed, views.ProcedureRow{Slug: p.Slug, Title: p.Title()})
		}
	}
	var ids []string
	for _, check := range s.Checks.Checks() {
		if s.maySee(c, check) {
			ids = append(ids, check.ID)
		}
	}
	results := s.Checks.Read(c.Request().Context(), ids, rechecked(c))
	places := s.places(c, procedures)
	for _, p := range procedures {
		page.Procedures = append(page.Procedures, procedureRow(p, results, places))
	}
	slices.SortStableFunc(results, func(a, b runbook.Result) int {
		switch {
		case a.Verdict.Worse(b.Verdict):
			return -1
		case b.Verdict.Worse(a.Verdict):
			return 1
		}
		return 0
	})
	for _, r := range results {
		page.Checks = append(page.Checks, checkCard(c, r, runbookPath, "check-"+r.ID, s.zone(c), places))
	}
	page.Tally = views.TallyOf(page.Checks)
	return s.render(c, http.StatusOK, views.Runbook(page))
}

// procedurePage is GET /runbook/:slug.
func (s *Server) procedurePage(c echo.Context) error {
	procedures, err := s.procedures(c)
	if err != nil {
		return err
	}
	i := slices.IndexFunc(procedures, func(p runbook.Procedure) bool { return p.Slug == c.Param("slug") })
	if i < 0 {
		return fault.New(fault.NotFound, "There is no such procedure in the runbook.")
	}
	p := procedures[i]
	page := views.ProcedurePage{Page: s.page(c, p.Title()), Away: exchangeOf(c).away}
	if s.seesAll(c) && !page.Away {
		newer, err := s.Runbook.Newer(c.Request().Context(), p)
		if err != nil {
			return err
		}
		if newer != nil {
			page.Newer = &views.NewerText{Merges: newer.Merged != "", Seen: strconv.Itoa(p.Number)}
		}
	}
	page.Procedure = s.readOut(c, []runbook.Procedure{p}, s.places(c, procedures))[0]
	return s.render(c, http.StatusOK, views.Procedure(page))
}

// printRunbook is GET /runbook/print.
func (s *Server) printRunbook(c echo.Context) error {
	procedures, err := s.procedures(c)
	if err != nil {
		return err
	}
	page := views.RunbookPrint{Page: s.page(c, "Runbook"), At: views.MomentOf(s.Now(), s.zone(c)), Away: exchangeOf(c).away}
	page.Procedures = s.readOut(c, procedures, s.places(c, procedures))
	return s.render(c, http.StatusOK, views.PrintRunbook(page))
}

// checkFragment is GET /runbook/checks/:id: the check asked anew, for htmx; anybody
// else gets the page with all of them.
func (s *Server) checkFragment(c echo.Context) error {
	check, ok := s.Checks.Check(c.Param("id"))
	if !ok || !s.maySee(c, check) {
		return fault.New(fault.NotFound, "There is no such check.")
	}
	if c.Request().Header.Get("HX-Request") == "" {
		return c.Redirect(http.StatusSeeOther, runbookPath+"?"+url.Values{"recheck": {check.ID}}.Encode()+"#check-"+check.ID)
	}
	page, anchor := c.QueryParam("at"), c.QueryParam("anchor")
	if page != runbookPath && !strings.HasPrefix(page, runbookPath+"/") {
		page = runbookPath
	}
	if number, ok := strings.CutPrefix(anchor, "check-"+check.ID); !ok || number != "" && number != "-2" && number != "-3" {
		anchor = "check-" + check.ID
	}
	results := s.Checks.Read(c.Request().Context(), []string{check.ID}, func(string) runbook.Freshness { return runbook.Again })
	return s.renderFragment(c, http.StatusOK, views.Check(checkCard(c, results[0], localPath(page), anchor, s.zone(c), s.places(c, runbook.BuiltIn()))))
}

// procedures is the runbook as it is now; the built-in one when the database does
// not answer soon.
func (s *Server) procedures(c echo.Context) ([]runbook.Procedure, error) {
	if exchangeOf(c).away {
		return runbook.BuiltIn(), nil
	}
	ctx, cancel := context.WithTimeout(c.Request().Context(), lookUpPatience)
	defer cancel()
	procedures, err := s.Runbook.List(ctx)
	if err == nil || c.Request().Context().Err() != nil {
		return procedures, err
	}
	if fault.KindOf(err) == fault.Unavailable || errors.Is(err, context.DeadlineExceeded) {
		exchangeOf(c).away = true
		return runbook.BuiltIn(), nil
	}
	return nil, err
}

// seesAll says whether an admin is looking.
func (s *Server) seesAll(c echo.Context) bool {
	return callerOf(c).operator != nil && callerOf(c).operator.Role == account.RoleAdmin
}

// maySee says whether a check may be shown to whoever looks.
func (s *Server) maySee(c echo.Context, check runbook.Check) bool {
	return check.Harmless || s.seesAll(c)
}

// rechecked says how old readings may be: a second for those that are to be asked
// again, and no older than this request when it has just seen the database away.
func rechecked(c echo.Context) func(id string) runbook.Freshness {
	which, away := c.QueryParam("recheck"), exchangeOf(c).away
	return func(id string) runbook.Freshness {
		switch {
		case away:
			return runbook.Anew
		case which == "all" || which == id:
			return runbook.Again
		}
		return runbook.Kept
	}
}

// places is what texts may point at.
func (s *Server) places(c echo.Context, procedures []runbook.Procedure) runbook.Places {
	isPage := pagesOf(c)
	return runbook.Places{
		Page: func(path string) bool {
			if slug, ok := strings.CutPrefix(path, runbookPath+"/"); ok && slug != "print" {
				return slices.ContainsFunc(procedures, func(p runbook.Procedure) bool { return p.Slug == slug })
			}
			return isPage(path)
		},
		Check: func(id string) bool { _, ok := s.Checks.Check(id); return ok },
	}
}

// readOut renders procedures with what their checks see; all checks run at the
// same time.
func (s *Server) readOut(c echo.Context, procedures []runbook.Procedure, places runbook.Places) []views.ProcedureText {
	var ids []string
	rendered := make([]runbook.Rendered, len(procedures))
	for i, p := range procedures {
		rendered[i] = runbook.Render(withoutTitle(p.Markdown), places)
		for _, id := range rendered[i].Checks {
			if check, _ := s.Checks.Check(id); s.maySee(c, check) && !slices.Contains(ids, id) {
				ids = append(ids, id)
			}
		}
	}
	results := map[string]runbook.Result{}
	for _, r := range s.Checks.Read(c.Request().Context(), ids, rechecked(c)) {
		results[r.ID] = r
	}
	zone := s.zone(c)
	texts := make([]views.ProcedureText, len(procedures))
	anchors := map[string]int{}
	for i, p := range procedures {
		text := views.ProcedureText{Slug: p.Slug, Title: p.Title(), Number: p.Number, Author: p.Author, At: views.MomentOf(p.At, zone)}
		for _, part := range rendered[i].Parts {
			if part.Check == "" {
				text.Parts = append(text.Parts, views.RunbookPart{HTML: part.HTML})
				continue
			}
			r, shown := results[part.Check]
			if !shown {
				check, _ := s.Checks.Check(part.Check)
				text.Parts = append(text.Parts, views.RunbookPart{Title: check.Title, Why: "only administrators see it. Ask one."})
				continue
			}
			anchor := "check-" + r.ID
			if anchors[r.ID]++; anchors[r.ID] > 1 {
				anchor += "-" + strconv.Itoa(anchors[r.ID])
			}
			card := checkCard(c, r, runbookPath+"/"+p.Slug, anchor, zone, places)
			text.Parts = append(text.Parts, views.RunbookPart{Check: &card})
			text.Checks++
		}
		texts[i] = text
	}
	return texts
}

// withoutTitle is a text without its first heading: pages have it as theirs.
func withoutTitle(markdown string) string {
	_, rest, _ := strings.Cut(strings.TrimLeft(markdown, "\n"), "\n")
	return rest
}

func procedureRow(p runbook.Procedure, results []runbook.Result, places runbook.Places) views.ProcedureRow {
	row := views.ProcedureRow{Slug: p.Slug, Title: p.Title(), Summary: p.Summary()}
	if p.Number > 0 {
		row.Edited = "Version " + strconv.Itoa(p.Number)
	}
	placed, failing, worst := runbook.Render(p.Markdown, places).Checks, int64(0), runbook.OK
	for _, r := range results {
		if slices.Contains(placed, r.ID) && r.Verdict.Worse(runbook.Unknown) {
			failing++
			if r.Verdict.Worse(worst) {
				worst = r.Verdict
			}
		}
	}
	if failing > 0 {
		row.Failing, row.Verdict = plural(failing, "check needs somebody", "checks need somebody"), string(worst)
	}
	return row
}

func hitView(hit runbook.Hit, words []string) views.ProcedureHit {
	view := views.ProcedureHit{Slug: hit.Slug, Title: views.Highlight(hit.Title(), words)}
	for _, passage := range hit.Passages {
		view.Passages = append(view.Passages, views.Highlight(passage, words))
	}
	return view
}

// checkCard writes out what a check saw. A page that is not there is not linked.
func checkCard(c echo.Context, r runbook.Result, page, anchor string, zone *time.Location, places runbook.Places) views.CheckCard {
	card := views.CheckCard{
		ID: r.ID, Anchor: anchor, Title: r.Title, Verdict: string(r.Verdict), Value: r.Value, Detail: r.Detail,
		FixText: r.Fix.Text, At: views.MomentOf(r.At, zone), Clock: r.At.In(zone).Format("15:04:05 MST"),
		Took: views.Milliseconds(r.Took.Milliseconds()), Page: page,
	}
	if path, _, _ := strings.Cut(r.Fix.Href, "?"); path != "" && places.Page(path) && path != page {
		card.FixHref, card.FixLabel = r.Fix.Href, r.Fix.Label
	}
	if callerOf(c).operator.Role == account.RoleAdmin && !exchangeOf(c).away {
		card.Start = incidentsPath + "/new?" + url.Values{"check": {r.ID}, "step": {strings.TrimPrefix(page, runbookPath+"/")}}.Encode()
		if page == runbookPath {
			card.Start = incidentsPath + "/new?check=" + url.QueryEscape(r.ID)
		}
	}
	return card
}
