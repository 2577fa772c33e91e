package provider

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"time"
)

const (
	maxAnswer    = 8 << 20  // bytes of a whole answer, and of the text of a streamed one
	maxStream    = 64 << 20 // bytes of a whole event stream, envelopes and comments included
	maxLine      = 4 << 20  // bytes of one event
	maxErrorBody = 64 << 10 // bytes read of an error answer; what follows is not looked at

	// What is still to come of an answer that we have no more need of is waited
	// for this long, so that its connection can be used again.
	drainPatience = 50 * time.Millisecond
	// An error answer whose body does not come is judged by its status alone.
	errorPatience = 2 * time.Second
)

// NewHTTPClient makes the client that all providers share. It has no timeout of
// its own: the caller's context decides. It never follows a redirect, which
// would carry the key to another address.
func NewHTTPClient() *http.Client {
	dialer := newDialer()
	return &http.Client{
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		Transport: &http.Transport{
			Proxy:                  http.ProxyFromEnvironment,
			DialContext:            dialer.DialContext,
			ForceAttemptHTTP2:      true,
			TLSHandshakeTimeout:    10 * time.Second,
			MaxIdleConns:           1024,
			MaxIdleConnsPerHost:    256,
			IdleConnTimeout:        90 * time.Second,
			MaxResponseHeaderBytes: 64 << 10,
			DisableCompression:     true, // answers are small; and no limit can be slipped past by inflating
			HTTP2: &http.HTTP2Config{ // notice a dead connection before every call on it times out
				SendPingTimeout: 30 * time.Second,
				PingTimeout:     10 * time.Second,
			},
		},
	}
}

func newDialer() *net.Dialer {
	return &net.Dialer{Timeout: 10 * time.Second, KeepAlive: 30 * time.Second}
}

// New makes the client of one provider. Of httpClient, which many share, only
// the transport is used: redirects, cookies and a timeout have no place in a
// call that carries a key and a deadline. nil means one of its own.
func New(spec Spec, httpClient *http.Client) Client {
	if httpClient == nil {
		httpClient = NewHTTPClient()
	}
	c := &client{name: spec.Name, base: strings.TrimRight(spec.BaseURL, "/"), transport: httpClient.Transport}
	if c.transport == nil {
		c.transport = http.DefaultTransport
	}
	if c.name == "" {
		c.name = spec.ID
	}
	switch spec.Wire {
	case WireAnthropic:
		c.wire = anthropic{}
	case WireGemini:
		c.wire = gemini{}
	default:
		c.wire = openAI{quirksOf[spec.ID]}
	}
	return c
}

// wire is what differs between the formats. How a call is conducted does not:
// that is client.
type wire interface {
	// request is where a call goes, below the base URL, and what is sent.
	request(call Call, stream bool) (path string, body any, err error)
	authorize(header http.Header, secret string)
	// decoder reads one answer into a.
	decoder(call Call, a *answer) decoder
	// checks are paths whose GET proves a key; the next is tried where one does
	// not exist.
	checks() []string
	// checked looks at what such a GET brought; credit means that it says there
	// is money left.
	checked(body []byte) (credit bool, err error)
}

// decoder reads one answer. Its errors are errShape, errTooLarge, a
// *reportedError or a *Failure.
type decoder interface {
	whole(body []byte) error
	// event reads one server-sent event; done means that nothing follows it.
	event(e event) (done bool, err error)
	// complete says whether a stream may end here.
	complete() bool
}

var (
	errShape    = errors.New("not the expected format")
	errTooLarge = errors.New("too large")
)

// reportedError is an error that came inside an answer of status 200.
type reportedError struct{ body []byte }

func (*reportedError) Error() string { return "the provider reported an error" }

// answer is what has come so far.
type answer struct {
	reply    Reply
	secret   string
	onText   func(string)
	start    time.Time
	streamed strings.Builder
	guard    guard
}

// add takes the next piece of the model's text.
func (a *answer) add(text string) error {
	// Postgres has no NUL in text, and nobody needs one.
	if strings.IndexByte(text, 0) >= 0 {
		text = strings.ReplaceAll(text, "\x00", "")
	}
	return a.emit(a.guard.pass(text))
}

func (a *answer) emit(text string) error {
	if text == "" {
		return nil
	}
	if a.onText == nil {
		a.reply.Text += text
		return nil
	}
	if a.streamed.Len()+len(text) > maxAnswer {
		return errTooLarge
	}
	if a.reply.FirstToken == 0 {
		a.reply.FirstToken = max(time.Since(a.start), 1)
	}
	a.streamed.WriteString(text)
	a.onText(text)
	return nil
}

// client conducts calls in any wire format.
type client struct {
	name      string
	base      string
	transport http.RoundTripper
	wire      wire
}

// Complete implements Client.
func (c *client) Complete(ctx context.Context, call Call, onText func(text string)) (Reply, error) {
	a := &answer{secret: call.Secret, onText: onText, start: time.Now(), guard: newGuard(call.Secret)}
	failure := c.complete(ctx, call, a)
	if rest := a.guard.rest(); rest != "" {
		_ = a.emit(rest) // a few bytes over the limit do no harm
	}
	if onText != nil {
		a.reply.Text = a.streamed.String()
	}
	if failure != nil {
		if failure.RequestID == "" {
			failure.RequestID = a.reply.RequestID
		}
		return a.reply, failure
	}
	return a.reply, nil
}

