// Package sandbox plays AI providers over a real socket, so that runs work
// without any account: OpenAI's format and its dialects, Anthropic's and
// Gemini's, whole and streamed, with usage, key checks and errors in each
// provider's own words. Answers depend on nothing but the request.
//
// One server plays all of them; the first segment of the path says whom:
//
//	/anthropic             Anthropic's base URL
//	/google                Gemini's
//	/openai/v1, /xai/v1 …  those of the OpenAI-style ones; any id will do
//
// A key is good if it starts with "sandbox-". Prompts of more than a thousand
// tokens are answered as partly cached, models of reasoning families report
// reasoning tokens. What was answered is counted: see Billed, and Ledger for
// every single call.
//
// # Faults
//
// A model's name or a key that ends in one of these causes the fault; the
// model's goes before the key's, and both before what Chaos throws in:
//
//	-fault-401           the key is refused (Google and xAI say it with HTTP 400)
//	-fault-402           HTTP 402, no money
//	-fault-quota         no money, each provider in its own way (429, 400, a quota of the day)
//	-fault-403           not allowed
//	-fault-404           no such model
//	-fault-context       the prompt is too long
//	-fault-filter        the prompt is blocked
//	-fault-429           rate limit, without a hint
//	-fault-429-retry     rate limit, try again in 2 s
//	-fault-500           server error
//	-fault-503           overloaded
//	-fault-529           overloaded, Anthropic's way
//	-fault-hang          no answer at all
//	-fault-hang-stream   a few words, then silence
//	-fault-slow          the answer comes, a second late
//	-fault-close         the connection is closed without an answer
//	-fault-close-body    the connection is closed in mid-answer
//	-fault-close-stream  the connection is closed in mid-stream
//	-fault-end-stream    the stream ends properly, but without its end mark
//	-fault-garbage       10 MB of nonsense with status 200
//	-fault-html          a web page with status 200
//	-fault-empty         nothing with status 200
//	-fault-error-in-200  an error inside an answer of status 200; in a stream after a few words
//	-fault-huge-line     300 KB of text in one piece
//	-fault-crlf          \r\n, comments, a byte order mark and data over several lines
package sandbox

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// Option changes how a sandbox behaves.
type Option func(*Sandbox)

// NoDelay makes answers come at once, for tests and benchmarks.
func NoDelay(s *Sandbox) { s.pace = &rhythm{} }

// Latency makes every answer begin after d, whatever the model, and then come at
// once.
func Latency(d time.Duration) Option {
	return func(s *Sandbox) { s.pace = &rhythm{first: d} }
}

// Remember makes the sandbox keep whole answers and give them again, which costs
// a sixth of composing them: for a load of a few different prompts.
func Remember(s *Sandbox) { s.memory = &memory{answers: map[string]known{}} }

// Sandbox is the handler that plays the providers.
type Sandbox struct {
	pace   *rhythm // nil: each model has its own
	memory *memory // nil: there is none
	ledger *ledger // nil: there is none
	chaos  atomic.Pointer[chaos]

	mu    sync.Mutex
	bills map[[2]string]*Bill
}

// Bill is what one model of one provider would have to be paid for. Input
// includes Cached and CacheWrite, Output includes Reasoning.
type Bill struct {
	Provider, Model                              string
	Calls                                        int64
	Input, Cached, CacheWrite, Output, Reasoning int64
	Unfinished                                   int64 // of Calls: broken off, by either side
}

// New makes a sandbox.
func New(options ...Option) *Sandbox {
	s := &Sandbox{bills: map[[2]string]*Bill{}}
	for _, option := range options {
		option(s)
	}
	return s
}

// Server is a sandbox that listens.
type Server struct {
	*Sandbox
	URL string // "http://127.0.0.1:41234"; providers are below it
}

