package run

import (
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/promptcademy/promptops/internal/provider"
)

// hostile is what becomes of each thing that the double does.
var hostile = []struct {
	model      string
	class      provider.Class // "": it is ok
	status     int
	retryAfter int64
	partial    bool   // streamed, the words that had come are kept
	output     string // of one that is ok
}{
	{"401", provider.ClassInvalidKey, 401, 0, false, ""},
	{"402", provider.ClassBilling, 402, 0, false, ""},
	{"429", provider.ClassRateLimited, 429, 0, false, ""},
	{"429-retry", provider.ClassRateLimited, 429, 12000, false, ""},
	{"429-date", provider.ClassRateLimited, 429, 0, false, ""},
	{"500", provider.ClassProviderError, 500, 0, false, ""},
	{"529", provider.ClassOverloaded, 529, 0, false, ""},
	{"close", provider.ClassNetwork, 0, 0, false, ""},
	{"close-body", provider.ClassNetwork, 0, 0, true, ""},
	{"garbage", provider.ClassProviderError, 200, 0, false, ""},
	{"endless-line", provider.ClassProviderError, 200, 0, false, ""},
	{"html", provider.ClassProviderError, 200, 0, false, ""},
	{"wrong-types", provider.ClassProviderError, 200, 0, false, ""},
	{"deep", provider.ClassProviderError, 200, 0, false, ""},
	{"redirect", provider.ClassProviderError, 307, 0, false, ""},
	{"error-in-200", provider.ClassProviderError, 200, 0, true, ""},
	{"limit-in-200", provider.ClassRateLimited, 429, 0, false, ""},
	{"huge-line", "", 0, 0, false, hugeText},
	{"crlf", "", 0, 0, false, goodText},
	{"dirty", "", 0, 0, false, strings.ReplaceAll(dirty, "\x00", "")},
	{"lies", "", 0, 0, false, goodText},
	{"echo", "", 0, 0, false, "Your key is [key], isn't it?"},
}

// steady is what does not depend on the clock.
func steady(results []Result) []Result {
	all := make([]Result, len(results))
	for i, r := range results {
		r.DurationMs, r.FirstTokenMs = 0, nil
		all[i] = r
	}
	return all
}

// One bad model never changes another's result, whatever it does and whichever
// format it speaks.
func TestOneBadModel(t *testing.T) {
	w := makeWorld(t)
	good := []string{"openai/good", "anthropic/good", "google/good", "mistral/mistral-small-4"}
	for _, stream := range []bool{false, true} {
		call := w.call(good...)
		call.Request.Stream = stream
		alone := w.run(call, nil)
		if alone.Status != Success {
			t.Fatalf("the good ones alone: %s", encoded(t, alone))
		}
		for _, id := range []string{"openai", "anthropic", "google"} {
			for _, test := range hostile {
				t.Run(fmt.Sprintf("%s/%s stream=%v", id, test.model, stream), func(t *testing.T) {
					w := w.in(t)
					w.warm()
					model := id + "/" + test.model
					call := w.call(good[0], model, good[1], good[2], good[3])
					call.Request.Stream = stream
					call.Request.Config.TimeoutMs = ptr(11_000) // no rate limit is worth waiting for
					heard := &hearing{}
					e := w.run(call, heard)

					bad := e.Results[1]
					others := append(e.Results[:1:1], e.Results[2:]...)
					if test.class == provider.ClassInvalidKey || test.class == provider.ClassBilling {
						// Once ada's key is refused nobody uses it, also not the model beside it
						// that has not begun.
						others[0].KeySource = alone.Results[0].KeySource
					}
					if diff := cmp.Diff(steady(alone.Results), steady(others)); diff != "" {
						t.Errorf("the others' results changed:\n%s", diff)
					}
					if want := wantTries(id, test.class, test.status, stream && test.partial); bad.Model != model || bad.Provider != id || bad.Attempts != want {
						t.Errorf("want %d tries, got %s", want, encoded(t, bad))
					}
					checkBad(t, bad, test.class, test.status, test.retryAfter)
					switch {
					case test.class == "" && (bad.Output == nil || *bad.Output != test.output):
						t.Errorf("output %.100s", encoded(t, bad.Output))
					case test.class != "" && stream && test.partial && (bad.Output == nil || !strings.HasPrefix(goodText, *bad.Output) || *bad.Output == ""):
						t.Errorf("of what was streamed remains %.100s", encoded(t, bad.Output))
					case test.class != "" && (!stream || !test.partial) && bad.Output != nil:
						t.Errorf("output %.100s beside the error", encoded(t, bad.Output))
					}
					want := map[bool]Status{true: Success, false: Partial}[test.class == ""]
					if e.Status != want {
						t.Errorf("status %s, want %s", e.Status, want)
					}
					if stream {
						heard.check(t, e)
					} else if len(heard.deltas) > 0 {
						t.Errorf("heard %v without asking for a stream", heard.deltas)
					}
					w.checkRows(call, e, want)
					w.checkSecrets(e, heard.results, heard.deltas)
				})
			}
		}
	}
	if strings.Contains(w.logs.String(), "panic") {
		t.Errorf("something panicked: %s", w.logs)
	}
}