func (c *client) complete(caller context.Context, call Call, a *answer) *Failure {
	ctx, cancel := context.WithCancel(caller)
	defer cancel()

	stream := a.onText != nil
	path, body, err := c.wire.request(call, stream)
	if err != nil {
		return c.failure(caller, err, nil, nil, call.Secret)
	}
	resp, failure := c.send(ctx, http.MethodPost, path, body, call.Secret)
	if failure != nil {
		return failure
	}
	defer resp.Body.Close()
	if resp.StatusCode/100 != 2 {
		return c.refused(resp, call.Secret, cancel)
	}
	a.reply.RequestID, a.reply.Accepted = requestID(resp.Header, call.Secret), true
	decoder := c.wire.decoder(call, a)
	if stream && !isDocument(resp.Header) {
		return c.readStream(caller, resp, decoder, call.Secret, cancel)
	}
	return c.readWhole(caller, resp, decoder, call.Secret)
}

// send makes one request. The response, if there is one, has any status.
func (c *client) send(ctx context.Context, method, path string, body any, secret string) (*http.Response, *Failure) {
	if !sendable(secret) {
		return nil, &Failure{Class: ClassInvalidKey, Message: "The key contains characters that no key has. Copy it again, without spaces or line breaks."}
	}
	var reader io.Reader
	if body != nil {
		encoded, err := encode(body)
		if err != nil {
			return nil, &Failure{Class: ClassBadRequest, Message: "The request could not be written as JSON."}
		}
		reader = bytes.NewReader(encoded)
	}
	req, err := http.NewRequestWithContext(ctx, method, c.base+path, reader)
	if err != nil {
		return nil, &Failure{Class: ClassProviderError, Message: "The address set for " + c.name + " is not valid."}
	}
	req.Header["User-Agent"] = userAgent
	if body != nil {
		req.Header["Content-Type"] = contentJSON
	}
	if secret != "" {
		c.wire.authorize(req.Header, secret)
	}
	resp, err := c.transport.RoundTrip(req)
	if err != nil {
		return nil, c.broken(ctx, err, "")
	}
	return resp, nil
}

var (
	userAgent   = []string{"promptops"}
	contentJSON = []string{"application/json"}
)

// sendable says whether a secret may stand in a header.
func sendable(secret string) bool {
	for i := range len(secret) {
		if secret[i] <= ' ' || secret[i] >= 0x7f {
			return false
		}
	}
	return true
}

func encode(body any) ([]byte, error) {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	err := e.Encode(body)
	return b.Bytes(), err
}

// isDocument says whether an answer is one document although a stream was asked
// for: some servers answer errors so, some cannot stream.
func isDocument(header http.Header) bool {
	kind, _, _ := strings.Cut(header.Get("Content-Type"), ";")
	switch strings.ToLower(strings.TrimSpace(kind)) {
	case "application/json", "text/html", "application/problem+json":
		return true
	}
	return false
}

var bodies = sync.Pool{New: func() any { return new(bytes.Buffer) }}

// readBody reads an answer into a pooled buffer; give it back with putBody.
func readBody(r io.Reader, limit int64) (*bytes.Buffer, error) {
	b := bodies.Get().(*bytes.Buffer)
	n, err := b.ReadFrom(io.LimitReader(r, limit+1))
	if n > limit {
		err = errTooLarge
	}
	return b, err
}

func putBody(b *bytes.Buffer) {
	if b.Cap() > 256<<10 {
		return
	}
	b.Reset()
	bodies.Put(b)
}

func (c *client) readWhole(ctx context.Context, resp *http.Response, d decoder, secret string) *Failure {
	body, err := readBody(resp.Body, maxAnswer)
	defer putBody(body)
	if err == nil {
		err = d.whole(body.Bytes())
	}
	if err == nil {
		return nil
	}
	return c.failure(ctx, err, resp, body.Bytes(), secret)
}

func (c *client) readStream(ctx context.Context, resp *http.Response, d decoder, secret string, cancel func()) *Failure {
	limited := &io.LimitedReader{R: resp.Body, N: maxStream}
	events := newEventReader(limited, maxLine)
	defer events.release()
	for first := true; ; first = false {
		e, err := events.next()
		switch {
		case err == nil:
			done, err := d.event(e)
			switch {
			case done && err == nil:
				drain(resp.Body, cancel)
				return nil
			case errors.Is(err, errShape) && e.cut:
				return c.broken(ctx, io.ErrUnexpectedEOF, "the stream ended early")
			case err != nil:
				return c.failure(ctx, err, resp, e.data, secret)
			}
		case d.complete():
			return nil
		case errors.Is(err, io.EOF) && limited.N <= 0, errors.Is(err, errTooLarge):
			return c.failure(ctx, errTooLarge, resp, nil, secret)
		case errors.Is(err, io.EOF) && first && events.junk:
			return c.failure(ctx, errShape, resp, nil, secret)
		default:
			return c.broken(ctx, err, "the stream ended early")
		}
	}
}

