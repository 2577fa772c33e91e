package incident

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
)

// The errors of a provider are on the time line while at least errorsFrom attempts
// of five minutes failed, and they were more than one in errorsOneIn: ten of a
// thousand are everyday life, one of two as well.
const (
	errorsFrom  = 10
	errorsOneIn = 5
	slot        = 5 * time.Minute
)

// most is how many entries of one kind a time line takes over.
const most = 500

// derive reads what other tables tell of the time from from to to.
func derive(ctx context.Context, tx pgx.Tx, from, to time.Time) ([]Entry, error) {
	var all []Entry
	for _, source := range []func(context.Context, pgx.Tx, time.Time, time.Time) ([]Entry, error){keyChanges, actions, errorsOver, deploys} {
		entries, err := source(ctx, tx, from, to)
		if err != nil {
			return nil, fmt.Errorf("time line: %w", err)
		}
		if len(entries) > most {
			entries[most] = Entry{At: entries[most].At, Kind: entries[most].Kind, Title: "More of this kind followed and is left out here."}
			entries = entries[:most+1]
		}
		all = append(all, entries...)
	}
	return inOrder(nil, all), nil
}

// keyChanges are those that no operator made: theirs are in the audit log, too.
func keyChanges(ctx context.Context, tx pgx.Tx, from, to time.Time) ([]Entry, error) {
	rows, _ := tx.Query(ctx, `
		select e.at, e.provider, coalesce(k.label, '') as label, e.from_status, e.to_status, e.reason
		from ops.key_events e
		left join ops.fallback_keys k on k.id = e.key_id
		where e.key_source = 'fallback' and e.kind <> 'operator' and e.from_status <> e.to_status and e.at >= $1 and e.at <= $2
		order by e.at, e.id
		limit $3`, from, to, most+1)
	return pgx.CollectRows(rows, func(row pgx.CollectableRow) (Entry, error) {
		e := Entry{Kind: KindKey}
		var label, was, is string
		err := row.Scan(&e.At, &e.Provider, &label, &was, &is, &e.Body)
		e.At, e.Title, e.Changes = e.At.UTC(), "Fallback key "+quoted(label), []Change{{"status", was, is}}
		return e, err
	})
}

func quoted(label string) string {
	if label == "" {
		return "that is deleted by now"
	}
	return "“" + label + "”"
}

// did is what was done to a fallback key, by the verb of its action.
var did = map[string]string{
	"add": "added", "edit": "changed", "test": "tested", "enable": "enabled", "disable": "disabled", "delete": "deleted",
	"rotate": "rotated", "reorder": "put in another order",
}

// actions are what operators did to fallback keys and budgets.
func actions(ctx context.Context, tx pgx.Tx, from, to time.Time) ([]Entry, error) {
	rows, _ := tx.Query(ctx, `
		select at, operator_id, actor, action, subject_label, details
		from ops.audit_log
		where (starts_with(action, 'fallback_key.') or action = 'budgets.set') and at >= $1 and at <= $2
		order by id
		limit $3`, from, to, most+1)
	return pgx.CollectRows(rows, func(row pgx.CollectableRow) (Entry, error) {
		e := Entry{Kind: KindAction}
		var action, label string
		var details []byte
		if err := row.Scan(&e.At, &e.ActorID, &e.Actor, &action, &label, &details); err != nil {
			return e, err
		}
		e.At, e.Title = e.At.UTC(), "Limits changed"
		if verb, ok := strings.CutPrefix(action, "fallback_key."); ok {
			done := did[verb]
			if done == "" {
				done = strings.ReplaceAll(verb, "_", " ")
			}
			e.Title = "Fallback key " + quoted(label) + " " + done
			if verb == "reorder" {
				e.Title = "Fallback keys of " + label + " " + done
			}
		}
		e.Changes, e.Body = changesOf(details)
		return e, nil
	})
}

// changesOf reads what changed, and why, from the details of an audit entry.
func changesOf(details []byte) (changes []Change, reason string) {
	var object map[string]any
	if json.Unmarshal(details, &object) != nil {
		return nil, "" // tampered with: that is for the audit log to say
	}
	for _, field := range slices.Sorted(maps.Keys(object)) {
		change, ok := object[field].(map[string]any)
		from, hasFrom := change["from"]
		to, hasTo := change["to"]
		if ok && hasFrom && hasTo {
			changes = append(changes, Change{field, value(from), value(to)})
		}
	}
	reason, _ = object["reason"].(string)
	return changes, reason
}