// wantTries is how often a provider is asked: with every key of ada's where the
// key is at fault, three times where the provider is. She has a key of her own
// for openai only.
func wantTries(id string, class provider.Class, status int, streamed bool) int {
	switch {
	case streamed:
		return 1
	case class == provider.ClassInvalidKey, class == provider.ClassBilling, class == provider.ClassRateLimited:
		return map[bool]int{true: 2, false: 1}[id == "openai"]
	case status >= 500, class == provider.ClassNetwork:
		return 1 + maxRetries
	}
	return 1
}

// in is the world of a subtest.
func (w *world) in(t *testing.T) *world {
	inner := *w
	inner.t = t
	return &inner
}

func checkBad(t *testing.T, r Result, class provider.Class, status int, retryAfter int64) {
	t.Helper()
	if class == "" {
		if r.Status != AttemptOK || r.Error != nil {
			t.Errorf("got %s, want it to be ok", describe(r))
		}
		return
	}
	if r.Status != AttemptError || r.Error == nil || r.Error.Class != class || r.Error.HTTPStatus != status || r.Error.RetryAfterMs != retryAfter {
		t.Fatalf("got %s; want %s %d after %d ms", describe(r), class, status, retryAfter)
	}
	if r.Error.Message == "" || strings.ContainsAny(r.Error.Message, "\n\x00<") || len(r.Error.Message) > 1000 {
		t.Errorf("message %q", r.Error.Message)
	}
}

// Models that hang, each in its way, take their own time and nobody else's:
// the others are done before.
func TestHangingModels(t *testing.T) {
	w := makeWorld(t)
	good := []string{"openai/good", "anthropic/good", "google/good"}
	var all sync.WaitGroup
	for _, stream := range []bool{false, true} {
		alone := w.call(good...)
		alone.Request.Stream = stream
		want := w.run(alone, nil).Results
		for _, how := range []string{"hang", "hang-body", "drip"} {
			all.Go(func() {
				call := w.call("openai/"+how, "openai/good", "anthropic/"+how, "anthropic/good", "google/good", "google/"+how)
				call.Request.Stream = stream
				ms := 4000 // enough for the good ones on a machine that is busy
				call.Request.Config.TimeoutMs = &ms
				heard := &hearing{}
				e, err := w.Run(w.ctx, call, heard)
				if err != nil {
					t.Error(err)
					return
				}
				for i, result := range heard.results {
					if bad := strings.HasSuffix(result.Model, how); bad != (i >= 3) {
						t.Errorf("%s was number %d", result.Model, i)
					}
				}
				var others []Result
				for _, result := range e.Results {
					if !strings.HasSuffix(result.Model, how) {
						others = append(others, result)
						continue
					}
					if result.Error == nil || result.Error.Class != provider.ClassTimeout {
						t.Errorf("got %s", describe(result))
					}
					// Who knows what they charge for it: it counts as used.
					if result.Usage == nil || result.Usage.InputTokens == 0 || result.Cost != nil {
						t.Errorf("used %s, cost %s", encoded(t, result.Usage), encoded(t, result.Cost))
					}
					if began := result.Output != nil; began != (stream && how == "hang-body") {
						t.Errorf("%s, stream=%v: output %s", how, stream, encoded(t, result.Output))
					}
				}
				if diff := cmp.Diff(steady(want), steady(others)); diff != "" {
					t.Errorf("the others' results changed:\n%s", diff)
				}
				w.checkRows(call, e, Partial)
				w.checkSecrets(e, heard.results, heard.deltas)
			})
		}
	}
	all.Wait()
}

// Eight models that all do their worst at the same time.
func TestOnlyBadModels(t *testing.T) {
	w := makeWorld(t)
	for _, stream := range []bool{false, true} {
		for _, id := range []string{"openai", "anthropic", "google"} {
			var bad []string
			for _, test := range hostile {
				if test.class != "" {
					bad = append(bad, id+"/"+test.model)
				}
			}
			for models := range slices.Chunk(bad, MaxModels) {
				w.warm()
				call := w.call(models...)
				call.Request.Stream = stream
				call.Request.Config.TimeoutMs = ptr(11_000)
				heard := &hearing{}
				e := w.run(call, heard)
				if e.Status != Failed {
					t.Errorf("status %s: %s", e.Status, encoded(t, e))
				}
				if stream {
					heard.check(t, e)
				}
				w.checkRows(call, e, Failed)
				w.checkSecrets(e, heard.results, heard.deltas)
			}
		}
	}
}
