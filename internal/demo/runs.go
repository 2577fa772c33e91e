package demo

import (
	"math"
	"slices"
	"strings"
	"time"

	"github.com/google/uuid"

	"github.com/promptcademy/promptops/internal/price"
	"github.com/promptcademy/promptops/internal/provider"
)

// run is one prompt to one or more models, as the run endpoint stores it.
type run struct {
	id         uuid.UUID
	at         time.Time
	learner    *learner
	team       *team          // may be nil
	template   *ownedTemplate // may be nil
	stream     bool
	config     map[string]any
	status     string
	durationMs int64
	attempts   []attempt
	prompt     string
	answer     string
}

func (r run) finishedAt() time.Time { return r.at.Add(time.Duration(r.durationMs) * time.Millisecond) }

func (r run) models() []string {
	names := make([]string, len(r.attempts))
	for i, a := range r.attempts {
		names[i] = a.model.id()
	}
	return names
}

// totals are the figures of the run's row.
func (r run) totals() (tokens int64, cost price.USD, unpriced int) {
	for _, a := range r.attempts {
		if a.usage != nil {
			tokens += a.usage.Total()
		}
		if a.cost != nil {
			cost = cost.Add(*a.cost)
		} else {
			unpriced++
		}
	}
	return tokens, cost, unpriced
}

type attempt struct {
	model        model
	status       string
	userKey      *userKey // nil: the fallback key of the model's provider
	tries        int
	usage        *provider.Usage // nil: unknown
	usageSource  string
	cost         *price.USD // nil: unknown
	costSource   string
	priceID      *int64
	finishReason string
	failure      *failure
	durationMs   int64
	firstTokenMs int64 // 0: not streamed
}

// Runs by hour of the day (UTC) and by weekday, Sunday first.
var (
	byHour    = []float64{1, 0.6, 0.4, 0.3, 0.3, 0.5, 1, 2.5, 5, 7.5, 8.5, 8, 6, 7, 8.5, 8.5, 7.5, 6, 4.5, 4, 4.5, 4, 2.8, 1.8}
	byWeekday = []float64{0.35, 1.05, 1.15, 1.1, 1.05, 0.85, 0.3}
	byModels  = []float64{0.46, 0.30, 0.17, 0.07} // by how many models a run asks, from 1
)

const (
	spikeDaysAgo  = 23 // the day that cost too much
	spikeTeam     = 5
	outageDaysAgo = 58              // the day when one provider was overloaded
	lastRun       = 5 * time.Minute // ago
	maxDuration   = 27000           // ms; no attempt may take longer than 30 s
)

func (g *generator) makeRuns() {
	spikeDay := g.workdayAgo(spikeDaysAgo)
	for d := range days + 1 {
		day := g.w.first.AddDate(0, 0, d)
		expected := (40 + 76*float64(d)/days) * byWeekday[day.Weekday()] * g.lognormal(1, 0.1)
		times := make([]time.Time, g.poisson(expected))
		for i := range times {
			times[i] = day.Add(g.timeOfDay())
		}
		spike := map[time.Time]bool{}
		if day.Equal(spikeDay) {
			for range 20 {
				at := day.Add(8*time.Hour + g.upTo(9*time.Hour))
				times = append(times, at)
				spike[at] = true
			}
		}
		slices.SortFunc(times, time.Time.Compare) // a key that fails is not used afterwards
		for _, at := range times {
			if at.After(g.w.now.Add(-lastRun)) {
				break
			}
			g.makeRun(at, spike[at])
		}
	}
	g.interruptOne()
	for _, r := range g.w.runs {
		r.learner.lastRunAt = r.at
		for _, a := range r.attempts {
			if a.userKey != nil {
				a.userKey.usedAt = r.at
			}
		}
	}
}

// workdayAgo returns the day that was n days ago, or the workday before.
func (g *generator) workdayAgo(n int) time.Time {
	day := g.w.now.Truncate(24*time.Hour).AddDate(0, 0, -n)
	for day.Weekday() == time.Saturday || day.Weekday() == time.Sunday {
		day = day.AddDate(0, 0, -1)
	}
	return day
}

