package key

import (
	"fmt"
	"strings"
	"unicode"

	"github.com/google/uuid"

	"github.com/promptcademy/promptops/internal/fault"
	"github.com/promptcademy/promptops/internal/price"
)

// NewFallback is a fallback key to be added.
type NewFallback struct {
	Provider      string
	Label         string
	Secret        Secret
	Priority      int        // lowest first; 0: after the others
	Models        []string   // the provider's own names; empty: every model
	MonthlyCapUSD *price.USD // nil: no cap
	Sandbox       bool
}

// NewUser is a learner's own key to be added.
type NewUser struct {
	LearnerID uuid.UUID
	Provider  string
	Label     string
	Secret    Secret
}

const (
	defaultPriority = 100
	maxPriority     = 1_000_000
	maxLabel        = 200  // bytes
	maxSecret       = 1000 // bytes; the longest that a provider hands out has about 200
	maxModels       = 100
)

// clean trims n and fills in what was left out. Bad values are fault.Invalid.
func (n *NewFallback) clean() error {
	var p problems
	n.Provider = p.provider(n.Provider)
	n.Label = p.label(n.Label)
	if n.Label == "" {
		p.add("label", "is empty; give a name by which you will know the key")
	}
	n.Secret = p.secret(n.Secret)
	if n.Priority == 0 {
		n.Priority = defaultPriority
	}
	if n.Priority < 1 || n.Priority > maxPriority {
		p.add("priority", fmt.Sprintf("must be between 1 and %d", maxPriority))
	}
	n.Models = p.models(n.Models)
	if n.MonthlyCapUSD != nil && n.MonthlyCapUSD.Cmp(price.USD{}) < 0 {
		p.add("monthlyCapUsd", "must not be negative")
	}
	return p.err()
}

// clean trims n. Bad values are fault.Invalid.
func (n *NewUser) clean() error {
	var p problems
	n.Provider = p.provider(n.Provider)
	n.Label = p.label(n.Label)
	n.Secret = p.secret(n.Secret)
	return p.err()
}

// problems are the bad values found so far.
type problems []fault.Field

func (p *problems) add(field, message string) {
	*p = append(*p, fault.Field{Field: field, Message: message})
}

func (p problems) err() error {
	if len(p) == 0 {
		return nil
	}
	return fault.InvalidFields(p)
}

func (p *problems) provider(id string) string {
	id = strings.TrimSpace(id)
	if id == "" || strings.ContainsFunc(id, unprintable) {
		p.add("provider", "is not the id of a provider; say whose key it is")
	}
	return id
}

func (p *problems) label(label string) string {
	label = strings.TrimSpace(label)
	if len(label) > maxLabel || strings.ContainsFunc(label, unprintable) {
		p.add("label", fmt.Sprintf("must be one line of at most %d bytes", maxLabel))
	}
	return label
}

// secret trims what pasting adds around a key.
func (p *problems) secret(secret Secret) Secret {
	s := strings.TrimSpace(string(secret))
	switch {
	case s == "":
		p.add("secret", "is empty; give the key")
	case len(s) > maxSecret:
		p.add("secret", "is too long to be a key")
	// No other could be sent in a header; a masked key ("sk-…1234") has dots.
	case strings.ContainsFunc(s, func(r rune) bool { return r <= ' ' || r >= 0x7f }):
		p.add("secret", "has spaces, line breaks or signs in it that no key has; copy it again")
	}
	return Secret(s)
}

// models returns nil for an empty list: every model.
func (p *problems) models(models []string) []string {
	if len(models) > maxModels {
		p.add("models", fmt.Sprintf("may name at most %d models", maxModels))
		return nil
	}
	var trimmed []string
	for i, model := range models {
		model = strings.TrimSpace(model)
		if model == "" || strings.ContainsFunc(model, func(r rune) bool { return unicode.IsSpace(r) || unprintable(r) }) {
			p.add(fmt.Sprintf("models[%d]", i), "is not the name of a model")
		}
		trimmed = append(trimmed, model)
	}
	return trimmed
}

// unprintable also finds broken UTF-8 and NUL, which Postgres does not store.
func unprintable(r rune) bool { return r == unicode.ReplacementChar || !unicode.IsPrint(r) }
