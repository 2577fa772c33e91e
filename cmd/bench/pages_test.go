package main

import (
	"bytes"
	"net/http"
	"net/http/cookiejar"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/promptcademy/promptops/handlers"
)

// someFacts are what readFacts finds.
var someFacts = map[string]string{
	"learner": "l1", "learner-email": "l@demo.test", "team": "t1", "run": "r1", "template": "p1", "fallback-key": "k1", "procedure": "leaked-key",
	"price-job": "3", "two-weeks-ago": "2026-07-17", "old-from": "2026-07-01", "old-to": "2026-07-30", "operator": "o1", "endpoint": "bench", "incident": "7", "lead-learner": "l2", "lead-run": "r2",
}

// Every page of the table is measured, as an admin and, where it is theirs, as a lead.
func TestEveryPageIsMeasured(t *testing.T) {
	views, err := viewsOf(handlers.Pages(), someFacts, "")
	if err != nil {
		t.Fatal(err)
	}
	for _, page := range handlers.Pages() {
		for _, lead := range []bool{false, true} {
			found := slices.ContainsFunc(views, func(v view) bool { return v.path == page.Path && v.lead == lead && v.note == "" })
			if found != (!lead || page.Leads) {
				t.Errorf("%s, lead %v: measured %v", page.Path, lead, found)
			}
		}
	}
	addresses := map[string]string{}
	for _, v := range views {
		if strings.ContainsAny(v.address, "{}:*") && !strings.Contains(v.address, "?") || addresses[v.name()] != "" {
			t.Errorf("%s is asked for at %s", v.name(), v.address)
		}
		addresses[v.name()] = v.address
	}
	for name, want := range map[string]string{
		"/runs/:id": "/runs/r1", "/runs/:id (lead)": "/runs/r2", "/settings/teams/:id": "/settings/teams/t1", "/runbook/:slug/diff": "/runbook/leaked-key/diff?from=0&to=0",
		"/runs, a learner, nothing is that dear": "/runs?range=180d&learner=l@demo.test&cost=1000",
	} {
		if addresses[name] != want {
			t.Errorf("%s is asked for at %q, want %q", name, addresses[name], want)
		}
	}
	for path := range questions {
		if !slices.ContainsFunc(handlers.Pages(), func(p handlers.Page) bool { return p.Path == path }) {
			t.Errorf("there is no page %s any more", path)
		}
	}
	for path := range subjects {
		if !slices.ContainsFunc(handlers.Pages(), func(p handlers.Page) bool { return p.Path == path }) {
			t.Errorf("there is no page %s any more", path)
		}
	}
	for _, path := range heavyPages {
		path, query, _ := strings.Cut(path, "?")
		if _, err := addressOf(path, "?"+query, false, someFacts); err != nil {
			t.Error(err)
		}
	}
	if some, err := viewsOf(handlers.Pages(), someFacts, "/rls,/playground"); err != nil || len(some) != 2 {
		t.Errorf("%v, %v", some, err)
	}
}

// A new page with a parameter, or a filter that nothing is known for, is said.
func TestPagesThatAreNotTold(t *testing.T) {
	if _, err := viewsOf([]handlers.Page{{Path: "/new/:id"}}, someFacts, ""); err == nil || !strings.Contains(err.Error(), "/new/:id") {
		t.Errorf("%v", err)
	}
	if _, err := addressOf("/runs", "?team={nothing}", false, someFacts); err == nil {
		t.Error("asked for what is not known")
	}
}

func TestMeasurePage(t *testing.T) {
	asked := 0
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if asked++; r.URL.Path == "/away" {
			w.WriteHeader(http.StatusServiceUnavailable)
		}
	}))
	defer server.Close()
	jar, err := cookiejar.New(nil)
	if err != nil {
		t.Fatal(err)
	}
	b := &browser{&http.Client{Jar: jar}, server.URL}
	for path, refused := range map[string]int{"/": 0, "/away": 503} {
		asked = 0
		got, err := b.measure(t.Context(), path, 10)
		if err != nil || got.refused != refused || got.p50 <= 0 || got.p95 < got.p50 || asked != 10+uncounted {
			t.Errorf("%s: %+v, %v, asked for %d times", path, got, err, asked)
		}
	}
}

func TestPageReport(t *testing.T) {
	r := pageReport{sizes: []int{100_000, 10_000_000}}
	ms := func(p50, p95 float64) pageTime {
		return pageTime{p50: time.Duration(p50 * 1e6), p95: time.Duration(p95 * 1e6)}
	}
	for _, c := range []struct {
		path        string
		first, last pageTime
	}{
		{"/good", ms(10, 12), ms(12, 14)}, {"/slow", ms(45, 60), ms(46, 51)}, {"/grows", ms(10, 12), ms(20, 22)},
		{"/noise", ms(0.2, 0.3), ms(0.9, 1)}, {"/refused", ms(5, 6), pageTime{5e6, 6e6, 503}},
	} {
		r.add(view{path: c.path}, 100_000, c.first)
		r.add(view{path: c.path}, 10_000_000, c.last)
	}
	r.add(view{path: "/once"}, 100_000, ms(1, 2))
	r.beside = []besideTime{
		{name: "p50", unit: "ms", judged: true, alone: []float64{2, 2, 4}, with: []float64{2.1, 2.6, 4.2}},
		{name: "rate", unit: "/s", more: true, judged: true, alone: []float64{100, 120}, with: []float64{50, 60}},
		{name: "p99", unit: "ms", alone: []float64{1}, with: []float64{9}},
	}
	var out bytes.Buffer
	if err := r.print(&out); err != nil {
		t.Fatal(err)
	}
	text := strings.Join(strings.Fields(out.String()), " ")
	for _, want := range []string{
		"100 k 10 M growth", "/good 10.0 12.0 12.0 14.0 1.20 × met", "/slow 45.0 60.0 46.0 51.0 1.02 × missed: p95", "/grows 10.0 12.0 20.0 22.0 2.00 × missed: growth",
		"/noise 0.20 0.30 0.90 1.00 1.00 × met", "missed: status 503", "/once 1.00 2.00 n/a n/a", "2 of 5 met",
		"p50 2.00 ms 2.60 ms 1.05 × met", "rate 110 /s 55.0 /s 2.00 × missed", "p99 1.00 ms 9.00 ms 9.00 ×",
	} {
		if !strings.Contains(text, want) {
			t.Errorf("no %q in\n%s", want, &out)
		}
	}
}
