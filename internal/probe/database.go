package probe

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/promptcademy/promptops/internal/fault"
	"github.com/promptcademy/promptops/internal/postgres"
	"github.com/promptcademy/promptops/internal/runbook"
)

// Database asks the smallest question there is and takes the time. That there is
// no answer is the answer.
func (p *Probes) Database(ctx context.Context) (runbook.Reading, error) {
	began := time.Now()
	var standby bool
	err := p.db.QueryRow(ctx, `select pg_is_in_recovery()`).Scan(&standby)
	return JudgeDatabase(time.Since(began), standby, err), nil
}

// JudgeDatabase makes a reading of it.
func JudgeDatabase(took time.Duration, standby bool, err error) runbook.Reading {
	away := fault.KindOf(postgres.Fault(err)) == fault.Unavailable
	switch {
	case err != nil && (errors.Is(err, context.DeadlineExceeded) || errors.Is(err, context.Canceled)):
		return reading(runbook.Critical, "Does not answer in time", "It takes connections and says nothing, or cannot be reached: it is paused, overloaded, or behind a broken network.")
	case err != nil && away:
		return reading(runbook.Critical, "Does not answer", "It is stopped, restarting, out of connections, or cannot be reached from this node.")
	case err != nil:
		return reading(runbook.Critical, "Refuses the question", "It answers with an error. What it said is in the log of Postgres.")
	case standby:
		return reading(runbook.Critical, "Read-only standby", "It answers in "+inSeconds(took)+", but nothing can be written: runs cannot be recorded and are refused.")
	case took > time.Second:
		return reading(runbook.Critical, "Answers in "+inSeconds(took), "The smallest question takes that long: every run waits several times for it.")
	case took > 250*time.Millisecond:
		return reading(runbook.Warning, "Answers in "+inSeconds(took), "Usual are a few milliseconds.")
	}
	return reading(runbook.OK, "Answers in "+inSeconds(took))
}

// PoolState is how many connections of a pool are in use on this node.
type PoolState struct {
	Name string
	Used int32
	Max  int32
}

// Pools judges connection pools.
func Pools(pools []PoolState) runbook.Reading {
	verdict := runbook.OK
	var values []string
	for _, p := range pools {
		values = append(values, fmt.Sprintf("%s %d of %d", p.Name, p.Used, p.Max))
		switch {
		case p.Used >= p.Max:
			verdict = runbook.Critical
		case p.Used*5 >= p.Max*4 && !verdict.Worse(runbook.Warning):
			verdict = runbook.Warning
		}
	}
	detail := "Connections in use on this node, at this moment."
	if verdict == runbook.Critical {
		detail += " Whoever comes now waits for one."
	}
	return reading(verdict, strings.Join(values, ", "), detail)
}

// Months says for which months, from this one on, runs can be recorded.
func (p *Probes) Months(ctx context.Context) (runbook.Reading, error) {
	now := p.now().UTC()
	first := time.Date(now.Year(), now.Month(), 1, 0, 0, 0, 0, time.UTC)
	var ready []bool
	rows, _ := p.db.Query(ctx, `
		select to_regclass('ops.prompt_runs' || suffix) is not null and to_regclass('ops.prompt_attempts' || suffix) is not null
		  and to_regclass('ops.prompt_contents' || suffix) is not null
		from (select ordinal, to_char($1::date + make_interval(months => ordinal), '_YYYY_MM') as suffix from generate_series(0, 3) ordinal) m
		order by ordinal`, first)
	ready, err := pgx.CollectRows(rows, pgx.RowTo[bool])
	if err != nil {
		return runbook.Reading{}, postgres.Fault(err)
	}
	return JudgeMonths(ready, first.AddDate(0, 1, 0).Sub(now)), nil
}

// JudgeMonths makes a reading of which months there are tables for: this one and
// those that follow. left is how long this month goes on.
func JudgeMonths(ready []bool, left time.Duration) runbook.Reading {
	ahead := -1
	for _, is := range ready {
		if !is {
			break
		}
		ahead++
	}
	days := count(int64(left.Hours()/24), "day")
	switch {
	case ahead < 0:
		return reading(runbook.Critical, "None for this month", "Runs cannot be recorded and are refused.")
	case ahead == 0 && left < 7*24*time.Hour:
		return reading(runbook.Critical, "None for next month", "It begins in "+days+": from then on runs are refused.")
	case ahead == 0:
		return reading(runbook.Warning, "None for next month", "It begins in "+days+". A node makes them every hour; its log says why it does not.")
	}
	return reading(runbook.OK, count(int64(ahead), "month")+" ahead", "Tables for runs are there, and a node makes more every hour.")
}

// Standby is a replica, or the slot of one.
type Standby struct {
	Name      string
	Connected bool
	LagMS     *float64 // nil: we may not see it, or nothing is behind
	LagBytes  *int64
}

