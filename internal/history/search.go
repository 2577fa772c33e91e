package history

import (
	"context"
	"errors"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
)

// What few runs pass may be in any of millions. They are looked through in pieces,
// so that no statement takes long, and whoever waits for a page is told after a
// while how far that was.
type search struct {
	first    int           // runs of the first piece: mostly the page is found among them
	piece    int           // runs of the others, at most: each is larger than the one before
	patience time.Duration // after which no other piece is begun; 0: never
	further  time.Duration // the same of whoever asks for more
}

// forPages is how long a page may look: the first shows at once what is found at once.
// A file takes its time.
var forPages = search{5_000, 100_000, 25 * time.Millisecond, 500 * time.Millisecond}

// picky says whether a filter may leave out most of the runs that an index gives in
// the order of the list.
func (f Filter) picky() bool {
	return f.Learner == "" && f.RequestID == "" &&
		(f.Status != "" || f.TemplateID != nil || f.Stream != "" || f.MinCost != nil || f.MinDuration > 0 ||
			f.Provider != "" || f.Model != "" || f.KeySource != "" || f.ErrorClass != "")
}

// find returns up to limit runs from a cursor on, in its direction. further is where
// it stopped looking before the end of the days; nil: nowhere.
func (s *Store) find(ctx context.Context, f Filter, learner uuid.UUID, at Cursor, limit int, how search) (rows []listedRow, further *Cursor, err error) {
	begin := time.Now()
	if at != (Cursor{}) {
		how.patience = how.further
	}
	switch {
	case f.TeamIDs != nil: // theirs lie far apart, and each is looked at by the policies
		how.first, how.piece = max(1, how.first/5), max(1, how.piece/20)
	case f.leads() != "": // they lie far apart, too
		how.first, how.piece = max(1, how.first/10), max(1, how.piece/20)
	}
	stretches, err := s.stretches(ctx, f, at)
	if err != nil {
		return nil, nil, err
	}
	size := how.first
	for i := 0; i < len(stretches); {
		f.From, f.To = stretches[i].From, stretches[i].To
		pieceBegin := time.Now()
		some, edge, err := s.piece(ctx, f, learner, at, size, limit-len(rows))
		if err != nil {
			return nil, nil, err
		}
		rows = append(rows, some...)
		if len(rows) >= limit {
			return rows, nil, nil
		}
		switch {
		case edge == uuid.Nil:
			if i++; i == len(stretches) {
				return rows, nil, nil
			}
			at = beyondSpan(at, stretches[i])
		case at.After != uuid.Nil:
			at = Cursor{After: edge}
		default:
			at = Cursor{Before: edge}
		}
		larger := min(4*size, how.piece)
		if how.patience > 0 {
			// As large as can be looked through in the time that is left.
			left, took := how.patience-time.Since(begin), max(time.Since(pieceBegin), 1)
			if left < took/2 {
				return rows, &at, nil
			}
			larger = min(larger, max(1, int(float64(size)*float64(left)/float64(took))))
		}
		size = larger
	}
	return rows, nil, nil
}

// piece reads what passes of the next runs. edge is the last of them; uuid.Nil: they
// were all there are.
func (s *Store) piece(ctx context.Context, f Filter, learner uuid.UUID, at Cursor, size, limit int) (rows []listedRow, edge uuid.UUID, err error) {
	err = s.read(ctx, func(tx pgx.Tx) error {
		if f.picky() {
			if edge, err = edgeOf(ctx, tx, f, at, size); err != nil {
				return err
			}
		}
		q, err := newQuery(ctx, tx, f, learner, at, edge, limit)
		if err == nil {
			rows, err = q.rows(ctx, tx)
		}
		return err
	})
	return rows, edge, err
}

// edgeOf is the last run of a piece that begins at a cursor; uuid.Nil when the days
// end before it.
func edgeOf(ctx context.Context, tx pgx.Tx, f Filter, at Cursor, size int) (edge uuid.UUID, err error) {
	if f.leads() != "" {
		edge, err = nthLed(ctx, tx, f, at, size)
	} else {
		var all *query
		if all, err = newQuery(ctx, tx, Filter{Period: f.Period, TeamIDs: f.TeamIDs}, uuid.Nil, at, uuid.Nil, size); err != nil {
			return uuid.Nil, err
		}
		all.args["size"] = size - 1
		err = tx.QueryRow(ctx, `select id from (`+all.sql+`) piece offset @size limit 1`, all.args).Scan(&edge)
	}
	if errors.Is(err, pgx.ErrNoRows) {
		return uuid.Nil, nil
	}
	return edge, err
}
