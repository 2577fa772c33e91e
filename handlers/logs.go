package handlers

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/labstack/echo/v4"

	"github.com/promptcademy/promptops/internal/eventlog"
	"github.com/promptcademy/promptops/internal/fault"
	"github.com/promptcademy/promptops/internal/history"
	"github.com/promptcademy/promptops/views"
)

const (
	logsPath     = "/logs"
	logsTailPath = "/logs/tail"
	logsOnPage   = 50

	tailEvery = time.Second
	// A stream ends by itself after this, and the browser asks for it again: whoever
	// may no longer see it is refused then.
	tailFor = 5 * time.Minute
)

// logsPage is GET /logs; htmx gets the part that changes with the filters.
func (s *Server) logsPage(c echo.Context) error {
	status, problem := http.StatusOK, ""
	filter, at, err := s.logsQuery(c, c.QueryParams())
	if err != nil && fault.KindOf(err) == fault.Invalid {
		status, problem = http.StatusUnprocessableEntity, filterProblem(err)
		filter, at, err = s.logsQuery(c, url.Values{})
	}
	if err != nil {
		return err
	}
	page, err := s.logsView(c.Request().Context(), filter, at)
	if err != nil {
		return err
	}
	page.Page, page.Filters.Problem = s.page(c, "Logs"), problem
	if c.Request().Header.Get("HX-Request") != "" {
		return s.renderFragment(c, status, views.LogsContent(page))
	}
	return s.render(c, status, views.Logs(page))
}

// logsCSV is GET /logs.csv: the newest events that the filters let through.
func (s *Server) logsCSV(c echo.Context) error {
	return s.logsFile(c, ".csv", "text/csv; charset=utf-8", s.Logs.WriteCSV)
}

// logsNDJSON is GET /logs.ndjson: the same, each as one JSON object.
func (s *Server) logsNDJSON(c echo.Context) error {
	return s.logsFile(c, ".ndjson", "application/x-ndjson", s.Logs.WriteNDJSON)
}

func (s *Server) logsFile(c echo.Context, ending, mediaType string, write func(context.Context, io.Writer, eventlog.Filter) (bool, error)) error {
	filter, err := eventlog.ParseFilter(c.QueryParams(), s.Now(), s.zone(c))
	if err != nil {
		return err
	}
	var file bytes.Buffer
	cut, err := write(c.Request().Context(), &file, filter)
	if err != nil {
		return err
	}
	name := fmt.Sprintf("logs-%s-to-%s", filter.FirstDay(), filter.LastDay())
	if cut {
		name += fmt.Sprintf("-newest-%d-only", eventlog.MostInFile)
	}
	c.Response().Header().Set("Content-Disposition", fmt.Sprintf("attachment; filename=%q", name+ending))
	return c.Blob(http.StatusOK, mediaType, file.Bytes())
}

// logsQuery reads the filters and the place in the list.
func (s *Server) logsQuery(c echo.Context, values url.Values) (eventlog.Filter, eventlog.Cursor, error) {
	filter, err := eventlog.ParseFilter(values, s.Now(), s.zone(c))
	if err != nil {
		return filter, eventlog.Cursor{}, err
	}
	for _, name := range []string{"after", "before"} {
		if value := values.Get(name); value != "" {
			at, err := eventlog.ParseCursor(value)
			if err != nil {
				return filter, at, fault.InvalidFields([]fault.Field{{Field: name, Message: "is no place in the list"}})
			}
			at.Newer = name == "after"
			return filter, at, nil
		}
	}
	return filter, eventlog.Cursor{}, nil
}

// logsView reads a part of the list and writes it out.
func (s *Server) logsView(ctx context.Context, filter eventlog.Filter, at eventlog.Cursor) (views.LogsPage, error) {
	list, err := s.Logs.List(ctx, filter, at, logsOnPage)
	if err != nil {
		return views.LogsPage{}, err
	}
	counts, err := s.Logs.Count(ctx, filter)
	if err != nil {
		return views.LogsPage{}, err
	}
	choices, err := s.Logs.Choices(ctx, filter)
	if err != nil {
		return views.LogsPage{}, err
	}
	query := filter.Values()
	page := views.LogsPage{
		Filters: s.logsFilters(filter, choices), Period: logsPeriod(filter), Chart: logsChart(filter, counts),
		CSV: addressOf(logsPath+".csv", query), NDJSON: addressOf(logsPath+".ndjson", query), FileMost: views.Count(eventlog.MostInFile),
		Cut: !counts.Known || counts.Total.Sum() > eventlog.MostInFile, Kept: plural(int64(s.Logs.Days()), "day", "days"),
	}
	if counts.Known {
		page.Count = plural(counts.Total.Sum(), "event", "events")
	}
	for _, e := range list.Events {
		page.Events = append(page.Events, logEvent(e, filter.Zone))
	}
	page.Newest, page.Newer, page.Older = logsPager(list, at, query)
	if list.Rest != nil {
		page.Searched, page.Since = views.Count(eventlog.MostSearched), new(views.LogMomentOf(list.Rest.At, filter.Zone))
		page.Rest = logsAt(query, *list.Rest)
	}
	if at.At.IsZero() && filter.Live(s.Now()) {
		newest := eventlog.Cursor{At: s.Now()}
		if len(list.Events) > 0 {
			newest = list.Events[0].Place()
		}
		tail := filter.Values()
		tail.Set("after", newest.String())
		page.Tail = addressOf(logsTailPath, tail)
	}
	return page, nil
}

