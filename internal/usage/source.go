package usage

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/google/uuid"

	"github.com/promptcademy/promptops/internal/price"
	"github.com/promptcademy/promptops/internal/rollup"
)

// set is by what attempts are told apart for one part of a report.
type set struct{ bucket, group, sub bool }

// source writes the SQL that counts attempts.
type source struct {
	q       Query
	learner *uuid.UUID // the account of q.Learner
	as      *uuid.UUID // as whom it is asked; nil: everything is seen
}

// columns are where a dimension stands in rows of prompt_attempts and in sums.
func columns(d Dimension) (ofRow, ofSums string) {
	switch d {
	case ByProvider:
		return "provider", "provider"
	case ByKey:
		return "coalesce(key_source, '')", "key_source"
	case ByTeam:
		return "coalesce(team_id::text, '')", "coalesce(subject_id::text, '')"
	case ByTemplate:
		return "coalesce(template_id::text, '')", "coalesce(subject_id::text, '')"
	case ByLearner:
		return "coalesce(user_id::text, '')", "coalesce(subject_id::text, '')"
	default:
		return "model", "model"
	}
}

// dimensions are all that have to be known apart for a set.
func (s source) dimensions(of set) map[Dimension]bool {
	return map[Dimension]bool{
		ByProvider: s.q.Provider != "" || of.has(s.q, ByProvider),
		ByModel:    s.q.Model != "" || of.has(s.q, ByModel),
		ByTeam:     s.q.TeamID != nil || s.q.TeamIDs != nil || of.has(s.q, ByTeam),
		ByKey:      s.q.KeySource != "" || of.has(s.q, ByKey),
		ByTemplate: s.q.TemplateID != nil || of.has(s.q, ByTemplate),
		ByLearner:  s.learner != nil || of.has(s.q, ByLearner),
	}
}

func (of set) has(q Query, d Dimension) bool { return of.group && q.Group == d || of.sub && q.Sub == d }

// kind is which sums tell a set apart; "" is none.
func (s source) kind(of set) rollup.Kind {
	d := s.dimensions(of)
	subjects := 0
	for _, subject := range []Dimension{ByTeam, ByTemplate, ByLearner} {
		if d[subject] {
			subjects++
		}
	}
	ofModels := d[ByProvider] || d[ByModel]
	switch {
	case subjects == 0 && d[ByModel]:
		return rollup.Model
	case subjects == 0 && d[ByProvider]:
		return rollup.Provider
	case subjects == 0:
		return rollup.Key
	case subjects > 1 || ofModels && (!d[ByTeam] || d[ByKey] && !d[ByModel]):
		return ""
	case d[ByTeam] && ofModels:
		return rollup.TeamModel
	case d[ByTeam]:
		return rollup.Team
	case d[ByTemplate]:
		return rollup.Template
	default:
		return rollup.Learner
	}
}

// statement is SQL that grows with its arguments. It is no strings.Builder, which
// may not be copied: it holds its own address.
type statement struct {
	sql  string
	args []any
}

// add appends SQL in which ? stands for each of the arguments.
func (st *statement) add(sql string, args ...any) {
	for _, arg := range args {
		st.args = append(st.args, arg)
		sql = strings.Replace(sql, "?", fmt.Sprintf("$%d", len(st.args)), 1)
	}
	st.sql += sql
}

// measure is a column of Cell between its names and the durations, and how it comes
// from sums: a count, or money.
type measure struct {
	name, sum string
	count     func(c *Cell) *int64
	money     func(c *Cell) *price.USD
}

func measures() []measure {
	return []measure{
		{"runs", "sum(runs)", func(c *Cell) *int64 { return &c.Runs }, nil},
		{"attempts", "sum(attempts)", func(c *Cell) *int64 { return &c.Attempts }, nil},
		{"running", "sum(running)", func(c *Cell) *int64 { return &c.Running }, nil},
		{"errors", "sum(errors)", func(c *Cell) *int64 { return &c.Errors }, nil},
		{"cancelled", "sum(cancelled)", func(c *Cell) *int64 { return &c.Cancelled }, nil},
		{"fallback", "sum(attempts) filter (where key_source = 'fallback')", func(c *Cell) *int64 { return &c.Fallback }, nil},
		{"input", "sum(input)", func(c *Cell) *int64 { return &c.Input }, nil},
		{"cached_input", "sum(cached_input)", func(c *Cell) *int64 { return &c.CachedInput }, nil},
		{"cache_write", "sum(cache_write)", func(c *Cell) *int64 { return &c.CacheWrite }, nil},
		{"output", "sum(output)", func(c *Cell) *int64 { return &c.Output }, nil},
		{"reasoning", "sum(reasoning)", func(c *Cell) *int64 { return &c.Reasoning }, nil},
		{"unknown_usage", "sum(unknown_usage)", func(c *Cell) *int64 { return &c.UnknownUsage }, nil},
		{"unpriced", "sum(unpriced)", func(c *Cell) *int64 { return &c.Unpriced }, nil},
		{"cost", "sum(cost)", nil, func(c *Cell) *price.USD { return &c.Cost }},
		{"fallback_cost", "sum(cost) filter (where key_source = 'fallback')", nil, func(c *Cell) *price.USD { return &c.FallbackCost }},
	}
}

