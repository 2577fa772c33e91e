package demo

import (
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"time"
	"unicode"

	"github.com/google/uuid"

	"github.com/promptcademy/promptops/internal/price"
)

const (
	seed         = 20261124
	days         = 180 // of runs, and today
	learnerCount = 120
	contentDays  = 14 // for which there is also what was said
)

// world is everything the demo consists of. The same seed, moment and prices
// make the same world, to the last digit.
type world struct {
	now       time.Time
	first     time.Time // the day of the first runs, at midnight UTC
	learners  []*learner
	teams     []*team
	templates []*ownedTemplate
	shared    []sharedTemplate
	lessons   []lesson
	progress  []progress
	events    []templateEvent
	runs      []run // oldest first
}

type learner struct {
	id         uuid.UUID
	name       string
	email      string
	signedUpAt time.Time
	lastRunAt  time.Time // zero: never ran anything
	quietAt    time.Time // zero: still active
	eagerness  float64   // how often they run something, beside the others
	place      int       // among the learners of a crowd
	teams      []*team
	keys       []*userKey
}

func (l *learner) activeAt(at time.Time) bool {
	return !at.Before(l.signedUpAt) && (l.quietAt.IsZero() || at.Before(l.quietAt))
}

// userKey is a learner's own provider key.
type userKey struct {
	id       uuid.UUID // given when it is stored
	provider string
	addedAt  time.Time
	failsAt  time.Time // zero: works
	failure  failure   // how, if it fails
	failed   bool      // an attempt found out
	usedAt   time.Time // last; zero: never
}

type team struct {
	id           uuid.UUID
	name         string
	createdAt    time.Time
	sharePrompts bool
	members      []member
}

type member struct {
	learner  *learner
	role     string
	joinedAt time.Time
}

type ownedTemplate struct {
	template
	id        uuid.UUID
	owner     *learner // nil: the platform's own
	public    bool
	createdAt time.Time
}

type sharedTemplate struct {
	team     *team
	template *ownedTemplate
	by       *learner
	at       time.Time
}

type templateEvent struct {
	template *ownedTemplate
	learner  *learner
	event    string
	at       time.Time
}

type lesson struct {
	id        uuid.UUID
	slug      string
	title     string
	position  int
	createdAt time.Time
}

type progress struct {
	learner     *learner
	lesson      lesson
	startedAt   time.Time
	completedAt *time.Time
	score       *float64
}

// generator makes a world.
type generator struct {
	*rand.Rand
	book *price.Book
	w    world
}

// newWorld makes up a world as it is now. No instant in it is later.
func newWorld(book *price.Book, now time.Time) world {
	now = now.UTC().Truncate(time.Millisecond)
	g := &generator{Rand: rand.New(rand.NewPCG(seed, 0)), book: book}
	g.w = world{now: now, first: now.Truncate(24*time.Hour).AddDate(0, 0, -days)}
	g.makeLearners()
	g.makeTeams()
	g.makeTemplates()
	g.makeLessons()
	g.makeRuns()
	slices.SortStableFunc(g.w.events, func(a, b templateEvent) int { return a.at.Compare(b.at) })
	return g.w
}

func (g *generator) makeLearners() {
	names := map[string]bool{}
	for i := range learnerCount {
		l := &learner{id: g.id(), eagerness: g.lognormal(1, 0.9)}
		if i == 0 { // the one that the README tries the endpoint with
			l.name, l.email, l.eagerness = "Ada Marlowe", Learner, 3
			l.signedUpAt = g.w.first.Add(9 * time.Hour)
			l.keys = []*userKey{{provider: "openai", addedAt: l.signedUpAt.Add(26 * time.Hour)}}
		} else {
			l.name = g.newName(names)
			l.email = address(l.name)
			g.signUp(l, i < learnerCount/3)
			g.giveKeys(l)
		}
		g.w.learners = append(g.w.learners, l)
	}
}

func (g *generator) newName(taken map[string]bool) string {
	for {
		name := pick(g, firstNames) + " " + pick(g, lastNames)
		if !taken[name] {
			taken[name] = true
			return name
		}
	}
}

