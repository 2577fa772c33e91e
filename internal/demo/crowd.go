package demo

import (
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"sort"
	"time"

	"github.com/google/uuid"

	"github.com/promptcademy/promptops/internal/fault"
	"github.com/promptcademy/promptops/internal/price"
)

// Size is how much LoadMany makes.
type Size struct {
	Attempts int64
	Learners int
	Teams    int
	Days     int // before today
}

// check refuses sizes that make no sense.
func (s Size) check() error {
	var problems []fault.Field
	refuse := func(field string, bad bool, message string) {
		if bad {
			problems = append(problems, fault.Field{Field: field, Message: message})
		}
	}
	refuse("attempts", s.Attempts < 1 || s.Attempts > 1_000_000_000, "must be between 1 and 1,000,000,000")
	refuse("days", s.Days < 1 || s.Days > 1000, "must be between 1 and 1,000")
	refuse("learners", s.Learners < 1 || s.Learners > 1_000_000, "must be between 1 and 1,000,000")
	refuse("teams", s.Teams < 1 || s.Teams > s.Learners, "must be at least 1, and not more than there are learners: each team has a lead")
	if len(problems) > 0 {
		return fault.InvalidFields(problems)
	}
	return nil
}

// crowd is a world too large to be held: its people and what they have are made at
// once, and what they do day by day. The days do not depend on each other, so that
// several can be made at the same time; the same size, moment and prices make the
// same crowd.
type crowd struct {
	*generator
	size   Size
	quotas []int64 // attempts of each day

	public []*ownedTemplate // that all may use, oldest first
	own    map[*learner][]*ownedTemplate
	shared map[*team][]sharedTemplate
}

// newCrowd makes people, teams, templates, lessons and keys as they are now.
func newCrowd(book *price.Book, size Size, now time.Time) *crowd {
	now = now.UTC().Truncate(time.Millisecond)
	g := &generator{Rand: rand.New(rand.NewPCG(seed, 0)), book: book}
	g.w = world{now: now, first: now.Truncate(24*time.Hour).AddDate(0, 0, -size.Days)}
	c := &crowd{generator: g, size: size, own: map[*learner][]*ownedTemplate{}, shared: map[*team][]sharedTemplate{}}
	c.makePeople()
	c.makeGroups()
	c.makeLibrary()
	c.makeLessons()
	c.share()
	return c
}

func (c *crowd) makePeople() {
	taken := map[string]int{}
	for i := range c.size.Learners {
		l := &learner{id: c.id(), place: i, eagerness: c.lognormal(1, 0.9)}
		if i == 0 {
			l.name, l.email, l.eagerness = "Ada Marlowe", Learner, 3
			l.signedUpAt = c.w.first
			l.keys = []*userKey{{provider: "openai", addedAt: l.signedUpAt.Add(time.Hour)}}
		} else {
			l.name = pick(c.generator, firstNames) + " " + pick(c.generator, lastNames)
			l.email = address(l.name)
			if taken[l.email]++; taken[l.email] > 1 {
				l.email = fmt.Sprintf("%d.%s", taken[l.email], l.email)
			}
			c.signUp(l, i < c.size.Learners/3)
			c.giveKeys(l)
		}
		for _, k := range l.keys {
			k.id = c.id()
		}
		c.w.learners = append(c.w.learners, l)
	}
}

// makeGroups puts three of four learners into a team or two.
func (c *crowd) makeGroups() {
	for i := range c.size.Teams {
		name := teamNames[i%len(teamNames)]
		if i >= len(teamNames) {
			name = fmt.Sprintf("%s %d", name, 1+i/len(teamNames))
		}
		c.w.teams = append(c.w.teams, &team{id: c.id(), name: name, sharePrompts: i%3 == 0, createdAt: c.w.first.Add(-c.upTo(60 * 24 * time.Hour))})
	}
	// Teams are of very different sizes.
	weights := make([]float64, len(c.w.teams))
	for i := range weights {
		weights[i] = c.lognormal(1, 0.8)
	}
	lots := newLots(weights)
	for i, l := range c.w.learners {
		switch part := c.Float64(); {
		case i < len(c.w.teams):
			c.join(l, c.w.teams[i], "lead")
		case part < 0.9:
			first := c.w.teams[lots.draw(c.Rand)]
			c.join(l, first, "member")
			if second := c.w.teams[lots.draw(c.Rand)]; part > 0.75 && second != first {
				c.join(l, second, "member")
			}
		}
	}
}

