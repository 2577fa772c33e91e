package probe

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/promptcademy/promptops/internal/postgres"
	"github.com/promptcademy/promptops/internal/runbook"
)

const (
	// Fewer failed calls than that are no pattern.
	fewErrors = 5
	// The line that runs have to stay under, and as many runs as make a P95.
	slowLine = 15 * time.Second
	fewRuns  = 20
)

// ClassCount is how often calls to providers ended with an error class.
type ClassCount struct {
	Class  string
	Recent int64 // in the last 15 minutes
	Day    int64 // in the last 24 hours
}

// RunErrors counts what went wrong, by class.
func (p *Probes) RunErrors(ctx context.Context) (runbook.Reading, error) {
	now := p.now()
	rows, _ := p.db.Query(ctx, `
		select case when status = 'error' then coalesce(error_class, 'unknown') else '' end as class,
		       count(*) filter (where created_at > $1) as recent, count(*) as day
		from public.prompt_attempts
		where created_at > $2
		group by 1
		order by recent desc, day desc, class`, now.Add(-15*time.Minute), now.Add(-24*time.Hour))
	classes, err := pgx.CollectRows(rows, pgx.RowToStructByName[ClassCount])
	if err != nil {
		return runbook.Reading{}, postgres.Fault(err)
	}
	return JudgeErrors(classes), nil
}

// JudgeErrors makes a reading of all calls, those without an error under the
// empty class.
func JudgeErrors(classes []ClassCount) runbook.Reading {
	var recent, recentAll, day, dayAll int64
	var words []string
	for _, c := range classes {
		recentAll, dayAll = recentAll+c.Recent, dayAll+c.Day
		if c.Class == "" {
			continue
		}
		recent, day = recent+c.Recent, day+c.Day
		if len(words) < 6 {
			words = append(words, fmt.Sprintf("%s %d (%d in 24 h)", c.Class, c.Recent, c.Day))
		}
	}
	if recentAll == 0 {
		value, detail := "No calls in 15 min", "Nobody runs anything at the moment."
		if day > 0 {
			detail += fmt.Sprintf(" In 24 hours %d of %d failed: %s.", day, dayAll, strings.Join(words, ", "))
		}
		return reading(runbook.OK, value, detail)
	}
	value := fmt.Sprintf("%d of %s failed", recent, count(recentAll, "call"))
	detail := "In the last 15 minutes."
	if len(words) > 0 {
		detail = "In the last 15 minutes: " + strings.Join(words, ", ") + "."
	}
	switch {
	case recent >= fewErrors && recent*5 >= recentAll:
		return reading(runbook.Critical, value, detail)
	case recent >= fewErrors && recent*20 >= recentAll:
		return reading(runbook.Warning, value, detail)
	}
	return reading(runbook.OK, value, detail)
}

// Latency is how long runs took in the last hour.
type Latency struct {
	Runs int64
	P95  time.Duration
}

// LatencyP95 asks how long runs take now.
func (p *Probes) LatencyP95(ctx context.Context) (runbook.Reading, error) {
	var seen Latency
	var ms float64
	// Attempts are found by their time, runs by their key.
	err := p.db.QueryRow(ctx, `
		select count(*), coalesce(percentile_cont(0.95) within group (order by r.duration_ms), 0)
		from (select distinct run_id, created_at from public.prompt_attempts where created_at > $1) a
		join public.prompt_runs r on r.id = a.run_id and r.created_at = a.created_at
		where r.status in ('success', 'partial') and r.duration_ms is not null`, p.now().Add(-time.Hour)).Scan(&seen.Runs, &ms)
	if err != nil {
		return runbook.Reading{}, postgres.Fault(err)
	}
	seen.P95 = time.Duration(ms * float64(time.Millisecond))
	return JudgeLatency(seen), nil
}

// JudgeLatency makes a reading of it.
func JudgeLatency(seen Latency) runbook.Reading {
	if seen.Runs == 0 {
		return reading(runbook.OK, "No runs in the last hour", "There is nothing to be slow.")
	}
	value, detail := "P95 "+inSeconds(seen.P95), "Of "+count(seen.Runs, "run")+" in the last hour; the line is 15 s."
	switch {
	case seen.P95 > slowLine && seen.Runs >= fewRuns:
		return reading(runbook.Critical, value, detail)
	case seen.P95 > slowLine:
		return reading(runbook.Warning, value, detail, "So few runs may be chance.")
	case seen.P95 > slowLine*4/5:
		return reading(runbook.Warning, value, detail, "That is close.")
	}
	return reading(runbook.OK, value, detail)
}
