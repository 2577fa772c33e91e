package activity

import (
	"io"
	"time"

	"github.com/promptcademy/promptops/internal/sheet"
)

// Tables are the tables of a Report that can be had as CSV.
var Tables = []string{"days", "cohorts", "funnel", "lessons", "events", "templates", "teams", "quiet"}

// WriteCSV writes one of Tables. An amount or a time that is unknown is empty.
func WriteCSV(w io.Writer, r Report, table string) error {
	switch table {
	case "cohorts":
		return writeCohorts(w, r)
	case "funnel":
		return writeFunnel(w, r)
	case "lessons":
		out := sheet.New(w, "lesson", "started", "completed", "average_score")
		for _, l := range r.Lessons {
			out.Row(l.Title, l.Started, l.Completed, number(l.Average()))
		}
		return out.End()
	case "events":
		out := sheet.New(w, "event", "count")
		for _, e := range r.Events {
			out.Row(e.Event, e.Count)
		}
		return out.End()
	case "templates":
		out := sheet.New(w, "template_id", "template", "used", "viewed", "forked", "shared", "created")
		for _, t := range r.Templates {
			out.Row(t.ID.String(), t.Title, t.Used, t.Viewed, t.Forked, t.Shared, t.Created)
		}
		return out.End()
	case "teams":
		out := sheet.New(w, "team_id", "team", "members", "active", "lessons_completed", "runs", "cost_usd", "unpriced", "last_run_at")
		for _, t := range r.Teams {
			out.Row(t.ID.String(), t.Name, t.Members, t.Active, t.Completed, t.Runs, amount(t.Spent), t.Unpriced, instant(t.LastRunAt))
		}
		return out.End()
	case "quiet":
		out := sheet.New(w, "learner", "last_run_at", "run_id", "error_class")
		for _, q := range r.Quiet {
			out.Row(q.Email, instant(q.At), q.RunID.String(), q.Class)
		}
		return out.End()
	default:
		out := sheet.New(w, "date", "active", "active_7_days", "active_30_days", "sign_ups", "lessons_started", "lessons_completed")
		for _, d := range r.Days {
			out.Row(d.String(), d.Active, d.Weekly, d.Monthly, d.SignUps, d.LessonsStarted, d.LessonsCompleted)
		}
		return out.End()
	}
}

func writeCohorts(w io.Writer, r Report) error {
	out := sheet.New(w, "week_of_sign_up", "week", "learners", "active", "week_is_over")
	for _, c := range r.Cohorts {
		for week, active := range c.Active {
			out.Row(c.Week.String(), week, c.Size, active, !c.Going || week < len(c.Active)-1)
		}
	}
	return out.End()
}

// StepNames name the steps of Report.Funnel.
var StepNames = []string{"Signed up", "First key", "First run", "First lesson completed"}

func writeFunnel(w io.Writer, r Report) error {
	out := sheet.New(w, "step", "learners", "of_those_before", "median_seconds_since_sign_up", "median_seconds_since_step_before")
	for i, step := range r.Funnel {
		var sinceStart, sinceLast any
		if step.SinceStart != nil {
			sinceStart = int64(step.SinceStart.Seconds())
		}
		if step.SinceLast != nil {
			sinceLast = int64(step.SinceLast.Seconds())
		}
		out.Row(StepNames[i], step.Reached, step.AfterLast, sinceStart, sinceLast)
	}
	return out.End()
}

func instant(at time.Time) string { return at.UTC().Format("2006-01-02T15:04:05.000Z07:00") }

func amount(s Spent) any {
	if !s.Known() {
		return nil
	}
	return s.Cost
}

func number(f *float64) any {
	if f == nil {
		return nil
	}
	return *f
}
