package run

import (
	"bytes"
	"encoding/json"
	"fmt"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/promptcademy/promptops/internal/fault"
)

// An idempotency key names one request of one caller for a day. The same request
// again is given the same answer; while the first goes on, it is told to wait. A
// run that was abandoned or interrupted has no answer: its key may be used again.

// idempotencyTTL is how long an answer can be asked for again.
const idempotencyTTL = 24 * time.Hour

// MaxIdempotencyKey is how many characters a key may have.
const MaxIdempotencyKey = 255

// idempotencyID names a row of ops.idempotency.
type idempotencyID struct {
	owner uuid.UUID
	key   string
}

func (c *Call) idempotencyID() idempotencyID { return idempotencyID{c.owner(), c.IdempotencyKey} }

// owner is whoever runs: the learner or the operator.
func (c *Call) owner() uuid.UUID {
	switch {
	case c.LearnerID != nil:
		return *c.LearnerID
	case c.OperatorID != nil:
		return *c.OperatorID
	}
	return uuid.Nil
}

func queueEarlier(batch *pgx.Batch, owners []uuid.UUID, keys []string, into map[idempotencyID]*earlier) {
	batch.Queue(`
		select i.owner_id, i.key, i.run_id, i.request_hash, i.answer
		from unnest($1::uuid[], $2::text[]) as asked (owner_id, key)
		join ops.idempotency i using (owner_id, key)
		where i.created_at > now() - $3::interval`, owners, keys, idempotencyTTL).Query(func(rows pgx.Rows) error {
		var id idempotencyID
		var found earlier
		_, err := pgx.ForEachRow(rows, []any{&id.owner, &id.key, &found.runID, &found.hash, &found.answer}, func() error {
			one := found
			into[id] = &one
			return nil
		})
		return err
	})
}

// replay is the answer to a request whose idempotency key was used before:
// fault.Invalid for another request, fault.Conflict while the first goes on.
func (e *earlier) replay(hash []byte) (Envelope, error) {
	var again Envelope
	switch {
	case !bytes.Equal(e.hash, hash):
		return again, fault.InvalidFields([]fault.Field{{Field: "Idempotency-Key", Message: "was used before with another request; send a new key with a new request"}})
	case e.answer == nil:
		return again, fault.New(fault.Conflict, "The first request with this Idempotency-Key is still running. Try again in a moment.").After(time.Second)
	}
	if err := json.Unmarshal([]byte(*e.answer), &again); err != nil {
		return again, fmt.Errorf("stored answer of run %s: %w", e.runID, err)
	}
	again.Replayed = true
	return again, nil
}
