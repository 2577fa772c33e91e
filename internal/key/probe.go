package key

import (
	"context"
	"errors"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/promptcademy/promptops/internal/fault"
	"github.com/promptcademy/promptops/internal/postgres"
	"github.com/promptcademy/promptops/internal/provider"
)

const (
	checkPatience = 10 * time.Second // how long a provider may take to say whether a key is good
	// Checks at once, of all providers and of one: a provider that has trouble with
	// everybody's keys should not be asked about all of them in the same second.
	mostChecks            = 8
	mostChecksPerProvider = 2
)

// Test checks a key by a free call, never a completion, and has what that says
// judged like all else that is seen of it: a key that was refused before and is
// accepted now is healthy again, one that is refused is checked twice before it is
// invalid, and what a person disabled stays disabled. operatorID is who asked; nil:
// the command line. It is fault.NotFound if there is no such key.
func (h *Health) Test(ctx context.Context, source Source, id uuid.UUID, operatorID *uuid.UUID, now time.Time) (Tested, error) {
	k, err := h.store.find(ctx, source, id)
	if err != nil {
		return Tested{}, err
	}
	return h.check(ctx, k, ByOperator, operatorID, func() time.Time { return now })
}

// find reads one key.
func (s *Store) find(ctx context.Context, source Source, id uuid.UUID) (Key, error) {
	columns := userColumns
	if source == Fallback {
		columns = fallbackColumns
	}
	keys, err := s.query(ctx, `select `+columns+` from `+tableOf(source)+` where id = $1`, id)
	switch {
	case err != nil:
		return Key{}, err
	case len(keys) == 0:
		return Key{}, fault.New(fault.NotFound, "There is no such key any more.")
	}
	return keys[0], nil
}

// check makes a free call with a key and has the result judged; where the verdict
// wants it confirmed, it makes another.
func (h *Health) check(ctx context.Context, k Key, kind Kind, operatorID *uuid.UUID, now func() time.Time) (Tested, error) {
	leave, err := h.slots.enter(ctx, k.Provider)
	if err != nil {
		return Tested{}, err
	}
	defer leave()
	for round := 1; ; round++ {
		o := h.inspect(ctx, k)
		if ctx.Err() != nil {
			return Tested{}, ctx.Err() // nobody has said anything
		}
		o.Kind, o.At, o.OperatorID = kind, now(), operatorID
		o.StartedAt = o.At
		w, err := h.record(ctx, k.Source, k.ID, o)
		if err != nil {
			return Tested{}, postgres.Fault(err)
		}
		if w.after.ID == uuid.Nil {
			return Tested{}, fault.New(fault.NotFound, "There is no such key any more.")
		}
		h.mind.learn(w.after, o.At)
		if w.verdict.probe && round == 1 {
			k = w.after
			continue
		}
		t := Tested{OK: o.Class == "", Class: o.Class, Message: o.Message, Latency: o.Latency, Status: w.after.Status, Reason: w.verdict.reason}
		return t, nil
	}
}

// inspect makes the call.
func (h *Health) inspect(ctx context.Context, k Key) Observation {
	client, ok := h.Providers.Client(k.Provider, k.Sandbox)
	if !ok {
		return Observation{Class: provider.ClassNotFound, Message: "This provider is no longer set up."}
	}
	secret, err := h.store.Open(k)
	if err != nil {
		h.Log.ErrorContext(ctx, "key_unreadable", "keyId", k.ID, "keySource", k.Source, "error", err)
		return Observation{Class: provider.ClassMissingKey, Message: "The stored key could not be opened. Add it again."}
	}
	ctx, cancel := context.WithTimeout(ctx, checkPatience)
	defer cancel()
	started := time.Now()
	credit, err := client.Inspect(ctx, secret.Reveal())
	o := Observation{Credit: credit, Latency: time.Since(started)}
	if err == nil {
		return o
	}
	o.Class, o.Message = provider.ClassProviderError, "The provider's answer could not be processed."
	if f, ok := errors.AsType[*provider.Failure](err); ok {
		o.Class, o.Message, o.HTTPStatus, o.ProviderCall, o.RetryAfter = f.Class, f.Message, f.HTTPStatus, f.RequestID, f.RetryAfter
	}
	return o
}

// claim takes keys whose check is due, so that no other node makes it: until the
// claim runs out. A row that somebody else has locked is theirs. Of each provider it
// takes only as many as are checked at once, lest one that hangs holds up all.
func (s *Store) claim(ctx context.Context, source Source, now time.Time) ([]Key, error) {
	columns := userColumns
	if source == Fallback {
		columns = fallbackColumns
	}
	rows, err := s.db.Query(ctx, `
		update `+tableOf(source)+`
		set next_probe_at = $2
		where id in (
		  select k.id from `+tableOf(source)+` k
		  where k.id in (
		    select id from (
		      select id, next_probe_at, row_number() over (partition by provider order by next_probe_at) as turn
		      from `+tableOf(source)+` where next_probe_at <= $1 and status <> 'disabled'
		    ) due
		    where turn <= $3 order by next_probe_at limit $4
		  ) and k.next_probe_at <= $1
		  for no key update skip locked
		)
		returning `+columns, now, now.Add(claimFor), mostChecksPerProvider, mostChecks)
	if err != nil {
		return nil, postgres.Fault(err)
	}
	found, err := pgx.CollectRows(rows, pgx.RowToStructByName[row])
	var keys []Key
	for _, one := range found {
		keys = append(keys, one.key())
	}
	return keys, postgres.Fault(err)
}
