package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"sync/atomic"

	"github.com/promptcademy/promptops/internal/load"
)

const (
	besideRounds = 5
	besideRate   = 200 // runs a second
)

// heavyPages are what is asked for beside runs: filters for which there is much to
// look through.
var heavyPages = []string{
	"/usage?range=180d", "/usage?range=180d&team={team}", "/activity?range=180d", "/activity?range=180d&team={team}",
	"/runs?range=180d&cost=1000", "/runs?range=180d&model=openai/nothing", "/runs?range=180d&request=nobody-sent-this", "/runs?range=180d&class=rate_limited&cost=1000",
}

// besidePages measures runs with and without somebody who asks for one heavy page
// after the other, in turn.
func (w *pageWorld) besidePages(ctx context.Context, s pageSettings, server string, admin *browser, r *pageReport) error {
	requests, err := w.runRequests(ctx, server)
	if err != nil {
		return err
	}
	var addresses []string
	for _, page := range heavyPages {
		path, query, _ := strings.Cut(page, "?")
		address, err := addressOf(path, "?"+query, false, w.facts)
		if err != nil {
			return err
		}
		addresses = append(addresses, address)
	}
	times := load.Times{Warmup: s.heavy / 4, Duration: s.heavy}
	paced := besideTime{name: fmt.Sprintf("%d runs a second, p50", besideRate), unit: "ms", judged: true}
	tail := besideTime{name: fmt.Sprintf("%d runs a second, p99", besideRate), unit: "ms"}
	rate := besideTime{name: "as many runs as go through on 64 connections", unit: "/s", more: true, judged: true}
	pages := int64(0)
	for n := range besideRounds {
		progress("runs beside pages: round %d of %d", n+1, besideRounds)
		for _, beside := range []bool{n%2 == 1, n%2 == 0} {
			stop := func() int64 { return 0 }
			if beside {
				stop = hammer(ctx, admin, addresses)
			}
			p50, p99, err := runsAtPace(ctx, times, requests)
			var most float64
			if err == nil {
				most, err = runsAtMost(ctx, times, requests)
			}
			pages += stop()
			if err != nil {
				return err
			}
			for _, f := range []struct {
				into  *besideTime
				value float64
			}{{&paced, p50}, {&tail, p99}, {&rate, most}} {
				if beside {
					f.into.with = append(f.into.with, f.value)
				} else {
					f.into.alone = append(f.into.alone, f.value)
				}
			}
		}
	}
	progress("%d heavy pages were answered meanwhile", pages)
	r.beside = []besideTime{paced, tail, rate}
	return nil
}

// hammer asks for pages one after the other until it is stopped, and then says how
// many were answered.
func hammer(ctx context.Context, b *browser, addresses []string) (stop func() int64) {
	ctx, cancel := context.WithCancel(ctx)
	done := make(chan struct{})
	var answered atomic.Int64
	go func() {
		defer close(done)
		for n := 0; ctx.Err() == nil; n++ {
			// A page that says that it gives up has been as much work as any.
			if _, _, err := b.get(ctx, addresses[n%len(addresses)]); err == nil {
				answered.Add(1)
			}
		}
	}()
	return func() int64 { cancel(); <-done; return answered.Load() }
}

func runsAtPace(ctx context.Context, times load.Times, requests []load.Request) (p50, p99 float64, err error) {
	calls, closeAll := load.Calls(64, requests)
	defer closeAll()
	result := load.Open(ctx, times, besideRate, calls)
	return milliseconds(result.Latency.Quantile(0.5)), milliseconds(result.Latency.Quantile(0.99)), result.Err()
}

func runsAtMost(ctx context.Context, times load.Times, requests []load.Request) (rate float64, err error) {
	calls, closeAll := load.Calls(closedConnections, requests)
	defer closeAll()
	result := load.Closed(ctx, times, calls)
	return result.Rate(), result.Err()
}

// runRequests are runs of one model by learners of our own.
func (w *pageWorld) runRequests(ctx context.Context, server string) (all []load.Request, err error) {
	for n := range benchLearners {
		token, err := w.command(ctx, "", "token", "--learner", fmt.Sprintf("learner%d@bench.test", n+1), "--ttl", "2h")
		if err != nil {
			return nil, err
		}
		body, err := json.Marshal(map[string]any{"prompt": promptOf(n), "models": []string{"openai/gpt-5-mini"}, "config": map[string]any{"maxTokens": 512}})
		if err != nil {
			return nil, err
		}
		r, err := http.NewRequestWithContext(ctx, http.MethodPost, server+"/api/ai/run", bytes.NewReader(body))
		if err != nil {
			return nil, err
		}
		r.Header.Set("Content-Type", "application/json")
		r.Header.Set("Authorization", "Bearer "+token)
		request, err := load.NewRequest(r, `"status":"success"`)
		if err != nil {
			return nil, err
		}
		all = append(all, request)
	}
	return all, nil
}

// benchLearners run prompts beside pages.
const benchLearners = 20
