package incident

import (
	"context"
	"encoding/csv"
	"fmt"
	"io"
	"strconv"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/promptcademy/promptops/internal/sheet"
)

// Listed is an incident in the list.
type Listed struct {
	Incident
	OpenFollowUps int64
}

const matches = `
	where ($1 = '' or i.status = $1 or $1 = 'unresolved' and i.status <> 'resolved') and ($2::int = 0 or i.severity = $2)
	  and ($3::timestamptz is null or i.detected_at >= $3) and ($4::timestamptz is null or i.detected_at < $4)`

func (f Filter) args() []any {
	moment := func(at time.Time) *time.Time {
		if at.IsZero() {
			return nil
		}
		return &at
	}
	return []any{f.Status, int(f.Severity), moment(f.From), moment(f.To)}
}

// List returns at most limit incidents, the newest first.
func (s *Store) List(ctx context.Context, f Filter, limit int) (list []Listed, err error) {
	err = s.read.Read(ctx, func(tx pgx.Tx) error {
		rows, _ := tx.Query(ctx, `
			select`+columns+`,
			       (select count(*) from ops.incident_follow_ups f where f.incident_id = i.id and f.done_at is null) as open_follow_ups`+tables+matches+`
			  and ($5::bigint = 0 or i.id < $5)
			order by i.id desc
			limit $6`, append(f.args(), f.Before, limit)...)
		if list, err = pgx.CollectRows(rows, pgx.RowToStructByName[Listed]); err != nil {
			return fmt.Errorf("list incidents: %w", err)
		}
		for i := range list {
			list[i].Incident = list[i].utc()
		}
		return nil
	})
	return list, err
}

// Measures say how well a number of incidents were looked after. A nil duration is
// one of none.
type Measures struct {
	Incidents    int64
	Acknowledged int64
	Resolved     int64

	MeanToAcknowledge, MedianToAcknowledge *time.Duration
	MeanToResolve, MedianToResolve         *time.Duration
}

// Measure returns the measures of all incidents that a filter lets through, on
// whatever page of the list they are.
func (s *Store) Measure(ctx context.Context, f Filter) (m Measures, err error) {
	err = s.read.Read(ctx, func(tx pgx.Tx) error {
		var seconds [4]*float64
		err := tx.QueryRow(ctx, `
			select count(*), count(i.acknowledged_at), count(i.resolved_at),
			       avg(extract(epoch from i.acknowledged_at - i.detected_at))::float8,
			       percentile_cont(0.5) within group (order by extract(epoch from i.acknowledged_at - i.detected_at)::float8),
			       avg(extract(epoch from i.resolved_at - i.detected_at))::float8,
			       percentile_cont(0.5) within group (order by extract(epoch from i.resolved_at - i.detected_at)::float8)
			from ops.incidents i`+matches, f.args()...).
			Scan(&m.Incidents, &m.Acknowledged, &m.Resolved, &seconds[0], &seconds[1], &seconds[2], &seconds[3])
		if err != nil {
			return fmt.Errorf("measure incidents: %w", err)
		}
		for i, to := range []**time.Duration{&m.MeanToAcknowledge, &m.MedianToAcknowledge, &m.MeanToResolve, &m.MedianToResolve} {
			if seconds[i] != nil {
				*to = new(time.Duration(*seconds[i] * float64(time.Second)))
			}
		}
		return nil
	})
	return m, err
}

const batch = 500

// WriteCSV writes incidents, the newest first, a line each, as RFC 4180 asks for:
// comma, CRLF, a header. Times are UTC. It reads as it writes; nothing is written
// before something was read.
func (s *Store) WriteCSV(ctx context.Context, w io.Writer, f Filter) error {
	out := csv.NewWriter(w)
	out.UseCRLF = true
	// Errors of Write come back from Error below.
	_ = out.Write([]string{"id", "title", "severity", "status", "lead", "detected_at", "acknowledged_at", "mitigated_at", "resolved_at",
		"seconds_to_acknowledge", "seconds_to_resolve", "open_follow_ups"})
	for {
		list, err := s.List(ctx, f, batch)
		if err != nil {
			return err
		}
		for _, i := range list {
			_ = out.Write([]string{
				strconv.FormatInt(i.ID, 10), sheet.Text(i.Title), i.Severity.String(), string(i.Status), sheet.Text(i.LeadName),
				i.DetectedAt.Format(time.RFC3339), written(i.AcknowledgedAt), written(i.MitigatedAt), written(i.ResolvedAt),
				seconds(i.ToAcknowledge()), seconds(i.ToResolve()), strconv.FormatInt(i.OpenFollowUps, 10),
			})
		}
		out.Flush()
		if err := out.Error(); err != nil {
			return err
		}
		if len(list) < batch {
			return nil
		}
		f.Before = list[len(list)-1].ID
	}
}

func written(at *time.Time) string {
	if at == nil {
		return ""
	}
	return at.Format(time.RFC3339)
}

func seconds(d time.Duration, known bool) string {
	if !known {
		return ""
	}
	return strconv.FormatInt(int64(d/time.Second), 10)
}
