package audit

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/promptcademy/promptops/internal/fault"
	"github.com/promptcademy/promptops/internal/postgres"
)

// Verification is what came of reading the whole log.
type Verification struct {
	At      time.Time
	By      Actor
	Entries int    // that were read
	Broken  int64  // the first that is missing or not as it was written; 0: the log is whole
	Head    string // the hash of the last one, in hexadecimal; empty if there is none
}

// verifyAction is the entry that a verification leaves.
const verifyAction = "audit.verify"

// batch is how many entries are read at once.
const batch = 2000

// Verify reads the whole log and returns how many entries there are and the id of
// the first one that is missing or not as it was written; 0: the log is whole. It
// cannot notice that the newest entries were cut off, unless somebody remembers
// how many there were.
func (s *Store) Verify(ctx context.Context) (entries int, broken int64, err error) {
	v, err := s.verify(ctx)
	return v.Entries, v.Broken, err
}

// VerifyAs is Verify on behalf of somebody, which is itself an entry of the log. It
// is fault.Unavailable when ctx ends before the log does.
func (s *Store) VerifyAs(ctx context.Context, by Actor, now time.Time) (Verification, error) {
	v, err := s.verify(ctx)
	if ctx.Err() != nil && errors.Is(ctx.Err(), context.DeadlineExceeded) {
		return v, fault.New(fault.Unavailable, "The log is too long to be verified while you wait: promptops audit verify, on the server, takes its time.").Because(err)
	}
	if err != nil {
		return v, err
	}
	v.At, v.By = now.UTC().Truncate(time.Microsecond), by
	var broken any
	if v.Broken != 0 {
		broken = v.Broken
	}
	err = postgres.InTx(ctx, s.db, func(tx pgx.Tx) error {
		return Add(ctx, tx, Entry{
			At: v.At, Actor: by, Action: verifyAction, SubjectType: "audit_log",
			Details: map[string]any{"entries": v.Entries, "broken": broken, "head": v.Head},
		})
	})
	return v, postgres.Fault(err)
}

// LastVerification returns the newest verification, nil if there was none, and how
// many entries were added since then, its own not counted; without one, how many
// there are.
func (s *Store) LastVerification(ctx context.Context) (last *Verification, since int64, err error) {
	err = s.read.Read(ctx, func(tx pgx.Tx) error {
		if err := tx.QueryRow(ctx, `select coalesce(max(id), 0) from ops.audit_log`).Scan(&since); err != nil {
			return fmt.Errorf("count audit log: %w", err)
		}
		found, err := list(ctx, tx, Filter{SubjectType: "audit_log", Action: verifyAction}, 1)
		if err != nil || len(found) == 0 {
			return err
		}
		e := found[0]
		number := func(name string) int64 {
			n, _ := e.Details[name].(json.Number)
			i, _ := n.Int64()
			return i
		}
		last = &Verification{At: e.At, By: e.Actor, Entries: int(number("entries")), Broken: number("broken")}
		last.Head, _ = e.Details["head"].(string)
		since -= e.ID
		return nil
	})
	return last, since, err
}

func (s *Store) verify(ctx context.Context) (v Verification, err error) {
	previous := make([]byte, sha256.Size)
	for {
		var entries []stored
		err := s.read.Read(ctx, func(tx pgx.Tx) error {
			rows, err := tx.Query(ctx, `select `+columns+` from ops.audit_log where id > $1 order by id limit $2`, v.Entries, batch)
			if err != nil {
				return err
			}
			entries, err = pgx.CollectRows(rows, scan)
			return err
		})
		if err != nil {
			return v, fmt.Errorf("verify audit log: %w", err)
		}
		for _, one := range entries {
			v.Entries++
			if one.ID != int64(v.Entries) || !bytes.Equal(one.previous, previous) || !bytes.Equal(one.Hash, one.hash(previous, one.details)) {
				v.Broken = int64(v.Entries)
				return v, nil
			}
			previous, v.Head = one.Hash, hex.EncodeToString(one.Hash)
		}
		if len(entries) < batch {
			return v, nil
		}
	}
}