// address is "Lucía Bergström" as lucia.bergstrom@demo.promptcademy.test.
func address(name string) string {
	plain := strings.NewReplacer("í", "i", "ö", "o", "é", "e").Replace(name)
	plain = strings.Map(func(r rune) rune {
		switch {
		case r == ' ':
			return '.'
		case r < unicode.MaxASCII:
			return unicode.ToLower(r)
		}
		return -1
	}, plain)
	return plain + "@" + domain
}

// signUp spreads sign-ups over the time of the demo, if not before.
func (g *generator) signUp(l *learner, before bool) {
	if before {
		l.signedUpAt = g.w.first.Add(-g.upTo(100 * 24 * time.Hour))
	} else {
		part := math.Sqrt(g.Float64()) // later more of them
		l.signedUpAt = g.w.first.Add(time.Duration(part * float64(g.w.now.Add(-2*time.Hour).Sub(g.w.first))))
	}
	if g.chance(0.3) {
		if quietAt := l.signedUpAt.Add(g.upTo(90 * 24 * time.Hour)); quietAt.Before(g.w.now) {
			l.quietAt = quietAt
		}
	}
}

// giveKeys gives three of five learners keys of their own, more and more as time
// goes on. Some of the keys stop working some day.
func (g *generator) giveKeys(l *learner) {
	if part := min(0.9, 0.25+0.3*l.eagerness); !g.chance(part) { // those who ask more sooner bring their own
		return
	}
	for _, k := range keyProviders {
		if !g.chance(k.part) {
			continue
		}
		key := &userKey{provider: k.provider, addedAt: g.between(latest(l.signedUpAt, g.w.first), g.w.now.Add(-time.Hour))}
		if g.chance(0.1) {
			key.failsAt = key.addedAt.Add(g.upTo(g.w.now.Sub(key.addedAt)))
			key.failure = weighted(g, keyFailures, func(f failure) float64 { return f.often })
		}
		l.keys = append(l.keys, key)
	}
}

func (g *generator) makeTeams() {
	for i, name := range teamNames {
		t := &team{id: g.id(), name: name, sharePrompts: i%3 == 0, createdAt: g.w.first.Add(-g.upTo(60 * 24 * time.Hour))}
		g.w.teams = append(g.w.teams, t)
	}
	for i, l := range g.w.learners {
		switch part := g.Float64(); {
		case i < len(g.w.teams): // one lead for each
			g.join(l, g.w.teams[i], "lead")
		case part < 0.75:
			g.join(l, pick(g, g.w.teams), "member")
		case part < 0.9:
			first := g.IntN(len(g.w.teams))
			g.join(l, g.w.teams[first], "member")
			g.join(l, g.w.teams[(first+1+g.IntN(len(g.w.teams)-1))%len(g.w.teams)], "member")
		}
	}
	g.join(g.w.learners[1], g.w.teams[0], "member") // a lead who is a member elsewhere
}

func (g *generator) join(l *learner, t *team, role string) {
	at := latest(l.signedUpAt, t.createdAt)
	t.members = append(t.members, member{l, role, g.between(at, earliest(at.Add(72*time.Hour), g.w.now))})
	l.teams = append(l.teams, t)
}

func (g *generator) makeTemplates() {
	for i, t := range templates {
		owned := &ownedTemplate{template: t, id: g.id(), public: true, createdAt: g.w.first.Add(-g.upTo(50 * 24 * time.Hour))}
		if i >= len(templates)/3 {
			owned.owner = g.w.learners[g.IntN(learnerCount/3)]
			owned.public = g.chance(0.4)
			owned.createdAt = g.between(owned.owner.signedUpAt, g.w.now.AddDate(0, 0, -20))
			g.event(owned, owned.owner, "created", owned.createdAt)
			for _, team := range owned.owner.teams {
				if g.chance(0.7) {
					at := g.between(latest(owned.createdAt, team.createdAt), g.w.now)
					g.w.shared = append(g.w.shared, sharedTemplate{team, owned, owned.owner, at})
					g.event(owned, owned.owner, "shared", at)
				}
			}
		}
		g.w.templates = append(g.w.templates, owned)
	}
}

