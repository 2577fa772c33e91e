package activity

import (
	"context"
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
	learners map[uuid.UUID]*entry
	members  map[uuid.UUID]map[uuid.UUID]*entry // by team, of what was run for it
}

// entry is what was counted of a learner, or of what a learner ran for a team.
type entry struct {
	days, learned         []uint64 // from firstDay on
	firstRun, firstLesson time.Time
	last                  lastRun
	completed             []int16 // the day of each lesson
}

// open calls fn with the book of a zone as it is in the transaction's snapshot.
// Until fn returns, nobody else can use the ledger.
func (l *ledger) open(ctx context.Context, tx pgx.Tx, zone string, fn func(*book)) error {
	var epoch uuid.UUID
	var round int64
	if err := tx.QueryRow(ctx, `select epoch, round from ops.activity_round`).Scan(&epoch, &round); err != nil {
		return err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	b := l.zones[zone]
	if b == nil || b.epoch != epoch || b.round > round {
		fresh := &book{epoch: epoch, round: -1, learners: map[uuid.UUID]*entry{}, members: map[uuid.UUID]map[uuid.UUID]*entry{}}
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
	const columns = `days, first_run_at, last_run_at, last_run_id, coalesce(last_run_failed, false)`
	rows, err := tx.Query(ctx, `select learner_id, `+columns+`, learned, first_completed_at, completed_days from ops.active_learners where zone = $1 and round > $2`, zone, b.round)
	if err != nil {
		return err
	}
	if err := eachRaw(rows, func(row raw) {
		e := row.entry(1)
		e.learned, e.firstLesson, e.completed = wordsOf(row.bits(6)), row.time(7), row.shorts(8)
		b.learners[row.uuid(0)] = &e
	}); err != nil {
		return err
	}
	rows, err = tx.Query(ctx, `select learner_id, `+columns+`, team_id from ops.active_members where zone = $1 and round > $2`, zone, b.round)
	if err != nil {
		return err
	}
	return eachRaw(rows, func(row raw) {
		e, team := row.entry(1), row.uuid(6)
		if b.members[team] == nil {
			b.members[team] = map[uuid.UUID]*entry{}
		}
		b.members[team][row.uuid(0)] = &e
	})
}

// entry reads the five columns that both tables have.
func (r raw) entry(column int) entry {
	return entry{days: wordsOf(r.bits(column)), firstRun: r.time(column + 1), last: lastRun{r.time(column + 2), r.uuid(column + 3), r.bool(column + 4)}}
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
