// Package account is who may use the dashboard: operators, their passwords,
// one-time sign-in links and sessions. It knows when somebody tries too often
// and logs every attempt to sign in.
package account

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"net/mail"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/google/uuid"

	"github.com/promptcademy/promptops/internal/audit"
	"github.com/promptcademy/promptops/internal/fault"
)

// Role is what an operator may see and do.
type Role string

const (
	RoleAdmin    Role = "admin"     // everything
	RoleTeamLead Role = "team_lead" // the teams that their own learner account leads, nobody else's
)

// Operator is a person who signs in to the dashboard.
type Operator struct {
	ID           uuid.UUID
	Email        string // lower case
	Name         string // may be empty
	Role         Role
	LearnerID    *uuid.UUID // set for every team lead: their account among the learners
	Timezone     string     // IANA name; empty: the configured zone
	HasPassword  bool       // false: can only sign in by a link
	DisabledAt   *time.Time // nil: may sign in
	LastSignInAt *time.Time // nil: never yet
	CreatedAt    time.Time
}

// Version changes with everything that Edit can change: a form that was made from
// another version is out of date.
func (o Operator) Version() string {
	text, _ := json.Marshal([]any{o.Name, o.Role, o.LearnerID, o.Timezone}) // always marshals
	sum := sha256.Sum256(text)
	return hex.EncodeToString(sum[:8])
}

// changes is what Edit made of o, for the audit log.
func (o Operator) changes(now Operator) map[string]any {
	changes := map[string]any{}
	if o.Name != now.Name {
		changes["name"] = audit.Change{From: o.Name, To: now.Name}
	}
	if o.Role != now.Role {
		changes["role"] = audit.Change{From: o.Role, To: now.Role}
	}
	if !sameLearner(o.LearnerID, now.LearnerID) {
		changes["learnerId"] = audit.Change{From: o.LearnerID, To: now.LearnerID}
	}
	if o.Timezone != now.Timezone {
		changes["timezone"] = audit.Change{From: o.Timezone, To: now.Timezone}
	}
	return changes
}

func sameLearner(a, b *uuid.UUID) bool {
	return a == b || a != nil && b != nil && *a == *b
}

// NewOperator is what Create needs to know.
type NewOperator struct {
	Email     string
	Name      string
	Role      Role
	LearnerID *uuid.UUID // required for a team lead
	Timezone  string
	Password  string // empty: none yet, the first sign-in is by a link
}

// check lists every unacceptable field.
func (n NewOperator) check() []fault.Field {
	var bad []fault.Field
	if normalEmail(n.Email) == "" {
		bad = append(bad, fault.Field{Field: "email", Message: "must be an e-mail address such as ada@example.org"})
	}
	if utf8.RuneCountInString(n.Name) > 100 || !isText(n.Name) {
		bad = append(bad, fault.Field{Field: "name", Message: "must be text of at most 100 characters"})
	}
	switch {
	case n.Role != RoleAdmin && n.Role != RoleTeamLead:
		bad = append(bad, fault.Field{Field: "role", Message: "must be admin or team_lead"})
	case n.Role == RoleTeamLead && n.LearnerID == nil:
		bad = append(bad, fault.Field{Field: "learnerId", Message: "is required for a team lead: it says which teams are theirs"})
	}
	if _, err := time.LoadLocation(n.Timezone); err != nil {
		bad = append(bad, fault.Field{Field: "timezone", Message: "must be a time zone such as Europe/Berlin, or empty"})
	}
	if n.Password != "" {
		bad = append(bad, checkPassword(n.Password, n.Email)...)
	}
	return bad
}

// normalEmail is the form in which addresses are stored and compared, empty
// for what is no address.
func normalEmail(s string) string {
	s = strings.ToLower(strings.TrimSpace(s))
	address, err := mail.ParseAddress(s)
	if err != nil || address.Address != s || len(s) > 254 || !isText(s) {
		return ""
	}
	return s
}

// isText says whether Postgres can store s.
func isText(s string) bool {
	return utf8.ValidString(s) && !strings.ContainsRune(s, 0)
}