func measureNames() (names []string) {
	for _, m := range measures() {
		names = append(names, m.name)
	}
	return names
}

// summed are the measures as columns, all or (unless it is nil) those that are needed.
func summed(runs string, needed []string) (columns string) {
	for _, m := range measures() {
		if needed != nil && !slices.Contains(needed, m.name) {
			continue
		}
		if m.name == "runs" {
			m.sum = runs
		}
		kind := "bigint"
		if m.count == nil {
			kind = "numeric"
		}
		columns += fmt.Sprintf(", coalesce(%s, 0)::%s as %s", m.sum, kind, m.name)
	}
	return columns
}

// sums counts a set from the sums of a plan. Only groups in only count; nil is all.
func (s source) sums(of set, plan rollup.Plan, needed, only []string, durations bool) statement {
	var st statement
	d, kind := s.dimensions(of), s.kind(of)
	name := func(has bool, dimension Dimension) string {
		if !has {
			return "''"
		}
		_, column := columns(dimension)
		return column
	}
	bucket := "1"
	if of.bucket {
		bucket = "p.bucket"
	}
	runs, anyKey := "sum(runs)", false
	if !d[ByKey] && !d[ByModel] {
		runs, anyKey = "sum(runs) filter (where key_source = '*')", true
	}
	// What was summed of teams' models tells runs apart only for any model.
	teamRuns := kind == rollup.TeamModel && anyKey
	columns := summed(runs, needed)
	if durations {
		columns += ", string_agg(latency, ''::bytea) as latency, string_agg(first_token, ''::bytea) as first_token"
	}
	st.add(`select ` + bucket + `::int as bucket, ` + name(of.group, s.q.Group) + ` as grp, ` + name(of.sub, s.q.Sub) + ` as sub` + columns + `
		from public.usage_sums s`)
	if of.bucket {
		st.add(` join unnest(?::bigint[], ?::int[]) p (id, bucket) on s.period_id = p.id where`, plan.Periods, plan.Buckets)
	} else {
		st.add(` where period_id = any (?::bigint[]) and`, plan.Periods)
	}
	st.add(` kind = ?`, string(kind))
	if !teamRuns {
		st.add(` and model <> '*'`)
	}
	if !anyKey {
		st.add(` and key_source <> '*'`)
	}
	if s.q.Provider != "" {
		st.add(` and provider = ?`, s.q.Provider)
	}
	if s.q.Model != "" {
		st.add(` and model = ?`, s.q.Model)
	}
	if s.q.KeySource != "" {
		st.add(` and key_source = ?`, s.q.KeySource)
	}
	for _, id := range []*uuid.UUID{s.q.TeamID, s.q.TemplateID, s.learner} {
		if id != nil { // of one kind: there is one at most
			st.add(` and subject_id = ?`, *id)
		}
	}
	if s.q.TeamIDs != nil {
		st.add(` and subject_id = any (?::uuid[])`, s.q.TeamIDs)
	}
	if only != nil && of.group {
		s.only(&st, only, false)
	}
	st.add(` group by 1, 2, 3`)
	return st
}

// only limits a statement to some groups.
func (s source) only(st *statement, groups []string, rows bool) {
	column, ofSums := columns(s.q.Group)
	subject := map[Dimension]string{ByTeam: "team_id", ByTemplate: "template_id", ByLearner: "user_id"}[s.q.Group]
	if subject == "" {
		if !rows { // not by the index: all sums of a period lie together there
			column = "(" + ofSums + " || '')"
		}
		st.add(` and `+column+` = any (?::text[])`, groups)
		return
	}
	if !rows {
		subject = "subject_id"
	}
	var ids []uuid.UUID
	none := ""
	for _, group := range groups {
		if id, err := uuid.Parse(group); err == nil {
			ids = append(ids, id)
		} else {
			none = " or " + subject + " is null"
		}
	}
	st.add(` and (`+subject+` = any (?::uuid[])`+none+`)`, ids)
}

