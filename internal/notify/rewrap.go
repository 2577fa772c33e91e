package notify

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5"

	"github.com/promptcademy/promptops/internal/fault"
	"github.com/promptcademy/promptops/internal/postgres"
	"github.com/promptcademy/promptops/internal/seal"
)

// Rewrapped is how far what is sealed of the channels is on its way to the
// ring's first master key.
type Rewrapped struct {
	Stored   int      // all there is
	Resealed int      // by this call
	Left     int      // under another master key of the ring
	Broken   []Broken // does not open; left as it is
}

// Broken is a sealed value that does not open, under whichever master key.
type Broken struct {
	Place   seal.Place
	Problem error // shows nothing of the secret
}

// sealedValue is one that is stored.
type sealedValue struct {
	Channel    string
	Column     string
	Ciphertext []byte
}

const sealedValues = `
	select channel, v.name as column, v.ciphertext
	from (select * from ops.channels order by channel %s) c,
	     lateral (values ('address', c.address), ('secret', c.secret)) v (name, ciphertext)
	where v.ciphertext is not null
	order by 1, 2`

func (s *Store) sealedValues(ctx context.Context, db postgres.DB, lock string) ([]sealedValue, error) {
	rows, err := db.Query(ctx, fmt.Sprintf(sealedValues, lock))
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(rows, pgx.RowToStructByName[sealedValue])
}

// Survey opens everything that is sealed and changes nothing.
func (s *Store) Survey(ctx context.Context) (Rewrapped, error) {
	values, err := s.sealedValues(ctx, s.db, "")
	if err != nil {
		return Rewrapped{}, postgres.Fault(err)
	}
	var r Rewrapped
	for _, v := range values {
		r.Stored++
		id, err := seal.KeyID(v.Ciphertext)
		if _, opens := s.ring.Open(v.Ciphertext, placeOf(v.Channel, v.Column)); opens != nil {
			r.Broken = append(r.Broken, Broken{placeOf(v.Channel, v.Column), opens})
		} else if err != nil || id != s.ring.First() {
			r.Left++
		}
	}
	return r, nil
}

// Rewrap seals everything anew under the ring's first master key. It may run
// beside nodes, and be repeated.
func (s *Store) Rewrap(ctx context.Context) (Rewrapped, error) {
	resealed := 0
	err := postgres.InTx(ctx, s.db, func(tx pgx.Tx) error {
		values, err := s.sealedValues(ctx, tx, "for update")
		if err != nil {
			return err
		}
		for _, v := range values {
			place := placeOf(v.Channel, v.Column)
			plaintext, err := s.ring.Open(v.Ciphertext, place)
			if id, _ := seal.KeyID(v.Ciphertext); err != nil || id == s.ring.First() { // Survey reports the former
				continue
			}
			_, err = tx.Exec(ctx, `
				update ops.channels
				set address = case when $2 = 'address' then $3 else address end,
				    secret = case when $2 = 'secret' then $3 else secret end
				where channel = $1`, v.Channel, v.Column, s.ring.Seal(plaintext, place))
			if err != nil {
				return err
			}
			resealed++
		}
		return nil
	})
	if err != nil {
		return Rewrapped{}, postgres.Fault(fmt.Errorf("rewrap channels: %w", err))
	}
	r, err := s.Survey(ctx)
	r.Resealed = resealed
	return r, err
}

// CheckRing refuses to go on when a channel was sealed with a master key that is
// not in the ring: it says which.
func (s *Store) CheckRing(ctx context.Context) error {
	values, err := s.sealedValues(ctx, s.db, "")
	if err != nil {
		return postgres.Fault(err)
	}
	var missing []string
	for _, v := range values {
		if id, err := seal.KeyID(v.Ciphertext); err == nil && !s.ring.Has(id) {
			missing = append(missing, fmt.Sprintf("%d (%s of %s)", id, v.Column, v.Channel))
		}
	}
	if len(missing) == 0 {
		return nil
	}
	slices.Sort(missing)
	return fault.New(fault.Conflict, "PROMPTOPS_MASTER_KEYS lacks master keys that notification channels were sealed with: %s. Add them behind the first entry.", strings.Join(missing, ", "))
}
