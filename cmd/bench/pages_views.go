package main

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5"

	"github.com/promptcademy/promptops/handlers"
)

// view is a page as it is measured.
type view struct {
	path    string // of the table of routes
	note    string // what is asked for, where there are several
	address string
	lead    bool
}

func (v view) name() string {
	name := v.path
	if v.note != "" {
		name += ", " + v.note
	}
	if v.lead {
		name += " (lead)"
	}
	return name
}

// question is what a page is asked for.
type question struct {
	note  string
	query string // {names} are facts
	admin bool   // not for leads, who see something else or nothing
}

// always is asked of pages that show nothing by themselves.
var always = map[string]string{
	"/runbook/:slug/diff":        "?from=0&to=0",
	"/settings/prices/model":     "?name=openai/gpt-5-mini",
	"/settings/prices/recompute": "?name=openai/gpt-5-mini",
}

// questions are asked beside what a page shows by itself, where its work depends on
// them.
var questions = map[string][]question{
	"/usage": {
		{"today", "?range=today", false},
		{"half a year", "?range=180d", false},
		{"half a year, a provider", "?range=180d&provider=anthropic", false},
		{"half a year, a model on own keys", "?range=180d&model=openai/gpt-5-mini&key=user", false},
		{"half a year, a team", "?range=180d&team={team}", true},
		{"an old month", "?from={old-from}&to={old-to}", false},
		{"half a year, compared", "?range=180d&compare=previous", false},
		{"half a year by team", "?range=180d&group=team", true},
		{"half a year by team and model", "?range=180d&group=team&sub=model", true},
		{"half a year by learner", "?range=180d&group=learner", true},
		{"two weeks by hour", "?from={two-weeks-ago}&bucket=hour", false},
	},
	"/runs": {
		{"half a year", "?range=180d", false},
		{"half a year, further back", "?range=180d&before={run}", true},
		{"a learner, a class, a least cost", "?range=180d&learner={learner-email}&class=timeout&cost=0.01", true},
		{"a learner, nothing is that dear", "?range=180d&learner={learner-email}&cost=1000", true},
		{"nothing is that dear", "?range=180d&cost=1000", false},
		{"a class that never was", "?range=180d&class=not_found", false},
		{"a class, nothing is that dear", "?range=180d&class=rate_limited&cost=1000", false},
		{"a model that never was", "?range=180d&model=openai/nothing", false},
		{"a model before it came out", "?from={old-from}&to={old-to}&model=openai/gpt-6.1-terra", false},
		{"an unknown request", "?range=180d&request=nobody-sent-this", false},
		{"interrupted", "?range=180d&status=interrupted", false},
		{"a rare template", "?range=180d&template={template}", false},
		{"a team, nothing takes that long", "?range=180d&team={team}&seconds=100000", true},
		{"a rare provider on own keys", "?range=180d&provider=xai&key=user", false},
	},
	"/logs": {
		{"a word", "?range=30d&q=timeout", true},
	},
	"/activity": {
		{"half a year", "?range=180d", false},
		{"half a year, a team", "?range=180d&team={team}", true},
	},
	"/keys/health": {
		{"everybody", "?show=all", false},
		{"a name", "?show=all&q=rosa", false},
		{"a team", "?team={team}", true},
		{"all teams", "?teams=all", true},
	},
}

// subjects are the facts that stand for a page's parameter.
var subjects = map[string]string{
	"/keys/fallback/:id":        "fallback-key",
	"/keys/health/learners/:id": "learner",
	"/incidents/:id":            "incident",
	"/runs/:id":                 "run",
	"/learners/:id":             "learner",
	"/runbook/:slug":            "procedure",
	"/runbook/:slug/edit":       "procedure",
	"/runbook/:slug/history":    "procedure",
	"/runbook/:slug/diff":       "procedure",
	"/settings/operators/:id":   "operator",
	"/settings/teams/:id":       "team",
	"/settings/providers/:id":   "endpoint",
	"/settings/prices/jobs/:id": "price-job",
}

