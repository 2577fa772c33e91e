package handlers

import (
	"errors"
	"net/http"
	"net/url"
	"strconv"

	"github.com/labstack/echo/v4"

	"github.com/promptcademy/promptops/internal/fault"
	"github.com/promptcademy/promptops/internal/runbook"
	"github.com/promptcademy/promptops/views"
)

// A form percent-encodes most of what is not English: three bytes for one.
const maxRunbookForm = 4 * runbook.MaxBytes

// firstText is what a new procedure begins with.
const firstText = `# 

What people notice, and what it means, in two sentences.

1. **First look here.** How to tell, and what to do then.

   {{check "database"}}

## When it is over

- How you know.
`

// newProcedure is GET /runbook/new.
func (s *Server) newProcedure(c echo.Context) error {
	return s.renderEdit(c, http.StatusOK, views.EditPage{New: true, Title: "New procedure", Markdown: firstText})
}

// addProcedure is POST /runbook/new.
func (s *Server) addProcedure(c echo.Context) error {
	form, err := formUpTo(c, maxRunbookForm)
	if err != nil {
		return err
	}
	page := views.EditPage{New: true, Title: "New procedure", Slug: form.Get("slug"), Markdown: form.Get("markdown"), Note: form.Get("note")}
	if form.Get("do") == "preview" {
		return s.previewEdit(c, page)
	}
	_, err = s.Runbook.Create(c.Request().Context(), actorOf(c), runbook.Edit{Slug: page.Slug, Markdown: page.Markdown, Note: page.Note}, s.Now())
	if err != nil {
		return s.refuseEdit(c, page, err)
	}
	setFlash(c, flashProcedureMade)
	return c.Redirect(http.StatusSeeOther, runbookPath+"/"+page.Slug)
}

// editProcedure is GET /runbook/:slug/edit; with ?merge=1 the newer built-in text
// is put into it.
func (s *Server) editProcedure(c echo.Context) error {
	p, err := s.Runbook.Find(c.Request().Context(), c.Param("slug"))
	if err != nil {
		return err
	}
	page := views.EditPage{Slug: p.Slug, Title: p.Title(), Markdown: p.Markdown, From: strconv.Itoa(p.Number), Built: p.Base}
	if c.QueryParam("merge") != "" {
		newer, err := s.Runbook.Newer(c.Request().Context(), p)
		if err != nil {
			return err
		}
		if newer != nil && newer.Merged != "" {
			page.Markdown, page.Built, page.Note = newer.Merged, newer.Hash, "The newer built-in text merged in"
		}
	}
	return s.renderEdit(c, http.StatusOK, page)
}

// saveProcedure is POST /runbook/:slug/edit. Whatever goes wrong, the answer holds
// what was typed.
func (s *Server) saveProcedure(c echo.Context) error {
	form, err := formUpTo(c, maxRunbookForm)
	if err != nil {
		return err
	}
	page := views.EditPage{
		Slug: c.Param("slug"), Title: c.Param("slug"), Markdown: form.Get("markdown"), Note: form.Get("note"),
		From: form.Get("from"), Built: form.Get("built"),
	}
	if title := runbook.TitleOf(page.Markdown); title != "" {
		page.Title = title
	}
	if form.Get("do") == "preview" {
		return s.previewEdit(c, page)
	}
	edit := runbook.Edit{Slug: page.Slug, Built: page.Built, Markdown: page.Markdown, Note: page.Note}
	if edit.From, err = strconv.Atoi(page.From); err != nil || edit.From < 0 || edit.From > 1<<30 {
		return fault.New(fault.Malformed, "The form does not say which version it began from. Open the page again.")
	}
	_, merged, err := s.Runbook.Save(c.Request().Context(), actorOf(c), edit, s.Now())
	if err != nil {
		return s.refuseEdit(c, page, err)
	}
	if merged {
		setFlash(c, flashProcedureMerged)
	} else {
		setFlash(c, flashProcedureSaved)
	}
	return c.Redirect(http.StatusSeeOther, runbookPath+"/"+page.Slug)
}

// previewEdit shows what a text would look like; nothing is saved.
func (s *Server) previewEdit(c echo.Context, page views.EditPage) error {
	procedures, err := s.procedures(c)
	if err != nil {
		return err
	}
	rendered := runbook.Render(page.Markdown, s.places(c, procedures))
	page.Previewed, page.Warnings = true, rendered.Problems
	for _, part := range rendered.Parts {
		check, _ := s.Checks.Check(part.Check)
		page.Preview = append(page.Preview, views.RunbookPart{HTML: part.HTML, Title: check.Title, Why: "it stands here."})
	}
	return s.renderEdit(c, http.StatusOK, page)
}

// refuseEdit says why a text was not saved, beside the text.
func (s *Server) refuseEdit(c echo.Context, page views.EditPage, refused error) error {
	if conflict, ok := errors.AsType[*runbook.Conflict](refused); ok {
		page.Markdown = runbook.Plain(page.Markdown)
		zone := s.zone(c)
		theirs := conflict.Theirs
		page.Problem = "Nothing was saved yet: somebody else changed the same lines while you wrote. What you typed is below."
		page.From, page.Built = strconv.Itoa(theirs.Number), theirs.Base
		page.Theirs = &views.TheirText{
			Author: theirs.Author, At: views.MomentOf(theirs.At, zone), Number: page.From, Markdown: theirs.Markdown,
			Diff: diffView(theirs.Markdown, page.Markdown),
		}
		return s.renderEdit(c, http.StatusConflict, page)
	}
	f := asFault(refused)
	if f.Kind == fault.Internal || c.Request().Context().Err() != nil {
		return refused
	}
	page.Problem, page.Problems = "Nothing was saved: "+f.Message, map[string]string{}
	if f.Kind == fault.Invalid {
		page.Problem = "Nothing was saved: what is marked below cannot be used."
	}
	if f.Kind == fault.Unavailable {
		exchangeOf(c).away = true
		page.Problem += " What you typed is below; save it again, or copy it."
	}
	for _, detail := range f.Details {
		page.Problems[detail.Field] = "This " + detail.Message + "."
	}
	return s.renderEdit(c, statusOf[f.Kind], page)
}

