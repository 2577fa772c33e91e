package faults

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/shopspring/decimal"
)

// ask is one request, however often it is sent.
type ask struct {
	who    *person
	marker string // in the prompt and as X-Request-ID
	key    string // Idempotency-Key; may be empty
	models []string
	stream bool
	config map[string]any
}

func (a ask) body() []byte {
	config := map[string]any{"maxTokens": 120, "timeoutMs": 2000}
	for name, v := range a.config {
		config[name] = v
	}
	body, err := json.Marshal(map[string]any{"prompt": "[[" + a.marker + "]] Explain RAG to a chef", "models": a.models, "stream": a.stream, "config": config})
	if err != nil {
		panic(err)
	}
	return body
}

// answer is what became of sending one.
type answer struct {
	ask      ask
	node     string
	err      error // there was none, or not all of it
	status   int
	retry    string // Retry-After
	replayed bool
	body     []byte
	envelope envelope // of a 200
	failure  struct {
		Error struct{ Code, Message string }
	}
}

// acknowledged says whether the client was told the outcome of a run.
func (a answer) acknowledged() bool { return a.err == nil && a.status == http.StatusOK }

// envelope is an answer's body, in words of its own.
type envelope struct {
	RequestID   string
	Status      string
	DurationMs  int64
	TotalTokens int64
	TotalCost   decimal.Decimal
	Unpriced    int
	Results     []result
}

type result struct {
	Model, Status string
	Output        *string
	Usage         *struct {
		InputTokens, CachedInputTokens, CacheWriteTokens, OutputTokens, ReasoningTokens, TotalTokens int64
		Source                                                                                       string
	}
	Cost       *decimal.Decimal
	CostSource *string
	KeySource  *string
	DurationMs int64
	Attempts   int
	Error      *struct {
		Class, Message string
		HTTPStatus     int
	}
}

func (r result) class() string {
	if r.Error == nil {
		return ""
	}
	return r.Error.Class
}

// clients share connections, as those of a frontend do.
var clients = &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 64}}

// send posts once. X-Request-ID is the marker, so that rows can be found again
// that tell nothing of the prompt.
func send(ctx context.Context, node string, a ask) answer {
	got := answer{ask: a, node: node}
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, node+"/api/ai/run", bytes.NewReader(a.body()))
	if err != nil {
		panic(err)
	}
	request.Header.Set("Authorization", "Bearer "+a.who.token)
	request.Header.Set("Content-Type", "application/json")
	request.Header.Set("X-Request-ID", a.marker)
	request.GetBody = nil // the transport shall not try again by itself
	if a.key != "" {
		request.Header["Idempotency-Key"] = []string{a.key}
	}
	response, err := clients.Do(request)
	if err != nil {
		got.err = err
		return got
	}
	defer response.Body.Close()
	got.status, got.retry = response.StatusCode, response.Header.Get("Retry-After")
	got.replayed = response.Header.Get("Idempotent-Replayed") == "true"
	if got.body, got.err = io.ReadAll(response.Body); got.err != nil {
		return got
	}
	switch {
	case got.status != http.StatusOK:
		got.err = json.Unmarshal(got.body, &got.failure)
	case a.stream:
		got.readStream()
	default:
		got.err = json.Unmarshal(got.body, &got.envelope)
	}
	return got
}

// readStream takes the envelope from done. A stream that ends with an error is
// that failure with status 503.
func (a *answer) readStream() {
	a.err = io.ErrUnexpectedEOF // unless it is ended properly
	for event := range strings.SplitSeq(string(a.body), "\n\n") {
		name, data, _ := strings.Cut(strings.TrimPrefix(event, "event: "), "\ndata: ")
		switch name {
		case "done":
			a.err = json.Unmarshal([]byte(data), &a.envelope)
		case "error":
			a.status, a.err = http.StatusServiceUnavailable, json.Unmarshal([]byte(data), &a.failure)
		}
	}
}

// crowd remembers what all clients were told.
type crowd struct {
	mu      sync.Mutex
	answers []answer
	told    int // of them acknowledged, replays aside
	changed chan struct{}
}

func newCrowd() *crowd { return &crowd{changed: make(chan struct{}, 1)} }

func (c *crowd) add(a answer) answer {
	c.mu.Lock()
	c.answers = append(c.answers, a)
	if a.acknowledged() && !a.replayed {
		c.told++
	}
	c.mu.Unlock()
	select {
	case c.changed <- struct{}{}:
	default:
	}
	return a
}

func (c *crowd) acknowledged() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.told
}

// refusals counts who was told to come back later, by the limit that was reached.
func (c *crowd) refusals() map[string]int {
	c.mu.Lock()
	defer c.mu.Unlock()
	refused := map[string]int{}
	for _, a := range c.answers {
		if a.status == http.StatusTooManyRequests {
			refused[strings.Join(strings.Fields(a.failure.Error.Message)[:3], " ")]++
		}
	}
	return refused
}

// more waits until that many more runs were acknowledged, or, on a slow machine,
// long enough.
func (c *crowd) more(n int) {
	timer := time.NewTimer(40 * time.Second)
	defer timer.Stop()
	for goal := c.acknowledged() + n; c.acknowledged() < goal; {
		select {
		case <-c.changed:
		case <-timer.C:
			return
		}
	}
}
