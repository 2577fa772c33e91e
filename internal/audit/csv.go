package audit

import (
	"context"
	"encoding/csv"
	"encoding/hex"
	"encoding/json"
	"io"
	"strconv"
	"time"

	"github.com/promptcademy/promptops/internal/sheet"
)

// WriteCSV writes entries, the newest first, a line each, as RFC 4180 asks for:
// comma, CRLF, a header. Times are UTC, details are JSON. It reads as it writes, so
// that the log may be of any length; nothing is written before something was read.
func (s *Store) WriteCSV(ctx context.Context, w io.Writer, f Filter) error {
	out := csv.NewWriter(w)
	out.UseCRLF = true
	// Errors of Write come back from Error below.
	_ = out.Write([]string{"id", "at", "actor", "operator_id", "action", "subject_type", "subject_id", "subject_label", "details", "hash"})
	for {
		entries, err := s.List(ctx, f, batch)
		if err != nil {
			return err
		}
		for _, e := range entries {
			operator := ""
			if e.Actor.OperatorID != nil {
				operator = e.Actor.OperatorID.String()
			}
			details, err := json.Marshal(e.Details)
			if err != nil {
				return err
			}
			_ = out.Write([]string{
				strconv.FormatInt(e.ID, 10), e.At.Format(time.RFC3339Nano), sheet.Text(e.Actor.Name), operator,
				sheet.Text(e.Action), sheet.Text(e.SubjectType), sheet.Text(e.SubjectID), sheet.Text(e.SubjectLabel), string(details), hex.EncodeToString(e.Hash),
			})
		}
		out.Flush()
		if err := out.Error(); err != nil {
			return err
		}
		if len(entries) < batch {
			return nil
		}
		f.Before = entries[len(entries)-1].ID
	}
}