// Start serves a sandbox on addr, which must be of the loopback interface
// ("127.0.0.1:0" or "" for any free port), until ctx ends.
func Start(ctx context.Context, addr string, options ...Option) (*Server, error) {
	if addr == "" {
		addr = "127.0.0.1:0"
	}
	listener, err := new(net.ListenConfig).Listen(ctx, "tcp", addr)
	if err != nil {
		return nil, fmt.Errorf("listen for the sandbox: %w", err)
	}
	if host, ok := listener.Addr().(*net.TCPAddr); !ok || !host.IP.IsLoopback() {
		return nil, errors.Join(fmt.Errorf("the sandbox listens on the loopback interface only, not on %s", addr), listener.Close())
	}
	s := &Server{Sandbox: New(options...), URL: "http://" + listener.Addr().String()}
	server := &http.Server{Handler: s.Sandbox, ReadHeaderTimeout: 10 * time.Second, IdleTimeout: 2 * time.Minute}
	context.AfterFunc(ctx, func() { _ = server.Close() })
	go func() { _ = server.Serve(listener) }() // returns when it is closed
	return s, nil
}

// Billed lists what was answered, by provider and model.
func (s *Sandbox) Billed() []Bill {
	s.mu.Lock()
	defer s.mu.Unlock()
	bills := make([]Bill, 0, len(s.bills))
	for _, key := range slices.SortedFunc(maps.Keys(s.bills), func(a, b [2]string) int { return slices.Compare(a[:], b[:]) }) {
		bills = append(bills, *s.bills[key])
	}
	return bills
}

func (s *Sandbox) bill(e *Entry, provider, model string, t tally, finished bool) {
	e.bill(t, finished)
	s.mu.Lock()
	defer s.mu.Unlock()
	key := [2]string{provider, model}
	b := s.bills[key]
	if b == nil {
		b = &Bill{Provider: provider, Model: model}
		s.bills[key] = b
	}
	b.Calls++
	b.Input += int64(t.input)
	b.Cached += int64(t.cached)
	b.CacheWrite += int64(t.cacheWrite)
	b.Output += int64(t.output)
	b.Reasoning += int64(t.reasoning)
	if !finished {
		b.Unfinished++
	}
}

// format is one wire format.
type format interface {
	secret(r *http.Request) string
	// parse reads a request; nil refusal means that it is acceptable.
	parse(r *http.Request, body []byte) (prompt, *refusal)
	refusal(fault string, p prompt, secret string) *refusal
	// keyInfo answers a key check; nil means that there is no such path.
	keyInfo(path, fault string) any

	whole(p prompt, a answer) any
	// start, delta and end are the events of a stream, done what ends it after
	// its last event.
	start(p prompt, a answer) []frame
	delta(p prompt, a answer, text string) frame
	end(p prompt, a answer) []frame
	failed(p prompt) frame
}

// refusal is an error answer.
type refusal struct {
	status int
	header http.Header
	body   any
}

func formatOf(provider string) format {
	switch provider {
	case "anthropic":
		return anthropic{}
	case "google":
		return gemini{}
	}
	return openAI{provider}
}

// ServeHTTP plays the provider that the path names.
func (s *Sandbox) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	provider, _, ok := strings.Cut(strings.TrimPrefix(r.URL.Path, "/"), "/")
	if !ok {
		http.NotFound(w, r)
		return
	}
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, 4<<20))
	if err != nil {
		http.Error(w, "the request could not be read", http.StatusBadRequest)
		return
	}
	var entry *Entry
	if r.Method == http.MethodPost {
		entry = s.ledger.open(provider, body)
		defer s.ledger.close(entry)
	}
	f := formatOf(provider)
	secret := f.secret(r)
	asked := s.memory.question(r, secret, body)
	if known, ok := s.memory.find(asked); ok {
		s.repeat(w, r, known, entry)
		return
	}
	w.Header().Set("X-Request-Id", fmt.Sprintf("req_%08x", hash(r.URL.Path, string(body))))
	if entry != nil {
		w.Header().Set("X-Request-Id", entry.ID)
	}
	if !strings.HasPrefix(secret, "sandbox-") {
		refuse(w, f.refusal("401", prompt{}, secret))
		return
	}
	if r.Method == http.MethodGet {
		s.check(w, r, f, secret)
		return
	}
	p, bad := f.parse(r, body)
	if bad != nil {
		refuse(w, bad)
		return
	}
	p.provider = provider
	p.fault = faultOf(p.model)
	if p.fault == "" {
		p.fault = faultOf(secret)
	}
	if p.fault == "" {
		p.fault = s.chaos.Load().pick()
	}
	if entry != nil {
		entry.Model, entry.Fault = p.model, p.fault
	}
	p.asked, p.entry = asked, entry
	s.answer(w, r, f, p, secret)
}

