package demo

import (
	"context"
	"time"

	"github.com/google/uuid"
)

// outreachDays is how far back the demo's snapshots of Key Health go.
const outreachDays = 90

// keyHealthDay is a snapshot of Key Health.
type keyHealthDay struct {
	day                                    time.Time
	team                                   *team // nil: all learners
	provider                               string
	learners, usable, broken, activeUnable int
}

// outreach gives Key Health a past: a snapshot for every day before today, taken
// as it would have been at midnight, and a few learners whom somebody has talked
// to. What there is already stays.
func (l loader) outreach(ctx context.Context) error { return l.outreachOf(ctx, l.w.activity()) }

func (l loader) outreachOf(ctx context.Context, ran func(l *learner, at time.Time) bool) error {
	_, err := l.tx.Exec(ctx, `create temporary table demo_days (like ops.key_health_days) on commit drop`)
	if err != nil {
		return err
	}
	err = copyRows(ctx, l.tx, "pg_temp.demo_days", "day team_id provider learners usable broken active_without counted_at demo",
		l.w.keyHealth(ran), func(d keyHealthDay) []any {
			var id *uuid.UUID
			if d.team != nil {
				id = &d.team.id
			}
			return []any{d.day, id, d.provider, d.learners, d.usable, d.broken, d.activeUnable, d.day, true}
		})
	if err != nil {
		return err
	}
	_, err = l.tx.Exec(ctx, `insert into ops.key_health_days select * from demo_days on conflict (day, team_id, provider) do nothing`)
	if err != nil {
		return err
	}
	return l.talks(ctx)
}

// activity says who ran something in the two weeks before an instant.
func (w *world) activity() func(l *learner, at time.Time) bool {
	runs := map[*learner][]time.Time{}
	for _, r := range w.runs {
		runs[r.learner] = append(runs[r.learner], r.at)
	}
	return func(l *learner, at time.Time) bool { return ranBetween(runs[l], at.AddDate(0, 0, -14), at) }
}

// keyHealth counts learners at the beginning of each of the last days.
func (w *world) keyHealth(ran func(l *learner, at time.Time) bool) []keyHealthDay {
	groups := append([]*team{nil}, w.teams...)
	var all []keyHealthDay
	for ago := outreachDays; ago > 0; ago-- {
		at := w.now.Truncate(24*time.Hour).AddDate(0, 0, -ago)
		for _, t := range groups {
			byProvider := map[string]*keyHealthDay{}
			day := func(provider string) *keyHealthDay {
				if byProvider[provider] == nil {
					byProvider[provider] = &keyHealthDay{day: at, team: t, provider: provider}
				}
				return byProvider[provider]
			}
			for _, one := range w.there(t, at) {
				whole := day("any")
				whole.learners++
				active := ran(one, at)
				usable, broken := false, false
				for _, k := range one.keys {
					switch {
					case k.addedAt.After(at):
					case k.failed && !k.failsAt.After(at):
						broken = true
						day(k.provider).broken++
					default:
						usable = true
						day(k.provider).usable++
						if active {
							day(k.provider).activeUnable-- // see below
						}
					}
				}
				if usable {
					whole.usable++
				}
				if broken {
					whole.broken++
				}
				for _, k := range keyProviders {
					day(k.provider).learners++
					if active {
						day(k.provider).activeUnable++
					}
				}
				if active && !usable {
					whole.activeUnable++
				}
			}
			for _, d := range byProvider {
				all = append(all, *d)
			}
		}
	}
	return all
}

// there are the learners of a team, or all of them, at an instant.
func (w *world) there(t *team, at time.Time) []*learner {
	var there []*learner
	if t == nil {
		for _, one := range w.learners {
			if !one.signedUpAt.After(at) {
				there = append(there, one)
			}
		}
		return there
	}
	for _, m := range t.members {
		if !m.joinedAt.After(at) {
			there = append(there, m.learner)
		}
	}
	return there
}

func ranBetween(runs []time.Time, from, to time.Time) bool {
	for _, at := range runs {
		if !at.Before(from) && at.Before(to) {
			return true
		}
	}
	return false
}

// talks are what somebody has done about learners without a key that works.
func (l loader) talks(ctx context.Context) error {
	without := 0
	for _, one := range l.w.learners {
		if one.keyed() || one.signedUpAt.After(l.w.now.AddDate(0, 0, -10)) {
			continue
		}
		without++
		state, note, until := "contacted", "Asked by phone: wants to add a key this week.", (*time.Time)(nil)
		switch without % 7 {
		case 1:
		case 3:
			later := l.w.now.Truncate(24*time.Hour).AddDate(0, 0, 5+without%9)
			state, note, until = "snoozed", "On holiday.", &later
		default:
			continue
		}
		at := l.w.now.Add(-time.Duration(1+without%6) * 24 * time.Hour)
		_, err := l.tx.Exec(ctx, `insert into ops.outreach (learner_id, state, state_at, snoozed_until) values ($1, $2, $3, $4)`, one.id, state, at, until)
		if err != nil {
			return err
		}
		_, err = l.tx.Exec(ctx, `
			insert into ops.outreach_events (learner_id, at, kind, from_state, to_state, to_until, actor, note)
			values ($1, $2, $3, 'new', $3, $4, 'demo@`+domain+`', $5)`, one.id, at, state, until, note)
		if err != nil {
			return err
		}
	}
	return nil
}

// keyed says whether a learner has a key that works.
func (l *learner) keyed() bool {
	for _, k := range l.keys {
		if !k.failed {
			return true
		}
	}
	return false
}
