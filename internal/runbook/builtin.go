package runbook

import (
	"embed"
	"slices"
)

//go:embed pages/*.md
var pages embed.FS

// order is how the built-in procedures are listed: what is asked for most first.
var order = []string{
	"missing-api-key", "rls-permission-errors", "truncated-tables", "provider-outage", "cost-spike", "slow-runs", "leaked-key",
}

// BuiltIn is the runbook that is part of the program, for the day on which the
// database does not answer.
func BuiltIn() []Procedure {
	procedures := make([]Procedure, len(order))
	for i, slug := range order {
		text, _ := pages.ReadFile("pages/" + slug + ".md") // a test reads each
		procedures[i] = Procedure{Slug: slug, Markdown: string(text), Base: HashOf(string(text))}
	}
	return procedures
}

// builtIn is one of them.
func builtIn(slug string) (Procedure, bool) {
	all := BuiltIn()
	i := slices.IndexFunc(all, func(p Procedure) bool { return p.Slug == slug })
	if i < 0 {
		return Procedure{}, false
	}
	return all[i], true
}
