package key

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/promptcademy/promptops/internal/provider"
)

var allClasses = []provider.Class{
	"", provider.ClassInvalidKey, provider.ClassPermission, provider.ClassBilling, provider.ClassRateLimited, provider.ClassOverloaded,
	provider.ClassContextLength, provider.ClassContentFilter, provider.ClassBadRequest, provider.ClassNotFound, provider.ClassTimeout,
	provider.ClassNetwork, provider.ClassProviderError, provider.ClassMissingKey,
}

// The policy, line by line. Every observation is made at noon.
func TestJudge(t *testing.T) {
	const (
		invalid, billing, limited = provider.ClassInvalidKey, provider.ClassBilling, provider.ClassRateLimited
		forbidden, network        = provider.ClassPermission, provider.ClassNetwork
	)
	healthy := state{status: Healthy, since: *at(-time.Hour)}
	in := func(s Status, change func(*state)) state {
		one := state{status: s, since: *at(-time.Hour), strikes: 1}
		if change != nil {
			change(&one)
		}
		return one
	}
	looked := func(class provider.Class, strikes int) state {
		return in(Cooling, func(s *state) {
			s.suspect, s.until, s.strikes, s.refusedAt = class, at(50*time.Second), strikes, at(-10*time.Second)
		})
	}
	rested := func(class provider.Class, end time.Duration, strikes int) state {
		return in(Cooling, func(s *state) { s.suspect, s.until, s.strikes, s.refusedAt = class, at(end), strikes, at(-time.Minute) })
	}
	call := func(class provider.Class) Observation { return Observation{Kind: ByAttempt, Class: class} }
	probe := func(class provider.Class) Observation { return Observation{Kind: ByProbe, Class: class} }
	person := func(class provider.Class) Observation { return Observation{Kind: ByOperator, Class: class} }
	with := func(o Observation, change func(*Observation)) Observation { change(&o); return o }
	hint := func(d time.Duration) func(*Observation) { return func(o *Observation) { o.RetryAfter = d } }
	storm := func(o *Observation) { o.storm = true }
	credit := func(o *Observation) { o.Credit = true }
	early := func(o *Observation) { o.StartedAt = *at(-time.Hour) }

	for _, c := range []struct {
		name string
		s    state
		o    Observation
		// What is to follow: status, suspect, how long it rests (or until it is a last resort), strikes, when the next
		// check is due (negative: not), and whether one is made at once. "same" is a state that stays as it is.
		status  Status
		suspect provider.Class
		rest    time.Duration
		strikes int
		next    time.Duration
		probe   bool
	}{
		{"429 with a hint", healthy, with(call(limited), hint(7*time.Second)), Cooling, limited, 7 * time.Second, 1, 7 * time.Second, false},
		{"429 without a hint", healthy, call(limited), Cooling, limited, 5 * time.Second, 1, 5 * time.Second, false},
		{"the second rest", rested(limited, -time.Second, 1), call(limited), Cooling, limited, 10 * time.Second, 2, 10 * time.Second, false},
		{"the seventh rest", rested(limited, 0, 6), call(limited), Cooling, limited, 5 * time.Minute, 7, 5 * time.Minute, false},
		{"the hundredth rest", rested(limited, 0, 99), call(limited), Cooling, limited, 5 * time.Minute, 100, 5 * time.Minute, false},
		{"a rest that has to be longer", rested(limited, 2*time.Second, 1), with(call(limited), hint(time.Minute)), Cooling, limited, time.Minute, 1, time.Minute, false},
		{"a rest that hardly moves", rested(limited, 4500*time.Millisecond, 1), call(limited), "same", "", 0, 0, 0, false},
		{"a rest that would be shorter", rested(limited, time.Hour, 1), with(call(limited), hint(time.Second)), "same", "", 0, 0, 0, false},
		{"a limit while it is looked into", looked(invalid, 1), with(call(limited), hint(time.Hour)), "same", "", 0, 0, 0, false},

		{"a single 500", healthy, call(provider.ClassProviderError), "same", "", 0, 0, 0, false},
		{"a storm", healthy, with(call(provider.ClassProviderError), storm), Cooling, provider.ClassProviderError, 15 * time.Second, 1, 15 * time.Second, false},
		{"the third storm", rested(network, 0, 2), with(call(network), storm), Cooling, network, time.Minute, 3, time.Minute, false},
		{"the tenth storm", rested(network, 0, 9), with(call(network), storm), Cooling, network, 5 * time.Minute, 10, 5 * time.Minute, false},
		{"a storm that says an hour", healthy, with(with(call(provider.ClassOverloaded), storm), hint(time.Hour)), Cooling, provider.ClassOverloaded, 5 * time.Minute, 1, 5 * time.Minute, false},
		{"a storm while it rests", rested(network, time.Second, 1), with(call(network), storm), "same", "", 0, 0, 0, false},
		{"a storm and an invalid key", in(Invalid, nil), with(call(network), storm), "same", "", 0, 0, 0, false},

		{"401", healthy, call(invalid), Cooling, invalid, time.Minute, 1, 0, true},
		{"401 again, under way", looked(invalid, 1), call(invalid), "same", "", 0, 0, 0, false},
		{"401 of a call before it was accepted", in(Healthy, func(s *state) { s.verifiedAt = at(-time.Second) }), with(call(invalid), early), "same", "", 0, 0, 0, false},
		{"401 on trial", rested(limited, -time.Second, 1), call(invalid), Cooling, invalid, time.Minute, 2, 0, true},
		{"401 while it rests for an hour", rested(limited, time.Hour, 1), call(invalid), Cooling, invalid, time.Hour, 2, 0, true},
		{"401 of an invalid one", in(Invalid, nil), call(invalid), "same", "", 0, 0, 0, false},
		{"the check agrees", looked(invalid, 1), probe(invalid), Invalid, "", 0, 1, time.Hour, false},
		{"the check does not agree", looked(invalid, 1), probe(""), Healthy, "", 0, 1, -1, false},
		{"nor the second time", looked(invalid, 2), probe(""), Cooling, "", time.Minute, 2, time.Minute, false},
		{"nor the fourth time", looked(invalid, 4), probe(""), Cooling, "", 4 * time.Minute, 4, 4 * time.Minute, false},
		{"nor the hundredth time", looked(invalid, 100), probe(""), Cooling, "", 10 * time.Minute, 100, 10 * time.Minute, false},
		{"after such a rest", rested("", -time.Second, 4), probe(""), Healthy, "", 0, 4, -1, false},
		{"the check meets a 500", looked(invalid, 1), probe(provider.ClassProviderError), Cooling, invalid, 65 * time.Second, 1, 5 * time.Second, false},
		{"the check is forbidden", looked(invalid, 1), probe(forbidden), Cooling, invalid, 65 * time.Second, 1, 5 * time.Second, false},
		{"the check is limited", looked(billing, 1), probe(limited), Cooling, billing, 65 * time.Second, 1, 5 * time.Second, false},
		{"the last check says nothing", in(Cooling, func(s *state) { s.suspect, s.until, s.probes = invalid, at(time.Second), 4 }), probe(network), Cooling, "", 0, 1, -1, false},
		{"invalid, checked again", in(Invalid, nil), probe(invalid), Invalid, "", 0, 1, 2 * time.Hour, false},
		{"invalid, checked for the tenth time", in(Invalid, func(s *state) { s.probes = 9 }), probe(invalid), Invalid, "", 0, 1, 24 * time.Hour, false},
		{"invalid, and the provider is away", in(Invalid, nil), probe(network), Invalid, "", 0, 1, time.Hour, false},
		{"invalid, accepted", in(Invalid, nil), probe(""), Healthy, "", 0, 0, -1, false},
		{"invalid, accepted for a person", in(Invalid, nil), person(""), Healthy, "", 0, 0, -1, false},
		{"invalid, a call that went well", in(Invalid, nil), call(""), Healthy, "", 0, 0, -1, false},

		{"a check of a healthy one fails", healthy, probe(invalid), Cooling, invalid, time.Minute, 1, 0, true},
		{"a person's check fails", healthy, person(invalid), Cooling, invalid, time.Minute, 1, 0, true},
		{"a person's check meets a 500", healthy, person(provider.ClassProviderError), "same", "", 0, 0, 0, false},
		{"a person's check goes well", healthy, person(""), "same", "", 0, 0, 0, false},

		{"403", healthy, call(forbidden), "same", "", 0, 0, 0, true},
		{"403, just looked into", in(Healthy, func(s *state) { s.refusal, s.refusedAt = forbidden, at(-9*time.Minute) }), call(forbidden), "same", "", 0, 0, 0, false},
		{"403, long ago", in(Healthy, func(s *state) { s.refusal, s.refusedAt = forbidden, at(-10*time.Minute) }), call(forbidden), "same", "", 0, 0, 0, true},

		{"402", healthy, call(billing), Cooling, billing, time.Minute, 1, 0, true},
		{"402, the check accepts the key", looked(billing, 1), probe(""), Billing, "", 10 * time.Minute, 1, 10 * time.Minute, false},
		{"402, the check agrees", looked(billing, 1), probe(billing), Billing, "", 0, 1, 10 * time.Minute, false},
		{"402, the check sees credit", looked(billing, 1), with(probe(""), credit), Healthy, "", 0, 1, -1, false},
		{"402 again, the check sees credit", looked(billing, 2), with(probe(""), credit), Cooling, "", time.Minute, 2, time.Minute, false},
		{"402 for the third time, the check sees credit", looked(billing, 3), with(probe(""), credit), Billing, "", 40 * time.Minute, 3, 40 * time.Minute, false},
		{"402, the check refuses the key", looked(billing, 1), probe(invalid), Invalid, "", 0, 1, time.Hour, false},
		{"401, the check says no credit", looked(invalid, 1), probe(billing), Cooling, billing, time.Minute, 2, 0, true},
		{"no credit, still", in(Billing, nil), probe(billing), Billing, "", 0, 1, 20 * time.Minute, false},
		{"no credit for long", in(Billing, func(s *state) { s.probes = 20 }), probe(billing), Billing, "", 0, 1, 6 * time.Hour, false},
		{"credit again", in(Billing, nil), with(probe(""), credit), Healthy, "", 0, 1, -1, false},
		{"no credit, and the provider is away", in(Billing, nil), probe(network), Billing, "", 0, 1, 10 * time.Minute, false},
		{"a person topped it up", in(Billing, func(s *state) { s.until = at(time.Hour) }), person(""), Cooling, "", 0, 1, -1, false},
		{"402 of one without credit", in(Billing, func(s *state) { s.until = at(time.Hour) }), call(billing), "same", "", 0, 0, 0, false},
		{"402 of a last resort", in(Billing, func(s *state) { s.until = at(-time.Second) }), call(billing), Billing, "", 20 * time.Minute, 2, 20 * time.Minute, false},
		{"a last resort that works", in(Billing, func(s *state) { s.until = at(-time.Second) }), call(""), Healthy, "", 0, 0, -1, false},
		{"a last resort that meets a 429", in(Billing, func(s *state) { s.until = at(-time.Second) }), call(limited), "same", "", 0, 0, 0, false},

		{"all is well", healthy, call(""), "same", "", 0, 0, 0, false},
		{"on trial, a call", rested(limited, -time.Second, 3), call(""), Healthy, "", 0, 0, -1, false},
		{"on trial, a call from before", rested(limited, -time.Second, 3), with(call(""), early), "same", "", 0, 0, 0, false},
		{"on trial, a check", rested(limited, -time.Second, 3), probe(""), Healthy, "", 0, 3, -1, false},
		{"resting, a check", rested(limited, time.Second, 3), person(""), "same", "", 0, 0, 0, false},
		{"looked into, a call from before", looked(invalid, 1), with(call(""), early), "same", "", 0, 0, 0, false},
		{"an outage, a last resort that works", rested(network, time.Minute, 3), call(""), Healthy, "", 0, 0, -1, false},
		{"a request that is wrong", healthy, call(provider.ClassBadRequest), "same", "", 0, 0, 0, false},

		{"replaced", in(Healthy, func(s *state) { s.retireAt = at(0) }), Observation{Kind: ByClock}, Disabled, "", 0, 1, -1, false},
		{"not yet replaced", in(Healthy, func(s *state) { s.retireAt = at(time.Second) }), Observation{Kind: ByClock}, "same", "", 0, 0, 0, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			c.o.At = noon
			if c.o.StartedAt.IsZero() {
				c.o.StartedAt = noon
			}
			v := judge(c.s, c.o)
			if v.probe != c.probe {
				t.Errorf("a check at once: %v", v.probe)
			}
			if c.status == "same" {
				if v.changed || v.state.status != c.s.status || v.state.suspect != c.s.suspect || v.state.strikes != c.s.strikes {
					t.Errorf("became %s", shown(v))
				}
				return
			}
			end := time.Duration(0)
			if v.state.until != nil {
				end = v.state.until.Sub(noon)
			}
			next := time.Duration(-1)
			if v.state.nextProbe != nil {
				next = v.state.nextProbe.Sub(noon)
			}
			if !v.changed || v.reason == "" || v.state.status != c.status || v.state.suspect != c.suspect || v.state.strikes != c.strikes || end != c.rest || next != c.next {
				t.Errorf("became %s", shown(v))
			}
		})
	}
}