func (s *Server) renderEdit(c echo.Context, status int, page views.EditPage) error {
	title := "Edit " + page.Title
	if page.New {
		title = page.Title
	}
	page.Page = s.page(c, title)
	for _, check := range s.Checks.Checks() {
		page.Checks = append(page.Checks, views.CheckName{ID: check.ID, Title: check.Title})
	}
	return s.render(c, status, views.EditProcedure(page))
}

// procedureHistory is GET /runbook/:slug/history.
func (s *Server) procedureHistory(c echo.Context) error {
	versions, err := s.Runbook.History(c.Request().Context(), c.Param("slug"))
	if err != nil {
		return err
	}
	zone := s.zone(c)
	page := views.HistoryPage{
		Slug: c.Param("slug"), Title: versions[0].Title(), Removed: versions[0].Removed, Seen: strconv.Itoa(versions[0].Number),
	}
	page.Page = s.page(c, "History of "+page.Title)
	for i, v := range versions {
		row := views.VersionRow{
			Number: strconv.Itoa(v.Number), Author: v.Author, At: views.MomentOf(v.At, zone), Note: v.Note, Removed: v.Removed, Newest: i == 0,
		}
		if i+1 < len(versions) {
			row.Before = strconv.Itoa(versions[i+1].Number)
		}
		page.Versions = append(page.Versions, row)
	}
	return s.render(c, http.StatusOK, views.ProcedureHistory(page))
}

// procedureDiff is GET /runbook/:slug/diff?from=1&to=2; 0 is the built-in text of
// this program.
func (s *Server) procedureDiff(c echo.Context) error {
	var both [2]runbook.Version
	var names [2]string
	for i, param := range []string{"from", "to"} {
		number, err := strconv.Atoi(c.QueryParam(param))
		if err != nil || number < 0 || number > 1<<30 {
			return fault.New(fault.NotFound, "There is no such version of this procedure.")
		}
		if both[i], err = s.Runbook.Version(c.Request().Context(), c.Param("slug"), number); err != nil {
			return err
		}
		if names[i] = "version " + strconv.Itoa(number); number == 0 {
			names[i] = "the built-in text"
		}
	}
	page := views.DiffPage{
		Slug: c.Param("slug"), Title: both[1].Title(), From: names[0], To: names[1],
		Lines: diffView(both[0].Markdown, both[1].Markdown), Same: both[0].Markdown == both[1].Markdown,
	}
	page.Page = s.page(c, "Comparison of "+page.Title)
	return s.render(c, http.StatusOK, views.ProcedureDiff(page))
}

func diffView(before, after string) []views.DiffLine {
	kinds := map[byte]string{' ': "same", '-': "old", '+': "new"}
	var lines []views.DiffLine
	for _, line := range runbook.Diff(before, after) {
		lines = append(lines, views.DiffLine{Kind: kinds[line.Kind], Text: line.Text})
	}
	return lines
}

// restoreProcedure is POST /runbook/:slug/restore.
func (s *Server) restoreProcedure(c echo.Context) error {
	return s.changeProcedure(c, flashProcedureRestored, func(slug string, form url.Values, seen int) error {
		number, err := strconv.Atoi(form.Get("number"))
		if err != nil || number < 0 || number > 1<<30 {
			return fault.New(fault.Malformed, "The form does not say which version to restore.")
		}
		return s.Runbook.Restore(c.Request().Context(), actorOf(c), slug, number, seen, s.Now())
	})
}

// takeOverProcedure is POST /runbook/:slug/take-over.
func (s *Server) takeOverProcedure(c echo.Context) error {
	return s.changeProcedure(c, flashProcedureTakenOver, func(slug string, _ url.Values, seen int) error {
		return s.Runbook.TakeOver(c.Request().Context(), actorOf(c), slug, seen, s.Now())
	})
}

// removeProcedure is POST /runbook/:slug/remove.
func (s *Server) removeProcedure(c echo.Context) error {
	return s.changeProcedure(c, flashProcedureRemoved, func(slug string, _ url.Values, seen int) error {
		return s.Runbook.Remove(c.Request().Context(), actorOf(c), slug, seen, s.Now())
	})
}

// changeProcedure does something to a procedure as it was seen, and shows what it
// is now.
func (s *Server) changeProcedure(c echo.Context, done string, change func(slug string, form url.Values, seen int) error) error {
	form, err := formOf(c)
	if err != nil {
		return err
	}
	seen, err := strconv.Atoi(form.Get("seen"))
	if err != nil {
		// What nobody has is not told apart from what was not said.
		if _, err := s.Runbook.History(c.Request().Context(), c.Param("slug")); err != nil {
			return err
		}
		return fault.New(fault.Malformed, "The form does not say which version was seen. Open the page again.")
	}
	if err := change(c.Param("slug"), form, seen); err != nil {
		return err
	}
	setFlash(c, done)
	if done == flashProcedureRemoved {
		return c.Redirect(http.StatusSeeOther, runbookPath)
	}
	return c.Redirect(http.StatusSeeOther, runbookPath+"/"+c.Param("slug"))
}