// logsAt is the address of a part of the list.
func logsAt(query url.Values, at eventlog.Cursor) string {
	values := url.Values{}
	for name, value := range query {
		values[name] = value
	}
	switch {
	case at.At.IsZero():
	case at.Newer:
		values.Set("after", at.String())
	default:
		values.Set("before", at.String())
	}
	return addressOf(logsPath, values)
}

// logsPager is where the pages beside this one are. From an empty page the way leads
// back to the beginning.
func logsPager(list eventlog.Page, at eventlog.Cursor, query url.Values) (newest, newer, older string) {
	beginning := logsAt(query, eventlog.Cursor{})
	if len(list.Events) == 0 {
		if !at.At.IsZero() && list.Rest == nil {
			newer = beginning
		}
		return "", newer, ""
	}
	if list.Newer {
		first := list.Events[0].Place()
		first.Newer = true
		newest, newer = beginning, logsAt(query, first)
	}
	if list.Older {
		older = logsAt(query, list.Events[len(list.Events)-1].Place())
	}
	return newest, newer, older
}

// logsPeriod is the time in words, with the hours where they are not whole days.
func logsPeriod(f eventlog.Filter) string {
	if f.Start == "" && f.End == "" {
		return views.DayRange(f.From, f.To.Add(-time.Nanosecond).In(f.Zone))
	}
	from, to := f.From.In(f.Zone), f.To.In(f.Zone)
	if f.FirstDay() == f.LastDay() {
		end := "24:00"
		if f.End != "" {
			end = to.Format("15:04")
		}
		return from.Format("2 Jan 2006, 15:04") + " – " + end
	}
	return from.Format("2 Jan 2006, 15:04") + " – " + to.Format("2 Jan 2006, 15:04")
}

func logsChart(f eventlog.Filter, counts eventlog.Counts) views.LogChart {
	spans := make([]views.LogSpan, len(counts.Spans))
	for i, tally := range counts.Spans {
		from, to := counts.Starts[i], counts.Starts[i+1]
		spans[i] = views.LogSpan{From: from, To: to, Errors: tally.Errors, Warnings: tally.Warnings, Others: tally.Others}
		if tally.Sum() > 0 {
			spans[i].Href = addressOf(logsPath, f.Within(from, to).Values())
		}
	}
	chart := views.LogChartOf(spans, counts.Step, f.Zone)
	chart.Unknown = !counts.Known
	return chart
}

func (s *Server) logsFilters(f eventlog.Filter, choices eventlog.Choices) views.LogsFilters {
	filters := views.LogsFilters{
		Period: periodChoice(f.Period, s.Now()), Start: f.Start, End: f.End,
		Levels: views.LogLevels(f.Level), Sources: []views.Option{{Label: "All sources"}}, Events: choices.Events, Event: f.Event,
		Request: f.RequestID, Learner: f.Learner, Text: f.Text, Narrowed: f.Narrowed(),
	}
	filters.Period.To = f.LastDay().String()
	filters.Period.Ranges = views.LogRanges(filters.Period.Ranges, eventlog.Ranges)
	for _, source := range choices.Sources {
		filters.Sources = append(filters.Sources, views.Option{Value: source, Label: source})
	}
	chooseAny(&filters.Sources, f.Source)
	return filters
}

// logEvent writes out an event.
func logEvent(e eventlog.Event, zone *time.Location) views.LogEvent {
	line := views.LogEvent{
		ID: e.ID.String(), Place: e.Place().String(), At: views.LogMomentOf(e.At, zone), Level: e.Level.String(), Name: e.Name, Source: e.Source, Node: e.Node,
		Request: e.RequestID, Facts: views.LogFacts(e.Attributes), JSON: views.IndentJSON(e.JSON()),
	}
	if e.RequestID != "" {
		line.Events = logsOf(e.RequestID, e.At.In(zone))
	}
	if e.UserID != nil {
		line.Learner = e.UserID.String()
		if e.Learner != "" {
			line.Learner, line.Who = e.Learner, "/learners/"+e.UserID.String()
		}
	}
	if isOfRun(e) {
		line.Run = "/runs/" + e.RequestID
	}
	return line
}