func shown(v verdict) string {
	return fmt.Sprintf("%s, suspect %q, until %v, strikes %d, checks %d, next %v, changed %v, kept %v, check %v, because %q",
		v.state.status, v.state.suspect, v.state.until, v.state.strikes, v.state.probes, v.state.nextProbe, v.changed, v.keep, v.probe, v.reason)
}

// What a person has disabled stays so, whatever is seen of it, from wherever it
// came.
func TestJudgeLeavesDisabledKeysAlone(t *testing.T) {
	s := state{status: Disabled, since: noon, suspect: provider.ClassBilling, until: at(time.Hour), strikes: 2, retireAt: at(-time.Hour)}
	for _, kind := range []Kind{ByAttempt, ByProbe, ByOperator, ByLearner, ByClock} {
		for _, class := range allClasses {
			v := judge(s, Observation{Kind: kind, Class: class, At: noon, Credit: true, storm: true, RetryAfter: time.Hour})
			if v.changed || v.probe || v.state.status != Disabled {
				t.Errorf("%s %s: %s", kind, class, shown(v))
			}
			if asked := kind == ByOperator || kind == ByLearner; v.keep != asked || v.keep && v.reason == "" {
				t.Errorf("%s %s: kept %v because %q", kind, class, v.keep, v.reason)
			}
		}
	}
}