// viewsOf are all pages whose address contains one of only, separated by commas. One that has to be told what it
// is about, and is not, is an error: nobody can forget it here.
func viewsOf(pages []handlers.Page, facts map[string]string, only string) (all []view, err error) {
	for _, page := range pages {
		for _, asked := range slices.Concat([]question{{query: always[page.Path]}}, questions[page.Path]) {
			for _, lead := range []bool{false, true} {
				if lead && (!page.Leads || asked.admin) {
					continue
				}
				v := view{path: page.Path, note: asked.note, lead: lead}
				if v.address, err = addressOf(page.Path, asked.query, lead, facts); err != nil {
					return nil, err
				}
				if slices.ContainsFunc(strings.Split(only, ","), func(part string) bool { return strings.Contains(v.address, part) }) {
					all = append(all, v)
				}
			}
		}
	}
	return all, nil
}

// addressOf puts facts in the place of a path's parameters and of the {names} in a
// query; for leads those that begin with "lead-", where there are such.
func addressOf(path, query string, lead bool, facts map[string]string) (string, error) {
	find := func(name string) string {
		if own := facts["lead-"+name]; lead && own != "" {
			return own
		}
		return facts[name]
	}
	parts := strings.Split(path, "/")
	for i, part := range parts {
		switch {
		case part == "*" || strings.HasPrefix(part, ":") && find(subjects[path]) == "":
			return "", fmt.Errorf("the page %s has to be told what it is about: add it to subjects in cmd/bench/pages_views.go", path)
		case strings.HasPrefix(part, ":"):
			parts[i] = find(subjects[path])
		}
	}
	for name := range facts {
		query = strings.ReplaceAll(query, "{"+name+"}", find(name))
	}
	if strings.ContainsAny(query, "{}") {
		return "", fmt.Errorf("%s%s asks for what is not known: add it to readFacts in cmd/bench/pages_views.go", path, query)
	}
	return strings.Join(parts, "/") + query, nil
}

// readFacts looks up, or makes, what addresses are made of: of most things the one
// with which there is most to do.
func readFacts(ctx context.Context, conn *pgx.Conn) (map[string]string, error) {
	const busiest = `
		select user_id from public.prompt_runs
		where created_at > now() - interval '30 days' and user_id in (select id from ops.demo_records where kind = 'learner')
		group by user_id order by count(*) desc, user_id limit 1`
	const largest = `select team_id from public.team_members group by team_id order by count(*) desc, team_id limit 1`
	const its = `from public.team_members where team_id = (` + largest + `)`
	facts := map[string]string{}
	for name, sql := range map[string]string{
		"learner":       `select (` + busiest + `)::text`,
		"learner-email": `select email from auth.users where id = (` + busiest + `)`,
		"team":          `select (` + largest + `)::text`,
		"run":           `select id::text from public.prompt_runs where created_at < now() - interval '90 days' order by created_at desc limit 1`,
		"template":      `select id::text from public.prompt_templates where not is_public order by created_at, id limit 1`,
		"fallback-key":  `select id::text from ops.fallback_keys where provider = 'openai' and label like 'Demo %' limit 1`,
		"procedure":     `select 'missing-api-key'`,
		"old-from":      `select (current_date - 120)::text`,
		"old-to":        `select (current_date - 91)::text`,
		"two-weeks-ago": `select (current_date - 13)::text`,
		"price-job": `
			insert into ops.price_jobs (provider, model, from_at, to_at, status, actor, created_at, finished_at)
			values ('openai', 'gpt-5-mini', '-infinity', now(), 'done', 'bench', now(), now()) returning id::text`,
		"operator": `insert into ops.operators (email, name, role) values ('somebody@bench.test', 'Somebody', 'admin') returning id::text`,
		"endpoint": `
			insert into ops.providers (id, name, base_url) values ('bench', 'Bench', 'https://bench.example.com/v1')
			on conflict (id) do update set name = excluded.name returning id`,
		"incident": `
			insert into ops.incidents (title, severity, detected_at, created_at)
			select 'Bench', 2, now() - interval '1 hour', now() returning id::text`,
		"lead-email":   `select email from auth.users where id = (select user_id ` + its + ` and role = 'lead' limit 1)`,
		"lead-learner": `select user_id::text ` + its + ` order by role desc, user_id limit 1`,
		"lead-run":     `select id::text from public.prompt_runs where team_id = (` + largest + `) order by created_at desc limit 1`,
	} {
		var value string
		if err := conn.QueryRow(ctx, sql).Scan(&value); err != nil {
			return nil, fmt.Errorf("find a %s: %w", name, err)
		}
		facts[name] = value
	}
	return facts, nil
}
