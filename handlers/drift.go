package handlers

import (
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/labstack/echo/v4"

	"github.com/promptcademy/promptops/internal/drift"
	"github.com/promptcademy/promptops/internal/fault"
	"github.com/promptcademy/promptops/views"
)

const (
	rlsPath        = "/rls"
	rlsErrorsSince = 24 * time.Hour
)

// rlsPage is GET /rls.
func (s *Server) rlsPage(c echo.Context) error {
	page, err := s.rlsView(c)
	if err != nil {
		return err
	}
	return s.render(c, http.StatusOK, views.Drift(page))
}

// tryRLS is POST /rls/test. Nothing stays of it, so its page is the answer.
func (s *Server) tryRLS(c echo.Context) error {
	tried, err := s.Drift.Try(c.Request().Context(), s.Now())
	problem := ""
	if fault.KindOf(err) == fault.Conflict {
		problem = asFault(err).Message
	} else if err != nil {
		return err
	}
	page, err := s.rlsView(c)
	if err != nil {
		return err
	}
	if page.TryProblem = problem; problem == "" {
		page.Tried = triedView(tried)
	}
	return s.render(c, http.StatusOK, views.Drift(page))
}

func (s *Server) rlsView(c echo.Context) (views.DriftPage, error) {
	ctx, now, zone := c.Request().Context(), s.Now(), s.zone(c)
	page := views.DriftPage{Page: s.page(c, "Row-level security")}
	page.Path = rlsPath
	found, err := s.Drift.Check(ctx, now)
	if fault.KindOf(err) == fault.Conflict {
		page.Problem = asFault(err).Message
	} else if err != nil {
		return page, err
	}
	refused, err := s.Drift.Errors(ctx, now.Add(-rlsErrorsSince), now)
	if err != nil {
		return page, err
	}
	page.CheckedAt, page.Compared, page.Critical = views.MomentOf(found.CheckedAt, zone), views.Count(int64(found.Facts)), strconv.Itoa(found.Critical())
	page.Differences, page.Script = differencesView(found), found.Script()
	page.Errors = rlsErrorsView(refused, zone)
	return page, nil
}

func differencesView(found drift.Result) (list []views.Difference) {
	for i, d := range found.Differences {
		v := views.Difference{
			ID: "difference-" + strconv.Itoa(i+1), Title: d.Object, Kind: string(d.Kind), Critical: d.Severity == drift.Critical,
			Foreign: !d.Ours, Why: d.Why, SQL: d.SQL,
		}
		for _, line := range d.Lines() {
			v.Lines = append(v.Lines, views.DriftLine(line))
		}
		list = append(list, v)
	}
	return list
}

// reasons say in words why statements are refused.
var reasons = map[string]string{
	"grant":  "The role lacks a grant: either one is missing, which shows above, or the statement asks for too much.",
	"policy": "A policy does not allow the row that was to be written.",
	"other":  "Postgres does not say more.",
}

func rlsErrorsView(groups []drift.ErrorGroup, zone *time.Location) (list []views.RLSError) {
	for _, g := range groups {
		e := views.RLSError{
			Message: g.Message, Reason: reasons[g.Reason], Policy: g.Policy, Role: g.Role, Route: g.Route, Hint: g.Hint, N: views.Count(g.N),
			First: views.MomentOf(g.FirstAt, zone), Last: views.MomentOf(g.LastAt, zone),
		}
		if g.Recent > 0 {
			e.Recent = views.Count(g.Recent)
		}
		if e.Role == "" {
			e.Role = "the program’s own"
		}
		if e.Route == "" {
			e.Route = "runs, or work without a request"
		}
		list = append(list, e)
	}
	return list
}

// triedView lists the tables of learners, and of our own only those that are open;
// first what is wrong.
func triedView(m drift.Matrix) *views.TriedRLS {
	t := &views.TriedRLS{Actors: drift.Actors(), Tries: views.Count(int64(len(m.Cells)))}
	if wrong := len(m.Wrong()); wrong > 0 {
		t.Wrong = views.Count(int64(wrong))
	}
	var right []views.TriedRow
	closed := map[string]bool{}
	for i := 0; i < len(m.Cells); {
		first, cells, wrong := m.Cells[i], map[string]views.TriedCell{}, false
		for ; i < len(m.Cells) && m.Cells[i].Table == first.Table && m.Cells[i].Verb == first.Verb; i++ {
			cell := views.TriedCell{Got: m.Cells[i].Got}
			if m.Cells[i].Wrong() {
				cell.Expected, wrong = m.Cells[i].Expected, true
			}
			cells[m.Cells[i].Actor] = cell
		}
		if ours := strings.HasPrefix(first.Table, "ops."); ours && !wrong {
			if _, known := closed[first.Table]; !known {
				closed[first.Table] = true
			}
			continue
		} else if ours {
			closed[first.Table] = false
		}
		row := views.TriedRow{Table: first.Table, Verb: first.Verb}
		for _, actor := range t.Actors {
			cell, tried := cells[actor]
			if !tried {
				cell.Got = "not tried"
			}
			row.Cells = append(row.Cells, cell)
		}
		if wrong {
			t.Rows = append(t.Rows, row)
		} else {
			right = append(right, row)
		}
	}
	t.Rows = append(t.Rows, right...)
	n := 0
	for _, all := range closed {
		if all {
			n++
		}
	}
	if n > 0 {
		t.Closed = strconv.Itoa(n)
	}
	return t
}
