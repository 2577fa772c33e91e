package probe

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/promptcademy/promptops/internal/postgres"
	"github.com/promptcademy/promptops/internal/runbook"
)

// KeyState is a fallback key as it is at this moment.
type KeyState struct {
	Provider string // as people write it
	Reason   string // why it cannot be used; "" if it can
	Off      bool   // that was our own decision
}

// FallbackKeys judges the fallback keys of all providers that have any.
func FallbackKeys(keys []KeyState) runbook.Reading {
	if len(keys) == 0 {
		return reading(runbook.Critical, "No fallback keys", "Learners without a key of their own cannot run anything.")
	}
	byProvider := map[string][]KeyState{}
	var providers []string
	usable := 0
	for _, k := range keys {
		if byProvider[k.Provider] == nil {
			providers = append(providers, k.Provider)
		}
		byProvider[k.Provider] = append(byProvider[k.Provider], k)
		if k.Reason == "" {
			usable++
		}
	}
	slices.Sort(providers)
	verdict := runbook.OK
	var details, lonely []string
	for _, p := range providers {
		good, broken := 0, 0
		var reasons []string
		for _, k := range byProvider[p] {
			if k.Reason == "" {
				good++
				continue
			}
			if !k.Off {
				broken++
			}
			if !slices.Contains(reasons, k.Reason) {
				reasons = append(reasons, k.Reason)
			}
		}
		switch {
		case good == 0:
			verdict = runbook.Critical
			details = append(details, fmt.Sprintf("%s: none of %d can be used (%s).", p, len(byProvider[p]), strings.Join(reasons, ", ")))
		case broken > 0:
			if !verdict.Worse(runbook.Warning) {
				verdict = runbook.Warning
			}
			details = append(details, fmt.Sprintf("%s: %d of %d can be used (%s).", p, good, len(byProvider[p]), strings.Join(reasons, ", ")))
		case good == 1:
			lonely = append(lonely, p)
		}
	}
	if len(lonely) > 0 {
		details = append(details, "Only one usable key: "+strings.Join(lonely, ", ")+".")
	}
	return reading(verdict, fmt.Sprintf("%d of %d usable", usable, len(keys)), details...)
}

// KeylessLearners is who ran something in the last seven days.
type KeylessLearners struct {
	Active  int64
	Keyless int64 // of them: without a usable key of their own
	Missed  int64 // learners whose run found no key at all in the last hour
}

// LearnersWithoutKeys counts those who depend on fallback keys.
func (p *Probes) LearnersWithoutKeys(ctx context.Context) (runbook.Reading, error) {
	var seen KeylessLearners
	err := p.db.QueryRow(ctx, `
		with active as (
		  select distinct user_id from public.prompt_attempts where created_at > $1 and user_id is not null
		)
		select (select count(*) from active) as active,
		       (select count(*) from active a
		        where not exists (select from public.user_api_keys k where k.user_id = a.user_id and k.status = 'healthy')) as keyless,
		       (select count(distinct user_id) from public.prompt_attempts where created_at > $2 and error_class = 'missing_key') as missed`,
		p.now().Add(-7*24*time.Hour), p.now().Add(-time.Hour)).Scan(&seen.Active, &seen.Keyless, &seen.Missed)
	if err != nil {
		return runbook.Reading{}, postgres.Fault(err)
	}
	return JudgeKeyless(seen), nil
}

// JudgeKeyless makes a reading of it.
func JudgeKeyless(seen KeylessLearners) runbook.Reading {
	value := fmt.Sprintf("%d of %s", seen.Keyless, count(seen.Active, "active learner"))
	switch {
	case seen.Missed > 0:
		return reading(runbook.Critical, value, count(seen.Missed, "learner")+" found no key at all in the last hour: their runs failed.")
	case seen.Active == 0:
		return reading(runbook.OK, "No active learners", "Nobody ran anything in the last seven days.")
	case seen.Active >= 5 && seen.Keyless*2 >= seen.Active:
		return reading(runbook.Warning, value, "So many have no usable key of their own and depend on the fallback keys.")
	}
	return reading(runbook.OK, value, "So many have no usable key of their own and depend on the fallback keys.")
}

// MasterKeys judges whether stored keys open: tried of them, and what the ring
// lacks, "" for nothing.
func MasterKeys(tried, failed int, lacks string) runbook.Reading {
	switch {
	case lacks != "":
		return reading(runbook.Critical, "A master key is missing", lacks)
	case failed > 0:
		return reading(runbook.Critical, fmt.Sprintf("%d of %d do not open", failed, tried), "They were sealed with another key of the same number, or were changed in the database. Runs cannot use them.")
	case tried == 0:
		return reading(runbook.Unknown, "Nothing to try", "There is no stored fallback key to open.")
	}
	return reading(runbook.OK, fmt.Sprintf("%d of %d open", tried, tried), "Every stored fallback key opens with the master keys of this node.")
}