// drain reads the little that may follow, so that the connection is kept.
func drain(body io.Reader, cancel func()) {
	timer := time.AfterFunc(drainPatience, cancel)
	defer timer.Stop()
	_, _ = io.CopyN(io.Discard, body, 4<<10)
}

// refused reads an answer that is not a 2xx.
func (c *client) refused(resp *http.Response, secret string, cancel func()) *Failure {
	timer := time.AfterFunc(errorPatience, cancel)
	defer timer.Stop()
	// A body that breaks off still has its status, and often its first words.
	body, _ := readBody(resp.Body, maxErrorBody)
	defer putBody(body)
	return readFailure(c.name, resp.StatusCode, resp.Header, body.Bytes(), secret, time.Now())
}

// failure says why an answer of status 200 is none.
func (c *client) failure(ctx context.Context, err error, resp *http.Response, body []byte, secret string) *Failure {
	var reported *reportedError
	var ready *Failure
	switch {
	case errors.As(err, &ready):
		if resp != nil {
			ready.HTTPStatus = resp.StatusCode
		}
		ready.Message = Scrub(ready.Message, secret)
		return ready
	case errors.As(err, &reported):
		return readFailure(c.name, resp.StatusCode, resp.Header, reported.body, secret, time.Now())
	case errors.Is(err, errTooLarge):
		return &Failure{Class: ClassProviderError, HTTPStatus: resp.StatusCode, Message: c.name + "'s answer is too large."}
	case errors.Is(err, errShape):
		return readFailure(c.name, resp.StatusCode, resp.Header, body, secret, time.Now())
	default:
		return c.broken(ctx, err, "the connection was closed in mid-answer")
	}
}

// broken says why a connection came to nothing. The error's own text is not
// shown: it contains addresses.
func (c *client) broken(ctx context.Context, err error, what string) *Failure {
	deadline, has := ctx.Deadline()
	var netErr net.Error
	switch {
	case errors.Is(ctx.Err(), context.Canceled):
		return &Failure{Class: ClassCancelled, Message: "Cancelled before " + c.name + " was done."}
	// A dialer gives up at the deadline, a moment before the context does.
	case ctx.Err() != nil, errors.Is(err, context.DeadlineExceeded),
		has && errors.As(err, &netErr) && netErr.Timeout() && time.Until(deadline) < 50*time.Millisecond:
		return &Failure{Class: ClassTimeout, Message: c.name + " did not answer in time."}
	}
	if what == "" {
		what = dialProblem(err)
	}
	return &Failure{Class: ClassNetwork, Message: fmt.Sprintf("The connection to %s failed: %s.", c.name, what)}
}

func dialProblem(err error) string {
	var dns *net.DNSError
	var op *net.OpError
	var netErr net.Error
	switch {
	case errors.Is(err, errClosedNetwork):
		return "its address lies in a private network"
	case errors.As(err, &dns):
		return "its name could not be resolved"
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		return "it was closed without an answer"
	case errors.As(err, &netErr) && netErr.Timeout():
		return "connecting took too long"
	case errors.As(err, &op) && op.Op == "dial":
		return "nobody answers at its address"
	default:
		return "it was broken off"
	}
}

// Check implements Client.
func (c *client) Check(ctx context.Context, secret string) error {
	_, err := c.Inspect(ctx, secret)
	return err
}

// Inspect implements Client.
func (c *client) Inspect(ctx context.Context, secret string) (credit bool, err error) {
	var failure *Failure
	for _, path := range c.wire.checks() {
		credit, failure = c.check(ctx, path, secret)
		if failure == nil {
			return credit, nil
		}
		if failure.Class != ClassNotFound {
			break
		}
	}
	return false, failure
}

func (c *client) check(caller context.Context, path, secret string) (credit bool, failure *Failure) {
	ctx, cancel := context.WithCancel(caller)
	defer cancel()
	resp, failure := c.send(ctx, http.MethodGet, path, nil, secret)
	if failure != nil {
		return false, failure
	}
	defer resp.Body.Close()
	if resp.StatusCode/100 != 2 {
		return false, c.refused(resp, secret, cancel)
	}
	body, err := readBody(resp.Body, maxAnswer)
	defer putBody(body)
	if err == nil {
		credit, err = c.wire.checked(body.Bytes())
	}
	if err == nil {
		return credit, nil
	}
	return false, c.failure(caller, err, resp, body.Bytes(), secret)
}

// listed is the check of a plain list of models: {"data":[…]}, {"models":[…]}.
func listed(body []byte) error {
	var list struct {
		Data   *json.RawMessage `json:"data"`
		Models *json.RawMessage `json:"models"`
		Error  *json.RawMessage `json:"error"`
	}
	switch err := json.Unmarshal(body, &list); {
	case err != nil:
		return errShape
	case list.Error != nil:
		return &reportedError{body}
	case list.Data == nil && list.Models == nil:
		return errShape
	}
	return nil
}