// logsOf is the address of the events of a request.
func logsOf(id string, at time.Time) string {
	return addressOf(logsPath, url.Values{"request": {id}, "from": {at.Format(time.DateOnly)}})
}

// isOfRun says whether an event's request became a run: one that was rejected has a
// code and no results.
func isOfRun(e eventlog.Event) bool {
	_, err := uuid.Parse(e.RequestID)
	return err == nil && strings.HasPrefix(e.Name, "ai_run_") && !bytes.Contains(e.Attributes, []byte(`"code":`))
}

// runLog is what was logged about a run; nil for a lead, who does not see the log.
func (s *Server) runLog(c echo.Context, run history.Run) (*views.RunLog, error) {
	if scopeOf(c).learner != nil {
		return nil, nil
	}
	events, err := s.Logs.OfRequest(c.Request().Context(), run.ID.String(), run.StartedAt.Add(-time.Minute))
	if err != nil {
		return nil, err
	}
	log := &views.RunLog{Href: logsOf(run.ID.String(), run.StartedAt.In(s.zone(c)))}
	for _, e := range events {
		line := logEvent(e, s.zone(c))
		line.Run, line.Events = "", "" // this is the run
		if since := e.At.Sub(events[0].At); since > 0 {
			line.After = "+" + views.Duration(since)
		}
		log.Events = append(log.Events, line)
	}
	if len(events) == 0 {
		log.Silent = s.noEvents(run)
	}
	return log, nil
}

// noEvents says why nothing is there of a run.
func (s *Server) noEvents(run history.Run) string {
	now := s.Now()
	switch {
	case run.StartedAt.Before(s.Logs.KeptFrom(now)):
		return "They are gone: events are kept for " + plural(int64(s.Logs.Days()), "day", "days") + "."
	case now.Sub(run.StartedAt) < time.Minute:
		return "None yet: they come within a second. Load the page again."
	}
	return "None are stored. Demo runs have none; of others, standard output has them."
}

// tailLogs is GET /logs/tail: events as they come, as server-sent events. It reads
// the database, so that those of all nodes are there.
func (s *Server) tailLogs(c echo.Context) error {
	filter, at, err := s.logsQuery(c, c.QueryParams())
	if err != nil {
		return err
	}
	if !strings.Contains(c.Request().Header.Get("Accept"), "text/event-stream") {
		return fault.New(fault.Invalid, "This address is for following the page Logs live; open that page.")
	}
	if last := c.Request().Header.Get("Last-Event-ID"); last != "" {
		if place, err := eventlog.ParseCursor(last); err == nil {
			at = place
		}
	}
	ctx, cancel := context.WithTimeout(c.Request().Context(), tailFor)
	defer cancel()
	if s.Closing != nil {
		defer context.AfterFunc(s.Closing, cancel)()
	}
	stream := &eventStream{response: c.Response(), control: http.NewResponseController(c.Response()), abandon: cancel}
	stream.open()
	stream.write(func(w io.Writer) { io.WriteString(w, "retry: 1000\n\n") })
	go stream.beat(ctx.Done())
	return s.tail(ctx, stream, s.Logs.Tail(filter, at, s.Now()), filter.Zone)
}

// dataLines keeps a text together that has lines of its own: in a stream of events
// each way to end one counts.
var dataLines = strings.NewReplacer("\r\n", "\ndata: ", "\r", "\ndata: ", "\n", "\ndata: ")

func (s *Server) tail(ctx context.Context, stream *eventStream, tail *eventlog.Tail, zone *time.Location) error {
	ticker := time.NewTicker(tailEvery)
	defer ticker.Stop()
	for {
		events, skipped, err := tail.Next(ctx, s.Now())
		switch {
		case ctx.Err() != nil:
			return nil
		case fault.KindOf(err) == fault.Unavailable && err != nil:
			stream.send("away", asFault(err).Message)
		case err != nil:
			return err
		}
		if skipped {
			stream.send("skipped", "More came at once than can be shown here.")
		}
		for _, e := range events {
			var line strings.Builder
			if err := views.LogLine(logEvent(e, zone)).Render(ctx, &line); err != nil {
				return err
			}
			stream.write(func(w io.Writer) { fmt.Fprintf(w, "id: %s\ndata: %s\n\n", e.Place(), dataLines.Replace(line.String())) })
		}
		select {
		case <-ctx.Done():
			return nil
		case <-ticker.C:
		}
	}
}