// observed is one thing that may happen next in the life of a key.
func observed(rng *rand.Rand, now time.Time) Observation {
	o := Observation{
		Kind: []Kind{ByAttempt, ByAttempt, ByProbe, ByOperator, ByLearner, ByClock}[rng.IntN(6)], At: now,
		StartedAt: now.Add(-time.Duration(rng.IntN(60)) * time.Second), Class: allClasses[rng.IntN(len(allClasses))],
		Credit: rng.IntN(2) == 0, storm: rng.IntN(2) == 0,
	}
	if rng.IntN(3) == 0 {
		o.RetryAfter = time.Duration(rng.IntN(100_000)) * time.Second
	}
	if o.Kind == ByClock {
		o.Class = ""
	}
	return o
}

// Whatever happens in whatever order: the rules that must never be broken.
func FuzzJudge(f *testing.F) {
	for seed := range uint64(50) {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, seed uint64) {
		rng := rand.New(rand.NewPCG(seed, 1))
		now := noon
		s := state{status: Healthy, since: now}
		if seed%7 == 0 {
			s.retireAt = at(time.Duration(rng.IntN(10)) * time.Hour)
		}
		// What speaks against the key since it was last spoken for.
		refusals := 0
		for range 300 {
			now = now.Add(time.Duration(rng.IntN(120)) * time.Second)
			o := observed(rng, now)
			v := judge(s, o)
			say := func(problem string) {
				t.Errorf("seed %d: %s: %+v with %+v became %s", seed, problem, s, o, shown(v))
			}
			n := v.state
			refused := o.Class == provider.ClassInvalidKey || o.Class == provider.ClassBilling
			if refused {
				refusals++
			}
			if v.changed && v.reason == "" {
				say("a change without a reason")
			}
			if v.keep && v.reason == "" {
				say("evidence without a reason")
			}
			if n.status != s.status && (!v.changed || !v.keep || !n.since.Equal(now)) {
				say("a new status that is not kept")
			}
			if !v.changed && (n.status != s.status || n.suspect != s.suspect || n.strikes != s.strikes || n.until != s.until) {
				say("a change that is not said to be one")
			}
			if s.status == Disabled && n.status != Disabled {
				say("disabled, and now it is not")
			}
			if n.status == Disabled && s.status != Disabled && (o.Kind != ByClock || s.retireAt == nil || s.retireAt.After(now)) {
				say("disabled by a machine")
			}
			if (outage(o.Class) || o.Class == provider.ClassRateLimited || o.Class == provider.ClassPermission) && n.status != s.status && n.status != Cooling {
				say("taken out by a fault of the provider")
			}
			if outage(o.Class) && o.Kind == ByAttempt && n.until != s.until && n.until.Sub(now) > longFaulty {
				say("a fault of the provider rests it for too long")
			}
			if n.status == Invalid && s.status != Invalid && (o.Kind == ByAttempt || o.Class != provider.ClassInvalidKey || refusals < 2) {
				say("invalid without a check that agreed")
			}
			if n.status == Billing && s.status != Billing && (o.Kind == ByAttempt || refusals < 1) {
				say("out of credit without a check")
			}
			if n.status == Invalid && n.nextProbe == nil || n.lookedInto() && n.resting(now) && n.nextProbe == nil {
				say("nobody ever looks again")
			}
			if n.status == Billing && n.until == nil && n.nextProbe == nil {
				say("it never comes back")
			}
			if n.status == Cooling && n.until == nil {
				say("a rest without an end")
			}
			if n.status == Healthy && (n.suspect != "" || n.until != nil) {
				say("healthy with something left over")
			}
			if v.changed {
				s = n
			}
			if s.status == Healthy && o.Class == "" {
				refusals = 0
			}
		}
	})
}

