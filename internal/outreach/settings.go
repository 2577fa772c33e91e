package outreach

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/promptcademy/promptops/internal/audit"
	"github.com/promptcademy/promptops/internal/fault"
	"github.com/promptcademy/promptops/internal/postgres"
)

const (
	defaultNudgeDays = 14
	maxNudgeDays     = 365
	maxURL           = 500
)

// Settings are how nudges are written and how often one learner gets one.
type Settings struct {
	NudgeDays int    // not again within so many days
	KeysURL   string // where learners add a key; empty: described in words
	Email     Template
	Slack     Template
	ChangedAt time.Time // zero: nobody ever has
}

// Template is the one of a channel.
func (s Settings) Template(channel string) Template {
	if channel == Slack {
		return s.Slack
	}
	return s.Email
}

// Settings returns those in force.
func (s *Store) Settings(ctx context.Context) (Settings, error) {
	found, err := settings(ctx, s.db)
	return found, postgres.Fault(err)
}

func settings(ctx context.Context, db postgres.DB) (Settings, error) {
	found := Settings{NudgeDays: defaultNudgeDays, Email: defaults[Email], Slack: defaults[Slack]}
	err := db.QueryRow(ctx, `
		select nudge_days, keys_url, coalesce(email_subject, $1), coalesce(email_text, $2), coalesce(slack_text, $3), updated_at
		from ops.outreach_settings`, found.Email.Subject, found.Email.Text, found.Slack.Text).
		Scan(&found.NudgeDays, &found.KeysURL, &found.Email.Subject, &found.Email.Text, &found.Slack.Text, &found.ChangedAt)
	if errors.Is(err, pgx.ErrNoRows) {
		err = nil
	}
	return found, err
}

// ParseSettings reads the fields nudgeDays, keysUrl, emailSubject, emailText and
// slackText. Bad values come back as one fault.Invalid that names them all.
func ParseSettings(values url.Values) (Settings, error) {
	s := Settings{
		KeysURL: strings.TrimSpace(values.Get("keysUrl")),
		Email:   Template{strings.TrimSpace(values.Get("emailSubject")), lines(values.Get("emailText"))},
		Slack:   Template{"", lines(values.Get("slackText"))},
	}
	var problems []fault.Field
	days, err := strconv.Atoi(strings.TrimSpace(values.Get("nudgeDays")))
	if err != nil || days < 1 || days > maxNudgeDays {
		problems = append(problems, fault.Field{Field: "nudgeDays", Message: fmt.Sprintf("must be a whole number of days from 1 to %d", maxNudgeDays)})
	}
	s.NudgeDays = days
	if s.KeysURL != "" {
		at, err := url.Parse(s.KeysURL)
		if err != nil || at.Host == "" || at.Scheme != "https" && at.Scheme != "http" || len(s.KeysURL) > maxURL {
			problems = append(problems, fault.Field{Field: "keysUrl", Message: "must be an address like https://learn.example.org/settings/api-keys, or empty"})
		}
	}
	for _, p := range s.Email.check(Email) {
		problems = append(problems, fault.Field{Field: map[string]string{"subject": "emailSubject", "text": "emailText"}[p.Field], Message: p.Message})
	}
	for _, p := range s.Slack.check(Slack) {
		problems = append(problems, fault.Field{Field: "slackText", Message: p.Message})
	}
	if len(problems) > 0 {
		return s, fault.InvalidFields(problems)
	}
	return s, nil
}

// lines is what was typed, with the line ends that everybody understands and none
// at the end.
func lines(text string) string {
	return strings.TrimSpace(strings.ReplaceAll(text, "\r\n", "\n"))
}

// SaveSettings changes the settings that were last changed at the moment given. It
// is fault.Conflict when somebody else was first.
func (s *Store) SaveSettings(ctx context.Context, wanted Settings, changedAt time.Time, by audit.Actor, now time.Time) error {
	return postgres.Fault(postgres.InTx(ctx, s.db, func(tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, `select pg_advisory_xact_lock(hashtext('ops.outreach_settings'))`); err != nil {
			return err
		}
		old, err := settings(ctx, tx)
		if err != nil {
			return err
		}
		if !old.ChangedAt.Equal(changedAt) {
			return fault.New(fault.Conflict, "Somebody else changed these settings while this page was open. Look at them, then save again.")
		}
		_, err = tx.Exec(ctx, `
			insert into ops.outreach_settings as s (nudge_days, keys_url, email_subject, email_text, slack_text, updated_at, updated_by)
			values ($1, $2, nullif($3, $8), nullif($4, $9), nullif($5, $10), $6, $7)
			on conflict (only_row) do update set
			  nudge_days = excluded.nudge_days, keys_url = excluded.keys_url, email_subject = excluded.email_subject,
			  email_text = excluded.email_text, slack_text = excluded.slack_text,
			  updated_at = greatest(excluded.updated_at, s.updated_at + interval '1 microsecond'), updated_by = excluded.updated_by`,
			wanted.NudgeDays, wanted.KeysURL, wanted.Email.Subject, wanted.Email.Text, wanted.Slack.Text, now, by.OperatorID,
			defaults[Email].Subject, defaults[Email].Text, defaults[Slack].Text)
		if err != nil {
			return err
		}
		changes := map[string]any{}
		for field, c := range map[string]audit.Change{
			"nudgeDays": {From: old.NudgeDays, To: wanted.NudgeDays}, "keysUrl": {From: old.KeysURL, To: wanted.KeysURL},
			"emailSubject": {From: old.Email.Subject, To: wanted.Email.Subject}, "emailText": {From: old.Email.Text, To: wanted.Email.Text},
			"slackText": {From: old.Slack.Text, To: wanted.Slack.Text},
		} {
			if c.From != c.To {
				changes[field] = c
			}
		}
		return audit.Add(ctx, tx, audit.Entry{At: now, Actor: by, Action: "outreach_settings.change", SubjectType: "outreach_settings", Details: changes})
	}))
}