// makeRun makes one run. On the day of the spike, some are of a team that reads
// whole books with the dearest models.
func (g *generator) makeRun(at time.Time, spike bool) {
	learner := weighted(g, g.w.learners, func(l *learner) float64 {
		if !l.activeAt(at) || spike && !slices.Contains(l.teams, g.w.teams[spikeTeam]) {
			return 0
		}
		return l.eagerness
	})
	r := g.begin(at, learner)
	g.choosePrompt(&r)
	if spike {
		r.team = g.w.teams[spikeTeam]
		input := min(g.lognormal(60000, 0.4), 150000)
		for _, m := range spikeModels {
			r.attempts = append(r.attempts, g.attempt(&r, m, input))
		}
		g.finish(r)
		return
	}

	// Most prompts are short; some bring a document along.
	input := 30 + g.lognormal(260, 0.9)
	if g.chance(0.3) {
		input += g.lognormal(14000, 0.9)
	}
	models := slices.Clone(models)
	for range 1 + g.index(byModels) {
		m := weighted(g, models, func(m model) float64 { return m.share(at) })
		models = slices.DeleteFunc(models, func(other model) bool { return other.id() == m.id() })
		r.attempts = append(r.attempts, g.attempt(&r, m, input))
	}
	if g.chance(0.004) {
		g.cancel(&r)
	}
	g.finish(r)
}

func (g *generator) begin(at time.Time, l *learner) run {
	r := run{id: g.timedID(at), at: at, learner: l, stream: g.chance(0.4), config: map[string]any{}}
	if len(l.teams) > 0 && g.chance(0.8) {
		r.team = pick(g, l.teams)
	}
	if g.chance(0.5) {
		r.config["temperature"] = math.Round(g.Float64()*10) / 10
	}
	if g.chance(0.3) {
		r.config["maxTokens"] = pick(g, []int{256, 512, 1024})
	}
	return r
}

// choosePrompt decides what is asked, and what models make of it.
func (g *generator) choosePrompt(r *run) {
	usable := g.usable(r.learner, r.at)
	if len(usable) == 0 || !g.chance(0.4) {
		q := pick(g, questions)
		r.prompt, r.answer = q.prompt, q.answer
		return
	}
	// The first ones are by far the most popular.
	t := usable[int(float64(len(usable))*math.Pow(g.Float64(), 2.2))]
	r.template, r.prompt, r.answer = t, g.fillIn(t.body), t.answer
	if g.chance(0.7) {
		g.event(t, r.learner, "viewed", latest(t.createdAt, r.at.Add(-time.Second-g.upTo(time.Minute))))
	}
	g.event(t, r.learner, "used", r.at)
	if g.chance(0.02) {
		g.event(t, r.learner, "forked", r.at.Add(g.upTo(lastRun)))
	}
}

// fillIn puts something in the place of a template's placeholders.
func (g *generator) fillIn(body string) string {
	for _, s := range samples {
		body = strings.ReplaceAll(body, s.placeholder, pick(g, s.values))
	}
	return body
}

// attempt lets a model answer a prompt of about that many tokens.
func (g *generator) attempt(r *run, m model, input float64) attempt {
	a := attempt{model: m, status: "ok", tries: 1, finishReason: "stop"}
	for _, k := range r.learner.keys {
		if k.provider == m.provider && !r.at.Before(k.addedAt) && !k.failed {
			a.userKey = k
		}
	}
	if k := a.userKey; k != nil && !k.failsAt.IsZero() && !r.at.Before(k.failsAt) {
		k.failed = true
		k.failsAt = r.at
		g.fail(&a, r.at, k.failure, 0)
		return a
	}
	g.answer(&a, r, input)
	return a
}

// answer is what becomes of a call with a key that works.
func (g *generator) answer(a *attempt, r *run, input float64) {
	m := a.model
	if rate := g.errorRate(m, r.at); g.chance(rate) {
		g.fail(a, r.at, weighted(g, failures, func(f failure) float64 { return f.often }), input)
		return
	}

	u := provider.Usage{Input: int64(input * (0.95 + 0.1*g.Float64())), Output: int64(12 + g.lognormal(420, 0.8))}
	u.Reasoning = int64(float64(u.Output) * m.reasoning * g.Float64())
	if m.caches && u.Input > 1024 && g.chance(0.45) {
		u.CachedInput = min(u.Input, int64(float64(u.Input)*(0.3+0.6*g.Float64()))/128*128)
		if rest := u.Input - u.CachedInput; m.provider == "anthropic" && g.chance(0.5) {
			u.CacheWrite = rest / 2
		}
	}
	if limit, ok := r.config["maxTokens"].(int); ok && u.Output >= int64(limit) {
		u.Output, u.Reasoning, a.finishReason = int64(limit), min(u.Reasoning, int64(limit)), "length"
	}
	g.pay(a, r.at, u, "reported")

	firstToken := g.lognormal(m.firstToken, 0.3)
	a.durationMs = min(int64(firstToken+float64(u.Output)*m.perToken*g.lognormal(1, 0.2)), maxDuration)
	if r.stream {
		a.firstTokenMs = int64(firstToken)
	}
	if g.chance(0.01) { // overloaded, and answered when asked again
		a.tries = 2
		a.durationMs += 600 + g.Int64N(1500)
	}
}