// A good key whose provider refuses it now and then, and accepts it when asked,
// is never taken out, and rests longer the more often that happens.
func TestJudgeStrayRefusals(t *testing.T) {
	s, now := state{status: Healthy, since: noon}, noon
	var rests []time.Duration
	for range 8 {
		now = now.Add(time.Second)
		v := judge(s, Observation{Kind: ByAttempt, Class: provider.ClassInvalidKey, At: now, StartedAt: now})
		now = now.Add(time.Second)
		v = judge(v.state, Observation{Kind: ByProbe, At: now, StartedAt: now})
		rest := time.Duration(0)
		if v.state.status == Cooling {
			rest = v.state.until.Sub(now)
			now = *v.state.until
			v = judge(v.state, Observation{Kind: ByProbe, At: now, StartedAt: now})
		}
		if v.state.status != Healthy {
			t.Fatalf("became %s", shown(v))
		}
		rests = append(rests, rest)
		s = v.state
	}
	want := []time.Duration{0, time.Minute, 2 * time.Minute, 4 * time.Minute, 8 * time.Minute, 10 * time.Minute, 10 * time.Minute, 10 * time.Minute}
	if !slices.Equal(rests, want) {
		t.Errorf("rested %v", rests)
	}
	if v := judge(s, Observation{Kind: ByAttempt, At: now.Add(time.Second), StartedAt: now.Add(time.Second)}); v.state.strikes != 0 {
		t.Errorf("a call that went well left %s", shown(v))
	}
}

// A check that never says anything ends, with the key on trial.
func TestJudgeUnclearChecksEnd(t *testing.T) {
	now := noon
	v := judge(state{status: Healthy, since: noon}, Observation{Kind: ByAttempt, Class: provider.ClassInvalidKey, At: now, StartedAt: now})
	checks := 0
	for ; v.state.nextProbe != nil && checks < 20; checks++ {
		now = *v.state.nextProbe
		if !v.state.resting(now) {
			t.Fatalf("used before it was checked: %s", shown(v))
		}
		v = judge(v.state, Observation{Kind: ByProbe, Class: provider.ClassPermission, At: now, StartedAt: now})
	}
	if checks != mostUndecided || v.state.status != Cooling || v.state.resting(now) || v.state.lookedInto() {
		t.Errorf("after %d checks %s", checks, shown(v))
	}
}