// Replication asks how far replicas are behind.
func (p *Probes) Replication(ctx context.Context) (runbook.Reading, error) {
	rows, _ := p.db.Query(ctx, `
		select coalesce(nullif(application_name, ''), 'a replica') as name, true as connected,
		       extract(epoch from replay_lag)::float8 * 1000 as lag_ms,
		       case when pg_is_in_recovery() then null else pg_wal_lsn_diff(pg_current_wal_lsn(), replay_lsn)::bigint end as lag_bytes
		from pg_stat_replication
		union all
		select slot_name, false, null, case when pg_is_in_recovery() then null else pg_wal_lsn_diff(pg_current_wal_lsn(), restart_lsn)::bigint end
		from pg_replication_slots
		where not active and slot_type = 'physical'`)
	standbys, err := pgx.CollectRows(rows, pgx.RowToStructByName[Standby])
	if err != nil {
		return runbook.Reading{}, postgres.Fault(err)
	}
	return JudgeReplication(standbys), nil
}

// JudgeReplication makes a reading of it.
func JudgeReplication(standbys []Standby) runbook.Reading {
	if len(standbys) == 0 {
		return reading(runbook.OK, "No replica", "None is connected, and none has a place kept for it.")
	}
	verdict := runbook.OK
	worse := func(v runbook.Verdict) {
		if v.Worse(verdict) {
			verdict = v
		}
	}
	var words []string
	for _, s := range standbys {
		switch {
		case !s.Connected:
			worse(runbook.Critical)
			words = append(words, s.Name+" is not connected, and Postgres keeps everything for it until the disk is full")
		case s.LagBytes == nil && s.LagMS == nil:
			worse(runbook.Unknown)
			words = append(words, s.Name+": our role may not see how far it is behind")
		default:
			lag := time.Duration(0)
			if s.LagMS != nil {
				lag = time.Duration(*s.LagMS * float64(time.Millisecond))
			}
			switch {
			case lag > time.Minute || s.LagBytes != nil && *s.LagBytes > 1<<30:
				worse(runbook.Critical)
			case lag > 10*time.Second || s.LagBytes != nil && *s.LagBytes > 100<<20:
				worse(runbook.Warning)
			}
			words = append(words, s.Name+" is "+inSeconds(lag)+" behind")
		}
	}
	return reading(verdict, count(int64(len(standbys)), "replica"), strings.Join(words, "; ")+".")
}

// Archive is what Postgres itself knows of its backups.
type Archive struct {
	LastAt   *time.Time // when the last segment was archived
	FailedAt *time.Time // when that last failed
}

// Backup asks for the newest backup.
func (p *Probes) Backup(ctx context.Context) (runbook.Reading, error) {
	var seen Archive
	err := p.db.QueryRow(ctx, `select last_archived_time, last_failed_time from pg_stat_archiver`).Scan(&seen.LastAt, &seen.FailedAt)
	if err != nil {
		return runbook.Reading{}, postgres.Fault(err)
	}
	return JudgeBackup(seen, p.now()), nil
}

// JudgeBackup makes a reading of it. It is never good: that the log is archived
// does not prove that there is a backup to which it belongs.
func JudgeBackup(seen Archive, now time.Time) runbook.Reading {
	switch {
	case seen.FailedAt != nil && (seen.LastAt == nil || seen.FailedAt.After(*seen.LastAt)):
		return reading(runbook.Critical, "Archiving fails", "Postgres cannot hand its log to the archive: there is no restoring to a moment since then.")
	case seen.LastAt == nil:
		return reading(runbook.Unknown, "Could not check", "Backups are not set up here, and Postgres archives nothing by itself. On Supabase look at Database → Backups.")
	}
	return reading(runbook.Unknown, "Could not check", "Postgres archived its log "+inSeconds(max(now.Sub(*seen.LastAt), 0))+" ago, but backups are not set up here: whether there is one to go with it is not known.")
}

// Clock compares the clock of this node with that of the database.
func (p *Probes) Clock(ctx context.Context) (runbook.Reading, error) {
	before := time.Now()
	var theirs time.Time
	if err := p.db.QueryRow(ctx, `select clock_timestamp()`).Scan(&theirs); err != nil {
		return runbook.Reading{}, postgres.Fault(err)
	}
	took := time.Since(before)
	return JudgeClock(before.Add(took/2).Sub(theirs), took), nil
}

// JudgeClock makes a reading of how far our clock is ahead of the database's;
// took is how long asking took, and so how wrong that may be.
func JudgeClock(ahead, took time.Duration) runbook.Reading {
	word := "ahead of"
	if ahead < 0 {
		ahead, word = -ahead, "behind"
	}
	value, detail := inSeconds(ahead)+" apart", fmt.Sprintf("The clock of this node is %s that of the database.", word)
	switch off := ahead - took; {
	case off > 5*time.Second:
		return reading(runbook.Critical, value, detail, "Tokens and sessions are judged by the wrong time.")
	case off > time.Second:
		return reading(runbook.Warning, value, detail)
	}
	return reading(runbook.OK, value, detail)
}

// Migrations judges which steps of the schema are not applied.
func Migrations(steps []postgres.Migration) runbook.Reading {
	var missing []string
	for _, s := range steps {
		if s.AppliedAt.IsZero() {
			missing = append(missing, s.Name)
		}
	}
	if len(missing) > 0 {
		return reading(runbook.Critical, fmt.Sprintf("%d of %d missing", len(missing), len(steps)), "Not applied: "+strings.Join(missing, ", ")+".")
	}
	return reading(runbook.OK, fmt.Sprintf("All %d applied", len(steps)))
}
