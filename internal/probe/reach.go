package probe

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/promptcademy/promptops/internal/postgres"
	"github.com/promptcademy/promptops/internal/runbook"
)

// Target is a provider whose runs go to an address.
type Target struct {
	Name string
	URL  string // an address of the provider's that answers without a key and costs nothing
}

// ProvidersInUse are the ids of providers for which there is a key that opens the
// real one, not the sandbox.
func (p *Probes) ProvidersInUse(ctx context.Context) ([]string, error) {
	var ids []string
	err := p.db.QueryRow(ctx, `
		select coalesce(array_agg(distinct provider order by provider), '{}') from (
		  select provider from ops.fallback_keys where not sandbox and status <> 'disabled'
		  union
		  select provider from public.user_api_keys k
		  where not exists (select from ops.demo_records d where d.kind = 'user_key' and d.id = k.id)
		) used`).Scan(&ids)
	return ids, postgres.Fault(err)
}

// Reached is what became of asking a provider.
type Reached struct {
	Name    string
	Status  int    // HTTP; any is an answer
	Problem string // why there was none
	Took    time.Duration
}

// Reach asks each target once, all at the same time, without a key. client must
// follow no redirects. Nothing of an answer is kept but its status, so nobody
// learns anything else of what stands behind an address.
func Reach(ctx context.Context, client *http.Client, targets []Target) []Reached {
	reached := make([]Reached, len(targets))
	var all sync.WaitGroup
	for i, target := range targets {
		all.Go(func() {
			began := time.Now()
			status, problem := reach(ctx, client, target.URL)
			reached[i] = Reached{target.Name, status, problem, time.Since(began)}
		})
	}
	all.Wait()
	return reached
}

func reach(ctx context.Context, client *http.Client, address string) (status int, problem string) {
	ctx, cancel := context.WithTimeout(ctx, 2500*time.Millisecond) // before the check itself is given up
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, address, nil)
	if err != nil {
		return 0, "its address cannot be used"
	}
	request.Header.Set("User-Agent", "Promptcademy-Ops")
	response, err := client.Do(request)
	if err != nil {
		if lookup, ok := errors.AsType[*net.DNSError](err); ok && lookup.IsNotFound {
			return 0, "its name is not known"
		}
		if timeout, ok := errors.AsType[net.Error](err); errors.Is(err, context.DeadlineExceeded) || ok && timeout.Timeout() {
			return 0, "no answer in time"
		}
		return 0, "no connection"
	}
	defer response.Body.Close()
	_, _ = io.CopyN(io.Discard, response.Body, 4<<10)
	return response.StatusCode, ""
}

// JudgeReach makes a reading of it.
func JudgeReach(reached []Reached) runbook.Reading {
	if len(reached) == 0 {
		return reading(runbook.Unknown, "Nothing to reach", "Only the built-in sandbox is in use: no key opens a real provider.")
	}
	answers := 0
	verdict := runbook.OK
	var words []string
	for _, r := range reached {
		switch {
		case r.Problem != "":
			verdict = runbook.Critical
			words = append(words, r.Name+": "+r.Problem)
			continue
		case r.Status >= 500:
			if !verdict.Worse(runbook.Warning) {
				verdict = runbook.Warning
			}
			words = append(words, fmt.Sprintf("%s: answers with %d", r.Name, r.Status))
		default:
			words = append(words, r.Name+" in "+inSeconds(r.Took))
		}
		answers++
	}
	return reading(verdict, fmt.Sprintf("%d of %d answer", answers, len(reached)), strings.Join(words, "; ")+".")
}
