// Package promptops is the map of the house. The binary is cmd/promptops; this
// package only turns templates into answers.
//
//	cmd/promptops   subcommands; serve.go wires everything in one straight line
//	cmd/bench       measures the run endpoint against baselines, and pages with more and more attempts
//	handlers        the route table, errors to responses, one file per page or API
//	views           what pages look like: templates, view structs, charts; pure
//	static          scripts, style and font, built from static/src and embedded
//	migrations      the schema, one numbered SQL file per step, embedded
//	internal        one noun per package: its type, its rules, its SQL
//
// In internal:
//
//	fault           the one error type that people get to see
//	config          settings from the environment, all problems reported at once
//	postgres        pool, transactions, row-level security, migrator, embedded server
//	params          the parameters of an address, and what is wrong with them
//	memo            answers that cannot change, remembered within some bytes
//	period          a choice of days, and where they begin in a zone
//	loop            what the program does again and again by itself
//	network         addresses that operators may not name: private networks and the like
//	sheet           CSV that spreadsheets and programs read alike
//	seal            the key ring that encrypts provider keys at rest
//	audit           the log of what operators do, each entry chained to the one before
//	drift           who may do what, compared with what the migrations make
//	notify          e-mail, Slack and webhook, sent from an outbox
//	account         operators: passwords, sessions, roles, one-time links
//	team            teams of learners as admins look after them: who is in, who leads
//	learner         access tokens of the people who send prompts, and their teams
//	provider        one wire adapter per file, what failures mean, a sandbox
//	price           what a token costs, and since when
//	key             learners' keys and fallback keys: which one pays
//	run             one prompt to several models: policy, record, answer
//	telemetry       metrics for Prometheus; traces, metrics and events by OTLP
//	rollup          sums of attempts kept ahead, exact at every moment
//	usage           every question the AI Usage page asks
//	forecast        what a month will have cost when it ends, pure
//	history         what is asked about past runs: one, or all that pass a filter; only reads
//	eventlog        every line of the log, kept to be searched; written behind its back
//	view            filters of pages that operators saved under a name
//	activity        what learners do, and what that costs; who was active when is counted ahead
//	runbook         procedures with versions, and the board that runs live checks
//	probe           what live checks look at, and what they make of it
//	incident        what broke: time line, impact, post-mortem, follow-ups
//	outreach        who has no key that works, what that costs, and who was told
//	demo            made-up data for a first look, or to see how pages do with very much
//	load            a load generator, for the benchmark
//	faults          tests that kill nodes and the database under load, and check the books
package promptops

import (
	"bytes"
	"context"
	"fmt"
	"net/http"

	"github.com/a-h/templ"
)

//go:generate go tool templ generate -include-version=false

// Render writes a whole page with the given status. The page is built before
// the first byte is sent: when it cannot be built, nothing has been written and
// the error is the caller's to answer.
func Render(ctx context.Context, w http.ResponseWriter, status int, page templ.Component) error {
	var body bytes.Buffer
	if err := page.Render(ctx, &body); err != nil {
		return fmt.Errorf("render page: %w", err)
	}
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(status)
	if _, err := w.Write(body.Bytes()); err != nil {
		return fmt.Errorf("write page: %w", err)
	}
	return nil
}

// RenderFragment is Render for a piece of a page that htmx swaps in. The same
// address answers with the whole page to everybody else, hence Vary.
func RenderFragment(ctx context.Context, w http.ResponseWriter, status int, fragment templ.Component) error {
	w.Header().Add("Vary", "HX-Request")
	return Render(ctx, w, status, fragment)
}