func (g *generator) event(t *ownedTemplate, l *learner, event string, at time.Time) {
	g.w.events = append(g.w.events, templateEvent{t, l, event, at})
}

// usable are the templates that a learner may use at an instant.
func (g *generator) usable(l *learner, at time.Time) []*ownedTemplate {
	var usable []*ownedTemplate
	for _, t := range g.w.templates {
		if !t.createdAt.After(at) && (t.public || t.owner == l || slices.ContainsFunc(g.w.shared, func(s sharedTemplate) bool {
			return s.template == t && !s.at.After(at) && slices.Contains(l.teams, s.team)
		})) {
			usable = append(usable, t)
		}
	}
	return usable
}

func (g *generator) makeLessons() {
	for i, title := range lessonTitles {
		g.w.lessons = append(g.w.lessons, lesson{
			id: g.id(), slug: fmt.Sprintf("demo-lesson-%d", i+1), title: title, position: i + 1,
			createdAt: g.w.first.AddDate(0, 0, -120),
		})
	}
	for _, l := range g.w.learners {
		at := l.signedUpAt
		for _, lesson := range g.w.lessons {
			at = at.Add(g.upTo(9 * 24 * time.Hour))
			if at.After(g.w.now) || !l.activeAt(at) || g.chance(0.06) {
				break
			}
			p := progress{learner: l, lesson: lesson, startedAt: at}
			if done := at.Add(10*time.Minute + g.upTo(3*time.Hour)); g.chance(0.85) && done.Before(g.w.now) {
				score := math.Round(100 * min(1, max(0.3, 0.82+0.12*g.NormFloat64())))
				p.completedAt, p.score = &done, &score
			}
			g.w.progress = append(g.w.progress, p)
		}
	}
}

// id makes a random UUID.
func (g *generator) id() (id uuid.UUID) {
	for i := range id {
		id[i] = byte(g.Uint32())
	}
	id[6] = id[6]&0x0f | 0x40
	id[8] = id[8]&0x3f | 0x80
	return id
}

// timedID makes a UUIDv7 of an instant's millisecond.
func (g *generator) timedID(at time.Time) uuid.UUID {
	id := g.id()
	ms := at.UnixMilli()
	for i := range 6 {
		id[i] = byte(ms >> (40 - 8*i))
	}
	id[6] = id[6]&0x0f | 0x70
	return id
}

func (g *generator) chance(part float64) bool { return g.Float64() < part }

// upTo returns a duration below d, to the millisecond.
func (g *generator) upTo(d time.Duration) time.Duration {
	return time.Duration(g.Float64() * float64(d)).Truncate(time.Millisecond)
}

// between returns an instant from one on and before the other; the first, if the
// second is not later.
func (g *generator) between(from, to time.Time) time.Time {
	return from.Add(g.upTo(max(0, to.Sub(from))))
}

// lognormal returns a number that is less than median half of the time, and
// sometimes much more.
func (g *generator) lognormal(median, sigma float64) float64 {
	return median * math.Exp(sigma*g.NormFloat64())
}

func pick[T any](g *generator, from []T) T { return from[g.IntN(len(from))] }

// weighted picks one of all by weight.
func weighted[T any](g *generator, all []T, weight func(T) float64) T {
	weights := make([]float64, len(all))
	for i, one := range all {
		weights[i] = weight(one)
	}
	return all[g.index(weights)]
}

// index picks a place in weights by weight.
func (g *generator) index(weights []float64) int {
	sum := 0.0
	for _, w := range weights {
		sum += w
	}
	at := g.Float64() * sum
	for i, w := range weights {
		if at -= w; at < 0 {
			return i
		}
	}
	return len(weights) - 1
}

func latest(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

func earliest(a, b time.Time) time.Time {
	if a.Before(b) {
		return a
	}
	return b
}