// makeLibrary makes the platform's own templates, and one for every tenth learner.
func (c *crowd) makeLibrary() {
	c.w.templates = nil
	for i := range len(templates) + c.size.Learners/10 {
		t := &ownedTemplate{template: templates[i%len(templates)], id: c.id(), public: true, createdAt: c.w.first.Add(-c.upTo(50 * 24 * time.Hour))}
		c.w.templates = append(c.w.templates, t)
		if i < len(templates) {
			c.public = append(c.public, t)
			continue
		}
		t.title = fmt.Sprintf("%s, no. %d", t.title, 1+i/len(templates))
		t.owner, t.public = pick(c.generator, c.w.learners), false
		t.createdAt = c.between(t.owner.signedUpAt, c.w.now)
		c.event(t, t.owner, "created", t.createdAt)
		c.own[t.owner] = append(c.own[t.owner], t)
		for _, to := range t.owner.teams {
			if at := c.between(latest(t.createdAt, to.createdAt), c.w.now); c.chance(0.6) {
				s := sharedTemplate{to, t, t.owner, at}
				c.w.shared, c.shared[to] = append(c.w.shared, s), append(c.shared[to], s)
				c.event(t, t.owner, "shared", at)
			}
		}
	}
}

// share says how many attempts each day has: more from month to month, few at
// weekends, and of today as many as there can be by now.
func (c *crowd) share() {
	weights := make([]float64, c.size.Days+1)
	sum := 0.0
	for d := range weights {
		day := c.w.first.AddDate(0, 0, d)
		weights[d] = (40 + 76*float64(d)/float64(c.size.Days)) * byWeekday[day.Weekday()] * c.lognormal(1, 0.1)
		if d == c.size.Days {
			weights[d] *= total(hoursUntil(c.w.now.Add(-lastRun).Sub(day))) / total(byHour)
		}
		sum += weights[d]
	}
	c.quotas = make([]int64, len(weights))
	until, given := 0.0, int64(0)
	for d, weight := range weights {
		until += weight
		upTo := int64(math.Round(until / sum * float64(c.size.Attempts)))
		c.quotas[d], given = upTo-given, upTo
	}
}

// hoursUntil is byHour for a day that is only so long.
func hoursUntil(length time.Duration) []float64 {
	hours := make([]float64, len(byHour))
	for h := range hours {
		hours[h] = byHour[h] * min(1, max(0, length.Hours()-float64(h)))
	}
	return hours
}

func total(all []float64) (sum float64) {
	for _, one := range all {
		sum += one
	}
	return sum
}

// crowdDay is what happened on one day.
type crowdDay struct {
	number   int
	runs     []run // oldest first
	attempts int64
	events   []templateEvent
	lastRun  map[*learner]time.Time
	used     map[*userKey]time.Time
	failed   map[*userKey]time.Time // found out on this day that it does not work any more
}

// day makes what happened on a day. It changes nothing that other days see.
func (c *crowd) day(number int) *crowdDay {
	begin := c.w.first.AddDate(0, 0, number)
	length := min(24*time.Hour, c.w.now.Add(-lastRun).Sub(begin))
	d := &crowdDay{number: number, lastRun: map[*learner]time.Time{}, used: map[*userKey]time.Time{}, failed: map[*userKey]time.Time{}}
	g := &generator{Rand: rand.New(rand.NewPCG(seed, uint64(number)+1)), book: c.book}
	g.w = world{now: c.w.now, first: c.w.first}

	var sizes []int
	modelCounts := newLots(byModels)
	for left := c.quotas[number]; left > 0; {
		n := min(int64(1+modelCounts.draw(g.Rand)), left)
		sizes, left = append(sizes, int(n)), left-n
	}
	times := make([]time.Time, len(sizes))
	hours := newLots(hoursUntil(length))
	for i := range times {
		hour := time.Duration(hours.draw(g.Rand)) * time.Hour
		times[i] = begin.Add(hour + g.upTo(min(time.Hour, length-hour)))
	}
	slices.SortFunc(times, time.Time.Compare)

	who, people := c.present(g, begin)
	popular := make([]float64, len(models))
	for i, m := range models {
		popular[i] = m.share(begin)
	}
	which := newLots(popular)
	for i, at := range times {
		c.run(g, d, at, people[who.draw(g.Rand)], which, sizes[i])
	}
	return d
}

// present are those who come on a day: not everybody every day, so that some come
// back often and many now and then.
func (c *crowd) present(g *generator, begin time.Time) (lots, []*learner) {
	var people []*learner
	var weights []float64
	for _, l := range c.w.learners {
		if l.activeAt(begin) && g.chance(min(0.7, 0.12*l.eagerness)) {
			people, weights = append(people, l), append(weights, l.eagerness)
		}
	}
	if len(people) == 0 {
		return newLots([]float64{1}), c.w.learners[:1]
	}
	return newLots(weights), people
}

