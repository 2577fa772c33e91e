package activity

import (
	"context"
	"maps"
	"math/bits"
	"sync"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
)

// ledger remembers between reports what Keeper counted of each learner, so that
// only what has changed since need be read. What it hands out is what a snapshot
// says: it compares rounds, and a snapshot older than what it knows does without it.
type ledger struct {
	mu    sync.Mutex
	zones map[string]*book
}

// mostBooks is how many zones are remembered.
const mostBooks = 8

// book is what was counted of a zone until a round.
type book struct {
	epoch    uuid.UUID
	round    int64
	learners page
	members  map[uuid.UUID]*page // by team, of what was run for it
}

// page is entries by learner. Index is never changed once others have seen it: it
// is replaced.
type page struct {
	entries []entry
	index   map[uuid.UUID]int // place in entries
}

// entry is what was counted of a learner, or of what a learner ran for a team.
type entry struct {
	id                    uuid.UUID
	days, learned         []uint64 // from firstDay on
	firstRun, firstLesson time.Time
	last                  lastRun
	completed             []int16 // the day of each lesson
}

// all are the entries; of no page none.
func (p *page) all() []entry {
	if p == nil {
		return nil
	}
	return p.entries
}

// write puts entries in place of those that there were of the same learners.
func (p *page) write(entries []entry) {
	var index map[uuid.UUID]int
	for _, e := range entries {
		if at, known := p.index[e.id]; known {
			p.entries[at] = e
			continue
		}
		if index == nil {
			index = make(map[uuid.UUID]int, len(p.index)+len(entries))
			maps.Copy(index, p.index)
		}
		index[e.id] = len(p.entries)
		p.entries = append(p.entries, e)
	}
	if index != nil {
		p.index = index
	}
}

// open calls fn with the book of a zone as it is in the transaction's snapshot, of
// which plan knows the round. Until fn returns, nobody else can use the ledger.
func (l *ledger) open(ctx context.Context, tx pgx.Tx, plan *plan, fn func(*book)) error {
	zone, epoch, round := plan.zone, plan.epoch, plan.round
	l.mu.Lock()
	defer l.mu.Unlock()
	b := l.zones[zone]
	if b == nil || b.epoch != epoch || b.round > round {
		fresh := &book{epoch: epoch, round: -1, members: map[uuid.UUID]*page{}}
		if b == nil || b.epoch != epoch {
			if l.zones == nil || len(l.zones) >= mostBooks {
				l.zones = map[string]*book{}
			}
			l.zones[zone] = fresh
		}
		b = fresh
	}
	if b.round < round {
		if err := b.read(ctx, tx, zone); err != nil {
			delete(l.zones, zone) // it may know a part of the round
			return err
		}
		b.round = round
	}
	fn(b)
	return nil
}

// read reads what has changed since the book's round.
func (b *book) read(ctx context.Context, tx pgx.Tx, zone string) error {
	rows, err := tx.Query(ctx, `select learner_id, `+ranOn+`, learned, first_completed_at, completed_days from ops.active_learners where zone = $1 and round > $2`, zone, b.round)
	if err != nil {
		return err
	}
	var learners []entry
	if err := eachRaw(rows, func(row raw) {
		e := row.entry()
		e.learned, e.firstLesson, e.completed = wordsOf(row.bits(6)), row.time(7), row.shorts(8)
		learners = append(learners, e)
	}); err != nil {
		return err
	}
	b.learners.write(learners)
	return b.readMembers(ctx, tx, `ops.active_members where zone = $1 and round > $2`, zone, b.round)
}

const ranOn = `days, first_run_at, last_run_at, last_run_id, coalesce(last_run_failed, false)`

// readMembers reads what was run for teams.
func (b *book) readMembers(ctx context.Context, tx pgx.Tx, of string, args ...any) error {
	rows, err := tx.Query(ctx, `select learner_id, `+ranOn+`, team_id from `+of, args...)
	if err != nil {
		return err
	}
	members := map[uuid.UUID][]entry{}
	if err := eachRaw(rows, func(row raw) {
		team := row.uuid(6)
		members[team] = append(members[team], row.entry())
	}); err != nil {
		return err
	}
	for team, entries := range members {
		if b.members[team] == nil {
			b.members[team] = &page{}
		}
		b.members[team].write(entries)
	}
	return nil
}

// readLed reads what a book has of the teams that somebody leads: what row-level security
// lets them see, and no ledger remembers for others.
func readLed(ctx context.Context, tx pgx.Tx, zone string, teams, members []uuid.UUID) (*book, error) {
	b := &book{members: map[uuid.UUID]*page{}}
	rows, err := tx.Query(ctx, `
		select learner_id, learned, first_completed_at, completed_days
		from public.led_active_learners where zone = $1 and learner_id in (select unnest($2::uuid[]))`, zone, members)
	if err != nil {
		return nil, err
	}
	var learners []entry
	if err := eachRaw(rows, func(row raw) {
		learners = append(learners, entry{id: row.uuid(0), learned: wordsOf(row.bits(1)), firstLesson: row.time(2), completed: row.shorts(3)})
	}); err != nil {
		return nil, err
	}
	b.learners.write(learners)
	return b, b.readMembers(ctx, tx, `public.led_active_members where zone = $1 and team_id = any ($2)`, zone, teams)
}

// entry reads the first six columns, which both tables have.
func (r raw) entry() entry {
	return entry{id: r.uuid(0), days: wordsOf(r.bits(1)), firstRun: r.time(2), last: lastRun{r.time(3), r.uuid(4), r.bool(5)}}
}

// wordsOf reads a bit string, whose first bit is the first day.
func wordsOf(b []byte) []uint64 {
	words := make([]uint64, (len(b)+7)/8)
	for i, eight := range b {
		words[i/8] |= uint64(bits.Reverse8(eight)) << (i % 8 * 8)
	}
	return words
}

// from are the days from a given one on.
func from(words []uint64, day int) (s daySet) {
	for i := range s {
		at := day/64 + i
		if at >= len(words) {
			break
		}
		s[i] = words[at] >> (day % 64)
		if at+1 < len(words) && day%64 > 0 {
			s[i] |= words[at+1] << (64 - day%64)
		}
	}
	return s
}