func value(v any) string {
	switch v := v.(type) {
	case nil:
		return "none"
	case string:
		return v
	case []any:
		parts := make([]string, len(v))
		for i, item := range v {
			parts[i] = value(item)
		}
		return strings.Join(parts, ", ")
	}
	plain, _ := json.Marshal(v) // it came from JSON
	return string(plain)
}

// bucket is the attempts at one provider in five minutes.
type bucket struct {
	Provider string
	Slot     time.Time
	Total    int64 // that have ended
	Errors   int64
	Class    string // of most errors
}

func (b bucket) over() bool { return b.Errors >= errorsFrom && b.Errors*errorsOneIn > b.Total }

func errorsOver(ctx context.Context, tx pgx.Tx, from, to time.Time) ([]Entry, error) {
	rows, _ := tx.Query(ctx, `
		select provider, date_bin('5 minutes', created_at, 'epoch') as slot,
		       count(*) filter (where status <> 'running') as total,
		       count(*) filter (where status = 'error') as errors,
		       coalesce(mode() within group (order by error_class) filter (where status = 'error'), '') as class
		from public.prompt_attempts
		where created_at >= $1 and created_at < $2
		group by provider, slot
		having count(*) filter (where status = 'error') >= $3
		order by provider, slot`, from, to, errorsFrom)
	buckets, err := pgx.CollectRows(rows, pgx.RowToStructByName[bucket])
	return crossings(buckets, from, to), err
}

// crossings says when the errors of a provider went over the threshold, and when
// they were below it again. buckets are by provider and time; those that are
// missing had no trouble.
func crossings(buckets []bucket, from, to time.Time) []Entry {
	var entries []Entry
	var since, until time.Time // of the episode that goes on
	var provider string
	end := func() {
		if !until.IsZero() && !until.After(to) {
			entries = append(entries, Entry{At: until, Kind: KindErrors, Provider: provider, Title: "Errors are below the threshold again, after " + Span(until.Sub(since))})
		}
		until = time.Time{}
	}
	for _, b := range buckets {
		if !b.over() {
			continue // a gap ends the episode
		}
		at := b.Slot.UTC()
		if b.Provider != provider || !until.Equal(at) {
			end()
			provider, since = b.Provider, at
			if since.Before(from) {
				since = from
			}
			entries = append(entries, Entry{
				At: since, Kind: KindErrors, Provider: provider, Title: fmt.Sprintf("Errors cross the threshold: %d of %d attempts in 5 minutes failed (%d%%)", b.Errors, b.Total, b.Errors*100/b.Total),
				Body: mostly(b.Class),
			})
		}
		until = at.Add(slot)
	}
	end()
	slices.SortStableFunc(entries, func(a, b Entry) int { return a.At.Compare(b.At) })
	return entries
}

func mostly(class string) string {
	if class == "" {
		return ""
	}
	return "Mostly " + strings.ReplaceAll(class, "_", " ") + "."
}

func deploys(ctx context.Context, tx pgx.Tx, from, to time.Time) ([]Entry, error) {
	rows, _ := tx.Query(ctx, `
		select at, host, version, previous
		from ops.deploys
		where previous is not null and at >= $1 and at <= $2
		order by id
		limit $3`, from, to, most+1)
	return pgx.CollectRows(rows, func(row pgx.CollectableRow) (Entry, error) {
		e := Entry{Kind: KindDeploy, Title: "Another version began to run"}
		var host, version, previous string
		err := row.Scan(&e.At, &host, &version, &previous)
		if host != "" {
			e.Title += " on " + host
		}
		e.At, e.Changes = e.At.UTC(), []Change{{"version", previous, version}}
		return e, err
	})
}

// firstID is the smallest id of a run of that millisecond: ids of runs begin with
// their time, and only by their id they can be looked up.
func firstID(at time.Time) (id uuid.UUID) {
	for i, ms := 5, at.UnixMilli(); i >= 0; i, ms = i-1, ms>>8 {
		id[i] = byte(ms)
	}
	return id
}