// faultOf is the fault that a model's name or a key asks for.
func faultOf(name string) string {
	_, fault, _ := strings.Cut(name, "-fault-")
	return fault
}

func (s *Sandbox) check(w http.ResponseWriter, r *http.Request, f format, secret string) {
	fault := faultOf(secret)
	switch fault {
	case "hang":
		<-r.Context().Done()
		return
	case "html":
		page(w)
		return
	case "402", "quota": // a list of models costs nothing
	default:
		if refused := f.refusal(fault, prompt{}, secret); refused != nil {
			refuse(w, refused)
			return
		}
	}
	info := f.keyInfo(r.URL.Path, fault)
	if info == nil {
		http.NotFound(w, r)
		return
	}
	writeJSON(w, http.StatusOK, info)
}

func (s *Sandbox) answer(w http.ResponseWriter, r *http.Request, f format, p prompt, secret string) {
	ctx := r.Context()
	pace := s.paceOf(p.model)
	if p.fault == "hang" {
		<-ctx.Done()
		return
	}
	if p.fault == "slow" {
		pace.first += time.Second
	}
	if !sleep(ctx, pace.first) {
		return
	}
	if p.fault == "close" {
		panic(http.ErrAbortHandler)
	}
	if refused := f.refusal(p.fault, p, secret); refused != nil {
		refuse(w, refused)
		return
	}
	a := compose(p)
	switch {
	case p.fault == "garbage":
		garbage(w, p.stream)
	case p.fault == "html":
		page(w)
	case p.fault == "empty":
		w.WriteHeader(http.StatusOK)
	case p.stream:
		s.stream(w, r, f, p, a, pace)
	default:
		s.whole(w, r, f, p, a)
	}
}

func (s *Sandbox) whole(w http.ResponseWriter, r *http.Request, f format, p prompt, a answer) {
	switch p.fault {
	case "error-in-200":
		writeJSON(w, http.StatusOK, f.failed(p).data)
		return
	case "close-body", "close-stream", "end-stream", "hang-stream":
		s.bill(p.entry, p.provider, p.model, a.tally, false)
		half(w, f.whole(p, a))
		if p.fault == "hang-stream" {
			<-r.Context().Done()
		}
		panic(http.ErrAbortHandler)
	}
	whole := marshal(f.whole(p, a))
	if p.fault == "" {
		s.memory.keep(p.asked, known{provider: p.provider, model: p.model, tally: a.tally, requestID: w.Header().Get("X-Request-Id"), body: whole})
	}
	s.bill(p.entry, p.provider, p.model, a.tally, true)
	writeBody(w, http.StatusOK, whole)
}

// stream hands out an answer word by word.
func (s *Sandbox) stream(w http.ResponseWriter, r *http.Request, f format, p prompt, a answer, pace rhythm) {
	w.Header().Set("Content-Type", "text/event-stream; charset=utf-8")
	out := newFrameWriter(w, p.fault == "crlf")
	finished := false
	sent := 0
	defer func() {
		if !finished {
			a.tally.output = a.tally.reasoning + sent
		}
		s.bill(p.entry, p.provider, p.model, a.tally, finished)
	}()
	out.write(f.start(p, a)...)
	middle := min(5, len(a.pieces)/2)
	for i, piece := range a.pieces {
		if i == middle {
			switch p.fault {
			case "close-body", "close-stream":
				panic(http.ErrAbortHandler)
			case "end-stream":
				return
			case "hang-stream":
				<-r.Context().Done()
				return
			case "error-in-200":
				out.write(f.failed(p))
				return
			}
		}
		if !sleep(r.Context(), pace.word) {
			return
		}
		out.write(f.delta(p, a, piece))
		sent++
	}
	out.write(f.end(p, a)...)
	finished = out.err == nil
}

// paceOf is how fast a model answers here.
func (s *Sandbox) paceOf(model string) rhythm {
	if s.pace != nil {
		return *s.pace
	}
	return paceOf(model)
}

// sleep waits, unless ctx ends before.
func sleep(ctx context.Context, d time.Duration) bool {
	if d <= 0 {
		return ctx.Err() == nil
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}