// rows counts some sets from the rows of spans of time, which it reads once. The
// buckets are told apart by their boundaries and not by Postgres's own knowledge of
// the zone, which may be of another year than ours.
func (s source) rows(sets []wanted, from, to []time.Time, boundaries []time.Time, only []string) statement {
	var st statement
	group, _ := columns(s.q.Group)
	sub, _ := columns(s.q.Sub)
	grouping, told := make([]string, len(sets)), map[string]bool{}
	for i, of := range sets {
		var by []string
		for _, part := range []struct {
			name string
			has  bool
		}{{"bucket", of.bucket}, {"grp", of.group}, {"sub", of.sub}} {
			if part.has {
				by, told[part.name] = append(by, part.name), true
			}
		}
		grouping[i] = "(" + strings.Join(by, ", ") + ")"
	}
	// What is in no set cannot be asked for.
	by := func(name, otherwise string) (isTold, column string) {
		if !told[name] {
			return "false", otherwise
		}
		return "grouping(" + name + ") = 0", "coalesce(" + name + ", " + otherwise + ")"
	}
	byBucket, bucket := by("bucket", "1")
	byGroup, grp := by("grp", "''")
	bySub, subs := by("sub", "''")
	var needed []string
	lean, durations := true, false
	for _, of := range sets {
		lean, durations = lean && of.columns != nil, durations || of.durations
		needed = append(needed, of.columns...)
	}
	if !lean {
		needed = nil
	}
	sums := sumsOfRows(needed)
	if durations {
		sums += `, array_agg(duration_ms) filter (where status = 'ok' and duration_ms is not null) as durations,
		       array_agg(first_token_ms) filter (where status = 'ok' and first_token_ms is not null) as first_tokens`
	}
	st.add(`
		select ` + byBucket + ` as by_bucket, ` + byGroup + ` as by_group, ` + bySub + ` as by_sub,
		       ` + bucket + `::int as bucket, ` + grp + ` as grp, ` + subs + ` as sub` + sums + `
		from (`)
	for i := range from {
		if i > 0 {
			st.add(` union all `)
		}
		st.add(`
		  select `)
		if told["bucket"] {
			st.add(`width_bucket(created_at, ?::timestamptz[]) as bucket, `, boundaries)
		}
		st.add(group + ` as grp, ` + sub + ` as sub, run_id, status, key_source,
		    input_tokens, cached_input_tokens, cache_write_tokens, output_tokens, reasoning_tokens, cost_usd, duration_ms, first_token_ms
		  from public.prompt_attempts`)
		st.add(` where created_at >= ? and created_at < ?`, from[i], to[i])
		s.filter(&st)
		if only != nil {
			s.only(&st, only, true)
		}
	}
	st.add(`) a group by grouping sets (` + strings.Join(grouping, ", ") + `) having count(*) > 0`)
	return st
}

// sumsOfRows is like summed.
func sumsOfRows(needed []string) (columns string) {
	for _, sum := range append(strings.Split(rollup.Sums, ",\n\t"),
		"count(*) filter (where key_source = 'fallback') as fallback",
		"coalesce(sum(cost_usd) filter (where key_source = 'fallback'), 0) as fallback_cost") {
		if _, name, _ := strings.Cut(sum, " as "); needed == nil || slices.Contains(needed, name) {
			columns += ", " + sum
		}
	}
	return columns
}

// filter narrows down rows to those that pass the filters.
func (s source) filter(st *statement) {
	if s.q.Provider != "" {
		st.add(` and provider = ?`, s.q.Provider)
	}
	if s.q.Model != "" {
		st.add(` and model = ?`, s.q.Model)
	}
	if s.q.KeySource != "" {
		st.add(` and key_source = ?`, s.q.KeySource)
	}
	if s.q.TeamID != nil {
		st.add(` and team_id = ?`, *s.q.TeamID)
	}
	if s.q.TemplateID != nil {
		st.add(` and template_id = ?`, *s.q.TemplateID)
	}
	if s.learner != nil {
		st.add(` and user_id = ?`, *s.learner)
	}
	if s.q.TeamIDs != nil {
		st.add(` and team_id = any (?)`, s.q.TeamIDs)
	}
}
