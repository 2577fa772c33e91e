package incident

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strconv"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/promptcademy/promptops/internal/price"
)

// Impact is what an incident did, counted from the runs that were started in its
// time.
type Impact struct {
	From        time.Time  `json:"from"`
	To          time.Time  `json:"to"` // when it was resolved, or looked at
	Runs        int64      `json:"runs"`
	Failed      int64      `json:"failed"`      // no model answered
	Partial     int64      `json:"partial"`     // some models did
	Interrupted int64      `json:"interrupted"` // the server ended before
	Learners    int64      `json:"learners"`    // who had such a run
	Teams       int64      `json:"teams"`       // for which there was such a run
	Failures    []Failures `json:"failures"`
	Unknown     int64      `json:"unknown"` // attempts on fallback keys whose cost nobody knows

	Fallback price.USD `json:"-"` // what fallback keys paid
}

// Failures are the failed attempts at one provider.
type Failures struct {
	Provider string  `json:"provider"`
	Attempts int64   `json:"attempts"` // all of them
	Failed   int64   `json:"failed"`
	Classes  []Class `json:"classes"` // the most frequent first
}

// Class is how many attempts failed for one reason.
type Class struct {
	Class  string `json:"class"` // empty: not known
	Failed int64  `json:"failed"`
}

// Duration is how long it went on.
func (i Impact) Duration() time.Duration { return i.To.Sub(i.From) }

func measure(ctx context.Context, tx pgx.Tx, from, to time.Time) (Impact, error) {
	i := Impact{From: from, To: to}
	err := tx.QueryRow(ctx, `
		select count(*), count(*) filter (where status = 'error'), count(*) filter (where status = 'partial'), count(*) filter (where status = 'interrupted'),
		       count(distinct user_id) filter (where status in ('error', 'partial', 'interrupted')),
		       count(distinct team_id) filter (where status in ('error', 'partial', 'interrupted'))
		from public.prompt_runs
		where id >= $3 and id < $4 and created_at >= $1 and created_at < $2`,
		from, to, firstID(from), firstID(to.Add(time.Millisecond))).Scan(&i.Runs, &i.Failed, &i.Partial, &i.Interrupted, &i.Learners, &i.Teams)
	if err != nil {
		return Impact{}, fmt.Errorf("impact: %w", err)
	}
	rows, _ := tx.Query(ctx, `
		select provider, coalesce(error_class, '') as class, count(*) as attempts, count(*) filter (where status = 'error') as failed,
		       coalesce(sum(cost_usd) filter (where key_source = 'fallback'), 0) as fallback,
		       count(*) filter (where key_source = 'fallback' and cost_usd is null and status <> 'running') as unknown
		from public.prompt_attempts
		where created_at >= $1 and created_at < $2
		group by provider, class
		order by provider, failed desc, class`, from, to)
	sums, err := pgx.CollectRows(rows, pgx.RowToStructByName[attemptSum])
	if err != nil {
		return Impact{}, fmt.Errorf("impact: %w", err)
	}
	i.add(sums)
	return i, nil
}

type attemptSum struct {
	Provider, Class           string
	Attempts, Failed, Unknown int64
	Fallback                  price.USD
}

func (i *Impact) add(sums []attemptSum) {
	var all []Failures
	for _, s := range sums {
		if len(all) == 0 || all[len(all)-1].Provider != s.Provider {
			all = append(all, Failures{Provider: s.Provider})
		}
		f := &all[len(all)-1]
		f.Attempts += s.Attempts
		f.Failed += s.Failed
		if s.Failed > 0 {
			f.Classes = append(f.Classes, Class{s.Class, s.Failed})
		}
		i.Fallback, i.Unknown = i.Fallback.Add(s.Fallback), i.Unknown+s.Unknown
	}
	all = slices.DeleteFunc(all, func(f Failures) bool { return f.Failed == 0 })
	slices.SortStableFunc(all, func(a, b Failures) int { return cmp.Compare(b.Failed, a.Failed) })
	i.Failures = all
}

// Span writes how long something took, in its two largest units: "3 h 5 min".
func Span(d time.Duration) string {
	seconds := int64(d.Round(time.Second) / time.Second)
	number := func(n int64, unit string) string { return strconv.FormatInt(n, 10) + " " + unit }
	two := func(large int64, unit string, small int64, smaller string) string {
		if small == 0 {
			return number(large, unit)
		}
		return number(large, unit) + " " + number(small, smaller)
	}
	switch {
	case seconds < 60:
		return number(seconds, "s")
	case seconds < 3600:
		return two(seconds/60, "min", seconds%60, "s")
	case seconds < 86400:
		return two(seconds/3600, "h", seconds%3600/60, "min")
	}
	return two(seconds/86400, "d", seconds%86400/3600, "h")
}
