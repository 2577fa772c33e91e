package eventlog

import (
	"context"
	"fmt"
	"io"

	"github.com/jackc/pgx/v5"

	"github.com/promptcademy/promptops/internal/sheet"
)

// MostInFile is how many events a file holds.
const MostInFile = 10_000

// WriteCSV writes the newest events that pass, a line each, the newest first; cut
// says that there are more than MostInFile. It fails like List.
func (s *Store) WriteCSV(ctx context.Context, w io.Writer, f Filter) (cut bool, err error) {
	events, cut, err := s.newest(ctx, f)
	if err != nil {
		return false, err
	}
	out := sheet.New(w, "at", "level", "source", "event", "request_id", "user_id", "learner", "node", "event_id", "attributes")
	for _, e := range events {
		userID := ""
		if e.UserID != nil {
			userID = e.UserID.String()
		}
		out.Row(e.At.Format("2006-01-02T15:04:05.000000Z07:00"), e.Level.String(), e.Source, e.Name, e.RequestID, userID, e.Learner, e.Node, e.ID.String(), string(e.Attributes))
	}
	return cut, out.End()
}

// WriteNDJSON writes the same events as JSON objects, one per line.
func (s *Store) WriteNDJSON(ctx context.Context, w io.Writer, f Filter) (cut bool, err error) {
	events, cut, err := s.newest(ctx, f)
	if err != nil {
		return false, err
	}
	for _, e := range events {
		if _, err := w.Write(append(e.JSON(), '\n')); err != nil {
			return cut, err
		}
	}
	return cut, nil
}

// newest looks for a text in everything: a file may take as long as a statement may.
func (s *Store) newest(ctx context.Context, f Filter) (events []Event, cut bool, err error) {
	err = s.read(ctx, func(tx pgx.Tx) error {
		w, err := s.where(ctx, tx, f)
		if err != nil {
			return err
		}
		if f.Text != "" {
			w.text(f.Text)
		}
		events, err = w.rows(ctx, tx, false, MostInFile+1)
		return err
	})
	if err != nil {
		return nil, false, fmt.Errorf("list log events for a file: %w", err)
	}
	return events[:min(len(events), MostInFile)], len(events) > MostInFile, nil
}