// errorRate is how many of a model's attempts fail at an instant.
func (g *generator) errorRate(m model, at time.Time) float64 {
	outage := g.workdayAgo(outageDaysAgo).Add(9 * time.Hour)
	if m.provider == "anthropic" && !at.Before(outage) && at.Before(outage.Add(6*time.Hour)) {
		return 0.6
	}
	return 0.026
}

func (g *generator) fail(a *attempt, at time.Time, f failure, input float64) {
	a.status, a.failure, a.finishReason = "error", &f, ""
	a.cost = &price.USD{} // what a provider refused costs nothing
	a.durationMs = min(int64(g.lognormal(f.duration, 0.35)), maxDuration)
	if f.class == provider.ClassTimeout {
		a.durationMs = int64(f.duration)
		g.pay(a, at, provider.Usage{Input: int64(input)}, "estimated")
	}
}

// pay works out what an attempt's tokens cost at the list price of its moment,
// as the run endpoint does.
func (g *generator) pay(a *attempt, at time.Time, u provider.Usage, usageSource string) {
	a.usage, a.usageSource = &u, usageSource
	listed, known := g.book.Find(a.model.provider, a.model.name, at)
	if !known {
		a.cost, a.costSource, a.priceID = nil, "unpriced", nil
		return
	}
	cost := price.Cost(listed, u)
	a.cost, a.costSource, a.priceID = &cost, "computed", &listed.ID
	switch {
	case usageSource == "estimated":
		a.costSource = "estimated"
	case a.model.provider == "openrouter": // says itself what it billed
		a.costSource, a.priceID = "reported", nil
	}
}

// cancel makes r a run whose caller did not wait for the answers.
func (g *generator) cancel(r *run) {
	for i := range r.attempts {
		a := &r.attempts[i]
		if a.status != "ok" {
			continue
		}
		u := *a.usage
		u.Output = int64(float64(u.Output) * g.Float64())
		u.Reasoning = min(u.Reasoning, u.Output)
		g.pay(a, r.at, u, "estimated")
		a.status, a.finishReason = "cancelled", ""
		a.failure = &failure{class: provider.ClassCancelled, message: "The caller did not wait for the answer."}
		a.durationMs = a.durationMs / 2
	}
	r.status = "cancelled"
}

// interruptOne makes the newest run that is older than a month one whose server
// died half-way: nobody knows what it used.
func (g *generator) interruptOne() {
	for i := len(g.w.runs) - 1; i >= 0; i-- {
		r := &g.w.runs[i]
		if r.at.After(g.w.now.AddDate(0, -1, 0)) {
			continue
		}
		interrupt(r)
		return
	}
}

func interrupt(r *run) {
	r.status = "interrupted"
	for j, a := range r.attempts {
		r.attempts[j] = attempt{
			model: a.model, status: "interrupted", userKey: a.userKey, tries: 1, durationMs: max(r.durationMs, a.durationMs),
			failure: &failure{class: provider.ClassInterrupted, message: "The server stopped before the answer came."},
		}
	}
}

// finish adds up a run and keeps it.
func (g *generator) finish(r run) {
	g.addUp(&r)
	g.w.runs = append(g.w.runs, r)
}

// addUp says how long a run took and what became of it.
func (g *generator) addUp(r *run) {
	ok := 0
	for _, a := range r.attempts {
		r.durationMs = max(r.durationMs, a.durationMs)
		if a.status == "ok" {
			ok++
		}
	}
	r.durationMs += 1 + g.Int64N(6)
	switch {
	case r.status != "":
	case ok == len(r.attempts):
		r.status = "success"
	case ok == 0:
		r.status = "error"
	default:
		r.status = "partial"
	}
}

// timeOfDay returns a time of day at which people work.
func (g *generator) timeOfDay() time.Duration {
	return time.Duration(g.index(byHour))*time.Hour + g.upTo(time.Hour)
}

// poisson returns how often something happened that is expected that often.
func (g *generator) poisson(expected float64) int {
	return max(0, int(math.Round(expected+math.Sqrt(expected)*g.NormFloat64())))
}