func (c *crowd) run(g *generator, d *crowdDay, at time.Time, l *learner, which lots, size int) {
	r := g.begin(at, l)
	c.chooseTemplate(g, d, &r)
	input := 30 + g.lognormal(260, 0.9)
	if g.chance(0.3) {
		input += g.lognormal(14000, 0.9)
	}
	for len(r.attempts) < size {
		m := models[which.draw(g.Rand)]
		if !slices.ContainsFunc(r.attempts, func(a attempt) bool { return a.model.provider == m.provider && a.model.name == m.name }) {
			r.attempts = append(r.attempts, c.attempt(g, d, &r, m, input))
		}
	}
	if g.chance(0.004) {
		g.cancel(&r)
	} else if g.chance(0.0005) && !slices.ContainsFunc(r.attempts, func(a attempt) bool { return a.failure != nil }) {
		interrupt(&r)
	}
	g.addUp(&r)
	d.runs, d.attempts = append(d.runs, r), d.attempts+int64(size)
	d.lastRun[l] = at
}

// chooseTemplate decides what is asked. Of those a learner may use, the first ones
// of the platform are by far the most popular.
func (c *crowd) chooseTemplate(g *generator, d *crowdDay, r *run) {
	q := pick(g, questions)
	r.prompt, r.answer = q.prompt, q.answer
	if !g.chance(0.4) {
		return
	}
	t := c.public[int(float64(len(c.public))*math.Pow(g.Float64(), 2.2))]
	switch part := g.Float64(); {
	case part < 0.15 && len(c.own[r.learner]) > 0:
		t = pick(g, c.own[r.learner])
	case part < 0.5 && len(r.learner.teams) > 0:
		if of := c.shared[pick(g, r.learner.teams)]; len(of) > 0 {
			if s := pick(g, of); !s.at.After(r.at) {
				t = s.template
			}
		}
	}
	if t.createdAt.After(r.at) {
		return
	}
	r.template, r.prompt, r.answer = t, t.body, t.answer
	if r.at.After(c.w.now.AddDate(0, 0, -contentDays)) {
		r.prompt = g.fillIn(t.body)
	}
	if g.chance(0.7) {
		d.events = append(d.events, templateEvent{t, r.learner, "viewed", latest(t.createdAt, r.at.Add(-time.Second-g.upTo(time.Minute)))})
	}
	d.events = append(d.events, templateEvent{t, r.learner, "used", r.at})
	if g.chance(0.02) {
		d.events = append(d.events, templateEvent{t, r.learner, "forked", r.at.Add(g.upTo(lastRun))})
	}
}

// attempt lets a model answer. A key that fails is found out by the first attempt of
// its last day, or else that night by a check.
func (c *crowd) attempt(g *generator, d *crowdDay, r *run, m model, input float64) attempt {
	a := attempt{model: m, status: "ok", tries: 1, finishReason: "stop"}
	for _, k := range r.learner.keys {
		if _, known := d.failed[k]; known || k.provider != m.provider || r.at.Before(k.addedAt) {
			continue
		}
		broken := !k.failsAt.IsZero() && !r.at.Before(k.failsAt)
		if broken && k.failsAt.Before(c.w.first.AddDate(0, 0, d.number)) {
			continue
		}
		a.userKey, d.used[k] = k, r.at
		if broken {
			d.failed[k] = r.at
			g.fail(&a, r.at, k.failure, 0)
			return a
		}
	}
	g.answer(&a, r, input)
	return a
}

// learn adds to the people what is known of them after a day.
func (c *crowd) learn(d *crowdDay, ran [][]uint64) {
	for l, at := range d.lastRun {
		l.lastRunAt = latest(l.lastRunAt, at)
		ran[l.place][d.number/64] |= 1 << (d.number % 64)
	}
	for k, at := range d.used {
		k.usedAt = latest(k.usedAt, at)
	}
	for k, at := range d.failed {
		k.failsAt = at
	}
}

// settle gives keys their state: those whose time has come have failed.
func (c *crowd) settle() {
	for _, l := range c.w.learners {
		for _, k := range l.keys {
			k.failed = !k.failsAt.IsZero() && !k.failsAt.After(c.w.now)
		}
	}
}

// ranBefore says who ran something in the two weeks before a midnight, of the days
// that are noted for each learner.
func (c *crowd) ranBefore(ran [][]uint64) func(l *learner, at time.Time) bool {
	return func(l *learner, at time.Time) bool {
		until := int(at.Sub(c.w.first) / (24 * time.Hour))
		for n := max(0, until-14); n < min(until, c.size.Days+1); n++ {
			if ran[l.place][n/64]>>(n%64)&1 == 1 {
				return true
			}
		}
		return false
	}
}

// lots are weights to draw from.
type lots []float64 // sums up to each

func newLots(weights []float64) lots {
	sums := make(lots, len(weights))
	sum := 0.0
	for i, weight := range weights {
		sum += weight
		sums[i] = sum
	}
	return sums
}

// draw returns a place by weight.
func (l lots) draw(r *rand.Rand) int {
	at := r.Float64() * l[len(l)-1]
	return sort.Search(len(l)-1, func(i int) bool { return l[i] > at })
}

func learnerID(l *learner) uuid.UUID { return l.id }
