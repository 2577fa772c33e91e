package key

import (
	"context"
	"errors"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/promptcademy/promptops/internal/postgres"
	"github.com/promptcademy/promptops/internal/seal"
)

const (
	rewrapPause    = 200 * time.Millisecond // before rows that somebody else had locked are tried again
	rewrapPatience = 25                     // how often in a row, without any success
	surveyPage     = 1000
)

// Rewrapped is how far the stored keys are on their way to the ring's first
// master key.
type Rewrapped struct {
	Stored   int      // all there are
	Resealed int      // by this call
	Left     int      // under another master key of the ring
	Broken   []Broken // does not open; left as it is
}

// Broken is a stored key that does not open, under whichever master key.
type Broken struct {
	Source  Source
	Table   string
	ID      uuid.UUID
	Problem error // shows nothing of the key
}

// Survey opens every stored key and changes nothing.
func (s *Store) Survey(ctx context.Context) (Rewrapped, error) {
	var r Rewrapped
	err := s.walk(ctx, surveyPage, func(source Source, page []sealed) error {
		r.Stored += len(page)
		for _, one := range page {
			if _, err := s.ring.Open(one.Ciphertext, placeOf(source, one.ID)); err != nil {
				r.Broken = append(r.Broken, Broken{source, tableOf(source), one.ID, err})
			} else if s.stale(one) {
				r.Left++
			}
		}
		return nil
	})
	return r, err
}

// Rewrap seals every stored key anew under the ring's first master key, and its
// fingerprint with it, batch rows in a transaction. It may run beside nodes, and
// beside itself: a row that somebody else has locked is tried again, for some
// seconds. progress may be nil.
//
// What was done stays done when ctx ends or the database fails, and the answer
// then still counts it. Without an error, the answer is what a last look at all
// rows has found.
func (s *Store) Rewrap(ctx context.Context, batch int, progress func(done, left int)) (Rewrapped, error) {
	now, err := s.Survey(ctx)
	resealed := 0
	for tries := 0; err == nil && now.Left > 0 && tries < rewrapPatience; tries++ {
		if tries > 0 {
			select {
			case <-ctx.Done():
			case <-time.After(rewrapPause):
			}
		}
		before, left := resealed, now.Left
		err = s.walk(ctx, max(batch, 1), func(source Source, page []sealed) error {
			done, err := s.reseal(ctx, source, page)
			resealed += done
			left -= done // and what others did is seen by the next survey
			if done > 0 && progress != nil {
				progress(resealed, max(left, 0))
			}
			return err
		})
		if resealed > before {
			tries = -1
		}
		if err == nil {
			now, err = s.Survey(ctx)
		}
	}
	now.Resealed = resealed
	return now, err
}

// sealed is what of a key's row has to change with the master key.
type sealed struct {
	ID         uuid.UUID
	Ciphertext []byte
}

// stale says whether it was sealed with another master key than the first.
func (s *Store) stale(one sealed) bool {
	id, err := seal.KeyID(one.Ciphertext)
	return err != nil || id != s.ring.First()
}

// walk shows every stored key to visit, in pages.
func (s *Store) walk(ctx context.Context, size int, visit func(Source, []sealed) error) error {
	for _, source := range []Source{User, Fallback} {
		var after *uuid.UUID
		for {
			rows, err := s.db.Query(ctx, `
				select id, ciphertext from `+tableOf(source)+`
				where $1::uuid is null or id > $1
				order by id limit $2`, after, size)
			if err != nil {
				return postgres.Fault(err)
			}
			page, err := pgx.CollectRows(rows, pgx.RowToStructByName[sealed])
			if err != nil {
				return postgres.Fault(err)
			}
			if len(page) == 0 {
				break
			}
			if err := visit(source, page); err != nil {
				return err
			}
			after = &page[len(page)-1].ID
		}
	}
	return nil
}

// reseal seals anew what of a page is stale, opens and is not locked, and returns
// how many that were.
func (s *Store) reseal(ctx context.Context, source Source, page []sealed) (int, error) {
	var ids []uuid.UUID
	for _, one := range page {
		if s.stale(one) {
			ids = append(ids, one.ID)
		}
	}
	if len(ids) == 0 {
		return 0, nil
	}
	done, err := s.resealTogether(ctx, source, ids)
	if !postgres.IsUnique(err, "") {
		return done, err
	}
	// Among them are twins, or one is just being added: each for itself.
	done = 0
	for _, id := range ids {
		n, err := s.resealTogether(ctx, source, []uuid.UUID{id})
		if err != nil && !postgres.IsUnique(err, "") {
			return done, err
		}
		done += n
	}
	return done, nil
}

// twin is, by source, when the same secret cannot be stored twice.
var twin = map[Source]string{
	User:     "t.user_id = k.user_id and t.provider = k.provider",
	Fallback: "t.provider = k.provider",
}

// resealTogether does it in one transaction and, lest it waits for whoever adds a
// key while they wait for ops.facts_version, in one update.
//
// Nodes whose rings begin with different keys may have stored one secret twice.
// The twin that comes second keeps its old fingerprint: the first is found by the
// new one.
func (s *Store) resealTogether(ctx context.Context, source Source, ids []uuid.UUID) (done int, err error) {
	err = postgres.InTx(ctx, s.db, func(tx pgx.Tx) error {
		rows, err := tx.Query(ctx, `
			select id, ciphertext from `+tableOf(source)+`
			where id = any($1) order by id for update skip locked`, ids)
		if err != nil {
			return err
		}
		locked, err := pgx.CollectRows(rows, pgx.RowToStructByName[sealed])
		if err != nil {
			return err
		}
		var changed []uuid.UUID
		var olds, news [][]byte
		var fingerprints []string
		for _, one := range locked {
			place := placeOf(source, one.ID)
			plaintext, err := s.ring.Open(one.Ciphertext, place)
			if err != nil || !s.stale(one) { // Survey reports the former
				continue
			}
			changed = append(changed, one.ID)
			olds = append(olds, one.Ciphertext)
			news = append(news, s.ring.Seal(plaintext, place))
			fingerprints = append(fingerprints, s.ring.Fingerprint(string(plaintext)))
		}
		if len(changed) == 0 {
			return nil
		}
		tag, err := tx.Exec(ctx, `
			update `+tableOf(source)+` k
			set ciphertext = n.new,
			    fingerprint = case when exists (
			      select from `+tableOf(source)+` t where `+twin[source]+` and t.fingerprint = n.fingerprint and t.id <> k.id
			    ) then k.fingerprint else n.fingerprint end
			from unnest($1::uuid[], $2::bytea[], $3::bytea[], $4::text[]) as n (id, old, new, fingerprint)
			where k.id = n.id and k.ciphertext = n.old`, changed, olds, news, fingerprints)
		done = int(tag.RowsAffected())
		return err
	})
	if err == nil {
		return done, nil
	}
	if pgErr, ok := errors.AsType[*pgconn.PgError](err); ok && pgErr.Code == "40P01" {
		return 0, nil // a deadlock that we gave way in: like a locked row
	}
	return 0, postgres.Fault(err)
}
