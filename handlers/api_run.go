package handlers

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"mime"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/google/uuid"
	"github.com/labstack/echo/v4"

	"github.com/promptcademy/promptops/internal/fault"
	"github.com/promptcademy/promptops/internal/run"
)

const (
	runPath       = "/api/ai/run"
	heartbeat     = 15 * time.Second
	bodyTimeout   = 30 * time.Second
	streamTimeout = 10 * time.Second // for one write to a client that does not read
)

// runAPI is POST /api/ai/run.
func (s *Server) runAPI(c echo.Context) error {
	body, err := readJSON(c)
	if err != nil {
		return err
	}
	req, err := run.ParseRequest(body, s.isProvider)
	if err != nil {
		return err
	}
	call := callerOf(c).call(c, req)
	if req.Stream {
		return s.streamRun(c, call)
	}
	envelope, err := s.Runner.Run(c.Request().Context(), call, nil)
	if err != nil || c.Request().Context().Err() != nil {
		return err
	}
	return c.JSON(http.StatusOK, envelope)
}

func (s *Server) isProvider(id string) bool {
	_, ok := s.Providers.Lookup(id)
	return ok
}

// readJSON reads the body of a JSON request of at most run.MaxBody bytes.
func readJSON(c echo.Context) ([]byte, error) {
	mediaType, _, err := mime.ParseMediaType(c.Request().Header.Get("Content-Type"))
	if err != nil || mediaType != "application/json" {
		return nil, fault.New(fault.UnsupportedMediaType, "Send the request as application/json.")
	}
	control := http.NewResponseController(c.Response())
	_ = control.SetReadDeadline(time.Now().Add(bodyTimeout))
	body, err := io.ReadAll(http.MaxBytesReader(c.Response(), c.Request().Body, run.MaxBody))
	if err != nil {
		if f := asFault(err); f.Kind == fault.TooLarge {
			return nil, f
		}
		return nil, fault.New(fault.Malformed, "The body did not arrive in full.").Because(err)
	}
	// The deadline was for the body; the connection is watched on for a client
	// that leaves, which may take as long as the run does.
	_ = control.SetReadDeadline(time.Time{})
	return body, nil
}

// streamRun answers with server-sent events. Until the run is committed as
// started an error is an ordinary answer; after that the stream ends with done,
// or with error if the outcome could not be recorded.
func (s *Server) streamRun(c echo.Context, call run.Call) error {
	ctx, cancel := context.WithCancel(c.Request().Context())
	defer cancel()
	stream := &eventStream{response: c.Response(), control: http.NewResponseController(c.Response()), abandon: cancel}
	beating := make(chan struct{})
	defer close(beating)
	envelope, err := s.Runner.Run(ctx, call, &runListener{stream: stream, beating: beating})
	if err != nil {
		if c.Response().Committed {
			f := asFault(err)
			stream.send("error", failure{failureDetail{f.Kind, f.Message, f.Details}, call.ID})
		}
		return err
	}
	for i := range envelope.Results {
		envelope.Results[i].Output = nil
	}
	stream.send("done", envelope)
	return nil
}

// runListener puts a run on a stream.
type runListener struct {
	stream  *eventStream
	beating <-chan struct{}
}

func (l *runListener) Start(id uuid.UUID) {
	l.stream.open()
	l.stream.send("start", map[string]uuid.UUID{"requestId": id})
	go l.stream.beat(l.beating)
}

func (l *runListener) Delta(model, text string) {
	l.stream.send("delta", struct {
		Model string `json:"model"`
		Text  string `json:"text"`
	}{model, text})
}

func (l *runListener) Result(result run.Result) { l.stream.send("result", result) }

// eventStream writes server-sent events. A client that does not take them is
// given up: its run is cancelled.
type eventStream struct {
	response *echo.Response
	control  *http.ResponseController
	abandon  context.CancelFunc

	mu   sync.Mutex
	gone bool
}

func (s *eventStream) open() {
	header := s.response.Header()
	header.Set("Content-Type", "text/event-stream; charset=utf-8")
	header.Set("X-Accel-Buffering", "no") // a proxy in front must not collect the events
	s.response.WriteHeader(http.StatusOK)
}

func (s *eventStream) send(event string, data any) {
	payload, err := json.Marshal(data)
	if err != nil { // our own types always marshal
		panic(err)
	}
	s.write(func(w io.Writer) { fmt.Fprintf(w, "event: %s\ndata: %s\n\n", event, payload) })
}

// beat keeps the connection alive while models think.
func (s *eventStream) beat(until <-chan struct{}) {
	ticker := time.NewTicker(heartbeat)
	defer ticker.Stop()
	for {
		select {
		case <-until:
			return
		case <-ticker.C:
			s.write(func(w io.Writer) { io.WriteString(w, ": heartbeat\n\n") })
		}
	}
}

func (s *eventStream) write(event func(io.Writer)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.gone {
		return
	}
	_ = s.control.SetWriteDeadline(time.Now().Add(streamTimeout))
	buffered := bufio.NewWriter(s.response)
	event(buffered)
	if buffered.Flush() != nil || s.control.Flush() != nil {
		s.gone = true
		s.abandon()
	}
}

// clientRequestID is the caller's own X-Request-ID, for the log: short and
// printable, or nothing.
func clientRequestID(c echo.Context) string {
	id := c.Request().Header.Get("X-Request-ID")
	if len(id) > 128 || strings.ContainsFunc(id, func(r rune) bool { return r < ' ' || r > '~' }) {
		return ""
	}
	return id
}
