package handlers

import (
	"bufio"
	"context"
	"crypto/sha256"
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
	"github.com/promptcademy/promptops/internal/telemetry"
)

const (
	runPath       = "/api/ai/run"
	heartbeat     = 15 * time.Second
	bodyTimeout   = 30 * time.Second
	streamTimeout = 10 * time.Second // for one write to a client that does not read
)

// runAPI is POST /api/ai/run.
func (s *Server) runAPI(c echo.Context) error {
	key, err := idempotencyKey(c)
	if err != nil {
		return err
	}
	body, err := readJSON(c)
	if err != nil {
		return err
	}
	req, err := run.ParseRequest(body, s.isProvider)
	if err != nil {
		return err
	}
	call := runCall(c, req)
	if key != "" {
		hash := sha256.Sum256(body)
		call.IdempotencyKey, call.RequestHash = key, hash[:]
	}
	if req.Stream {
		return s.streamRun(c, call)
	}
	envelope, err := s.Runner.Run(c.Request().Context(), call, nil)
	if err != nil || c.Request().Context().Err() != nil {
		return err
	}
	exchangeOf(c).upstream = envelope.Upstream
	announce(c, envelope.RequestID, envelope.Replayed)
	return c.JSON(http.StatusOK, envelope)
}

// runCall is the request as Runner takes it.
func runCall(c echo.Context, req run.Request) run.Call {
	who := callerOf(c)
	return run.Call{
		ID: requestID(c), ClientRequestID: clientRequestID(c), TraceParent: telemetry.TraceParent(c.Request().Header.Get("Traceparent")),
		LearnerID: who.learnerID, OperatorID: who.operatorID, Request: req,
	}
}

// announce says which run it is that is answered.
func announce(c echo.Context, id uuid.UUID, replayed bool) {
	header := c.Response().Header()
	header.Set(headerRequestID, id.String())
	if replayed {
		header.Set("Idempotent-Replayed", "true")
	}
}

// idempotencyKey is the caller's own name for the request; it may be empty.
func idempotencyKey(c echo.Context) (string, error) {
	values, given := c.Request().Header["Idempotency-Key"]
	if !given {
		return "", nil
	}
	unprintable := func(r rune) bool { return r < ' ' || r > '~' }
	if len(values) != 1 || values[0] == "" || len(values[0]) > run.MaxIdempotencyKey || strings.ContainsFunc(values[0], unprintable) {
		return "", fault.InvalidFields([]fault.Field{{Field: "Idempotency-Key", Message: fmt.Sprintf("must be one value of 1 to %d printable ASCII characters, like a UUID", run.MaxIdempotencyKey)}})
	}
	return values[0], nil
}

// setServerTiming says what of the time was ours and what the providers'. A
// stream says it of the time until it begins.
func setServerTiming(c echo.Context) {
	x := exchangeOf(c)
	all := time.Since(x.clock)
	c.Response().Header().Set("Server-Timing", fmt.Sprintf("own;dur=%.2f, upstream;dur=%.2f", milliseconds(all-x.upstream), milliseconds(x.upstream)))
}

func milliseconds(d time.Duration) float64 { return float64(max(d, 0).Microseconds()) / 1000 }

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
	envelope, err := s.Runner.Run(ctx, call, &runListener{c: c, stream: stream, beating: beating})
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
	c       echo.Context
	stream  *eventStream
	beating <-chan struct{}
}

func (l *runListener) Start(id uuid.UUID, replayed bool) {
	announce(l.c, id, replayed)
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
	id := c.Request().Header.Get(headerRequestID)
	if len(id) > 128 || strings.ContainsFunc(id, func(r rune) bool { return r < ' ' || r > '~' }) {
		return ""
	}
	return id
}
