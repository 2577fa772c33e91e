package sandbox

import (
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

func TestLedger(t *testing.T) {
	s := New(NoDelay, Ledger, Remember)
	body := strings.Replace(question, "rain", "[[call 7]] rain", 1)
	first, again := call(t, s, "openai", key, body), call(t, s, "openai", key, body)
	call(t, s, "openai", key, strings.Replace(question, "gpt-5-mini", "gpt-5-mini-fault-500", 1))
	call(t, s, "openai", key, "") // a check of the key is no call
	entries := s.Entries()
	if len(entries) != 3 {
		t.Fatalf("%d entries", len(entries))
	}
	bill := s.Billed()[0]
	for i, w := range []http.Header{first.Header(), again.Header()} {
		e := entries[i]
		if e.ID != w.Get("X-Request-Id") || e.Marker != "call 7" || e.Model != "gpt-5-mini" || !e.Billed || !e.Finished ||
			2*e.Input != bill.Input || 2*e.Output != bill.Output || e.Ended.Before(e.Begun) {
			t.Errorf("%+v of a bill of %+v", e, bill)
		}
	}
	if entries[0].ID == entries[1].ID {
		t.Error("two calls have one id")
	}
	if e := entries[2]; e.Billed || e.Fault != "500" || e.Marker != "" {
		t.Errorf("a refused call is %+v", e)
	}
}

func TestChaos(t *testing.T) {
	faults := func(seed uint64) (played string) {
		s := New(NoDelay, Ledger)
		s.Chaos(seed, Odds{"500": 0.3, "429-retry": 0.2})
		for range 200 {
			call(t, s, "openai", key, question)
		}
		s.Chaos(0, nil)
		if w := call(t, s, "openai", key, question); w.Code != http.StatusOK {
			t.Errorf("HTTP %d after the chaos", w.Code)
		}
		for _, e := range s.Entries() {
			played += e.Fault + " "
		}
		return played
	}
	one := faults(1)
	if n := strings.Count(one, "500"); n < 30 || n > 90 {
		t.Errorf("%d of 200 calls met a fault of 30 %%", n)
	}
	if n := strings.Count(one, "429-retry"); n < 15 || n > 70 {
		t.Errorf("%d of 200 calls met a fault of 20 %%", n)
	}
	if one != faults(1) || one == faults(2) {
		t.Error("the seed does not decide")
	}
}

func TestSlow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		begin := time.Now()
		w := call(t, New(NoDelay), "openai", key, strings.Replace(question, "gpt-5-mini", "gpt-5-mini-fault-slow", 1))
		if w.Code != http.StatusOK || time.Since(begin) != time.Second {
			t.Errorf("%d after %v", w.Code, time.Since(begin))
		}
	})
}
