package demo

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/promptcademy/promptops/internal/key"
	"github.com/promptcademy/promptops/internal/provider"
	"github.com/promptcademy/promptops/internal/seal"
)

// loader stores a world.
type loader struct {
	tx   pgx.Tx
	ring *seal.Ring
	w    *world
}

// The kinds of ops.demo_records.
const (
	kindLearner     = "learner"
	kindTeam        = "team"
	kindTemplate    = "template"
	kindLesson      = "lesson"
	kindUserKey     = "user_key" // opens the sandbox for as long as it is on record
	kindFallbackKey = "fallback_key"
)

func (l loader) load(ctx context.Context) error {
	for _, step := range []func(context.Context) error{
		l.learners, l.teams, l.templates, l.lessons, l.userKeys, l.runs, l.outreach,
	} {
		if err := step(ctx); err != nil {
			return err
		}
	}
	return nil
}

// copyRows stores rows in a table; columns are separated by spaces.
func copyRows[T any](ctx context.Context, tx pgx.Tx, table string, columns string, all []T, values func(T) []any) error {
	schema, name, _ := strings.Cut(table, ".")
	_, err := tx.CopyFrom(ctx, pgx.Identifier{schema, name}, strings.Fields(columns),
		pgx.CopyFromSlice(len(all), func(i int) ([]any, error) { return values(all[i]), nil }))
	if err != nil {
		return fmt.Errorf("%s: %w", table, err)
	}
	return nil
}

// record keeps for Clear what was made.
func (l loader) record(ctx context.Context, kind string, ids []uuid.UUID) error {
	return copyRows(ctx, l.tx, "ops.demo_records", "kind id", ids, func(id uuid.UUID) []any { return []any{kind, id} })
}

func idsOf[T any](all []T, id func(T) uuid.UUID) []uuid.UUID {
	ids := make([]uuid.UUID, len(all))
	for i, one := range all {
		ids[i] = id(one)
	}
	return ids
}

func (l loader) learners(ctx context.Context) error {
	appData := map[string]any{"provider": "email", "providers": []string{"email"}, "demo": true}
	err := copyRows(ctx, l.tx, "auth.users",
		"id aud role email raw_app_meta_data raw_user_meta_data created_at updated_at last_sign_in_at",
		l.w.learners, func(p *learner) []any {
			seen := latest(p.signedUpAt, p.lastRunAt)
			return []any{p.id, "authenticated", "authenticated", p.email, appData, map[string]any{"name": p.name}, p.signedUpAt, seen, seen}
		})
	if err != nil {
		return err
	}
	return l.record(ctx, kindLearner, idsOf(l.w.learners, func(p *learner) uuid.UUID { return p.id }))
}

func (l loader) teams(ctx context.Context) error {
	err := copyRows(ctx, l.tx, "public.teams", "id name share_prompts created_at", l.w.teams, func(t *team) []any {
		return []any{t.id, t.name, t.sharePrompts, t.createdAt}
	})
	if err != nil {
		return err
	}
	for _, t := range l.w.teams {
		err := copyRows(ctx, l.tx, "public.team_members", "team_id user_id role created_at", t.members, func(m member) []any {
			return []any{t.id, m.learner.id, m.role, m.joinedAt}
		})
		if err != nil {
			return err
		}
	}
	return l.record(ctx, kindTeam, idsOf(l.w.teams, func(t *team) uuid.UUID { return t.id }))
}

func (l loader) templates(ctx context.Context) error {
	err := copyRows(ctx, l.tx, "public.prompt_templates", "id owner_id title description body is_public created_at updated_at",
		l.w.templates, func(t *ownedTemplate) []any {
			var owner *uuid.UUID
			if t.owner != nil {
				owner = &t.owner.id
			}
			return []any{t.id, owner, t.title, t.description, t.body, t.public, t.createdAt, t.createdAt}
		})
	if err != nil {
		return err
	}
	err = copyRows(ctx, l.tx, "public.team_templates", "team_id template_id shared_by created_at", l.w.shared, func(s sharedTemplate) []any {
		return []any{s.team.id, s.template.id, s.by.id, s.at}
	})
	if err != nil {
		return err
	}
	if err := copyEvents(ctx, l.tx, l.w.events); err != nil {
		return err
	}
	return l.record(ctx, kindTemplate, idsOf(l.w.templates, func(t *ownedTemplate) uuid.UUID { return t.id }))
}

func copyEvents(ctx context.Context, tx pgx.Tx, events []templateEvent) error {
	return copyRows(ctx, tx, "public.template_events", "template_id user_id event created_at", events, func(e templateEvent) []any {
		return []any{e.template.id, e.learner.id, e.event, e.at}
	})
}

func (l loader) lessons(ctx context.Context) error {
	err := copyRows(ctx, l.tx, "public.lessons", "id slug title position created_at", l.w.lessons, func(one lesson) []any {
		return []any{one.id, one.slug, one.title, one.position, one.createdAt}
	})
	if err != nil {
		return err
	}
	err = copyRows(ctx, l.tx, "public.user_progress", "user_id lesson_id status score started_at completed_at", l.w.progress, func(p progress) []any {
		status := "started"
		if p.completedAt != nil {
			status = "completed"
		}
		return []any{p.learner.id, p.lesson.id, status, p.score, p.startedAt, p.completedAt}
	})
	if err != nil {
		return err
	}
	return l.record(ctx, kindLesson, idsOf(l.w.lessons, func(one lesson) uuid.UUID { return one.id }))
}

// userKeys stores the learners' own keys as the page that adds one would, and
// then gives them their past.
func (l loader) userKeys(ctx context.Context) error {
	keys := key.NewStore(l.tx, l.ring)
	var ids []uuid.UUID
	var past pgx.Batch
	for _, p := range l.w.learners {
		for _, k := range p.keys {
			stored, _, err := keys.AddUser(ctx, key.NewUser{LearnerID: p.id, Provider: k.provider, Label: "My " + k.provider + " key", Secret: k.secret(p)})
			if err != nil {
				return fmt.Errorf("a learner's key: %w", err)
			}
			k.id = stored.ID
			ids = append(ids, k.id)
			past.Queue(`
				update public.user_api_keys
				set created_at = $2::timestamptz, last_verified_at = $2, last_used_at = $3::timestamptz, last_error_at = $4::timestamptz,
				    updated_at = greatest($2, $3, $4), status = $5, status_at = coalesce($4, $2), last_error_class = $6, last_error_message = $7
				where id = $1`, append([]any{k.id, k.addedAt}, k.past()...)...)
		}
	}
	if err := l.tx.SendBatch(ctx, &past).Close(); err != nil {
		return fmt.Errorf("learners' keys: %w", err)
	}
	return l.record(ctx, kindUserKey, ids)
}

// fallbackKeys stores one key for each known provider and returns their ids.
func (l loader) fallbackKeys(ctx context.Context) (map[string]uuid.UUID, error) {
	keys := key.NewStore(l.tx, l.ring)
	byProvider := map[string]uuid.UUID{}
	var ids []uuid.UUID
	for _, spec := range provider.Known {
		stored, _, err := keys.AddFallback(ctx, key.NewFallback{
			Provider: spec.ID, Label: "Demo " + spec.Name, Secret: key.Secret("sandbox-" + spec.ID + "-fallback-demo"), Sandbox: true,
		})
		if err != nil {
			return nil, fmt.Errorf("fallback key of %s: %w", spec.ID, err)
		}
		byProvider[spec.ID] = stored.ID
		ids = append(ids, stored.ID)
	}
	_, err := l.tx.Exec(ctx, `
		update ops.fallback_keys
		set created_at = $2, status_at = $2, last_verified_at = $3, last_used_at = $3, last_success_at = $3
		where id = any($1)`, ids, l.w.first, l.w.now)
	if err != nil {
		return nil, err
	}
	return byProvider, l.record(ctx, kindFallbackKey, ids)
}

func (l loader) runs(ctx context.Context) error {
	fallback, err := l.fallbackKeys(ctx)
	if err != nil {
		return err
	}
	recent, _ := slices.BinarySearchFunc(l.w.runs, l.w.now.AddDate(0, 0, -contentDays), func(r run, since time.Time) int { return r.at.Compare(since) })
	return copyRuns(ctx, l.tx, l.w.runs, l.w.runs[recent:], fallback)
}

// copyRuns stores runs with their attempts, and of some of them what was said.
func copyRuns(ctx context.Context, tx pgx.Tx, runs, said []run, fallback map[string]uuid.UUID) error {
	err := copyRows(ctx, tx, "public.prompt_runs",
		`id created_at user_id team_id template_id models config stream status finished_at duration_ms total_tokens total_cost_usd unpriced`,
		runs, func(r run) []any {
			tokens, cost, unpriced := r.totals()
			return []any{r.id, r.at, r.learner.id, r.teamID(), r.templateID(), r.models(), r.config, r.stream,
				r.status, r.finishedAt(), r.durationMs, tokens, cost, unpriced}
		})
	if err != nil {
		return err
	}

	type row struct {
		run     *run
		ordinal int
		*attempt
	}
	var rows []row
	for i := range runs {
		for ordinal := range runs[i].attempts {
			rows = append(rows, row{&runs[i], ordinal, &runs[i].attempts[ordinal]})
		}
	}
	err = copyRows(ctx, tx, "public.prompt_attempts",
		`run_id ordinal created_at user_id team_id template_id provider model status key_source user_key_id fallback_key_id tries
		 input_tokens cached_input_tokens cache_write_tokens output_tokens reasoning_tokens usage_source
		 cost_usd cost_source price_id finish_reason error_class error_message http_status retry_after_ms duration_ms first_token_ms`,
		rows, func(a row) []any {
			values := []any{a.run.id, a.ordinal, a.run.at, a.run.learner.id, a.run.teamID(), a.run.templateID(), a.model.provider, a.model.id(), a.status}
			if a.userKey != nil {
				values = append(values, key.User, a.userKey.id, nil, a.tries)
			} else {
				values = append(values, key.Fallback, nil, fallback[a.model.provider], a.tries)
			}
			if u := a.usage; u != nil {
				values = append(values, u.Input, u.CachedInput, u.CacheWrite, u.Output, u.Reasoning, a.usageSource)
			} else {
				values = append(values, nil, nil, nil, nil, nil, nil)
			}
			values = append(values, a.cost, orNull(a.costSource), a.priceID, orNull(a.finishReason))
			if f := a.failure; f != nil {
				values = append(values, f.class, f.message, orNull(f.httpStatus), orNull(f.retryAfter))
			} else {
				values = append(values, nil, nil, nil, nil)
			}
			return append(values, a.durationMs, orNull(a.firstTokenMs))
		})
	if err != nil {
		return err
	}

	return copyRows(ctx, tx, "public.prompt_contents", "run_id created_at user_id team_id messages outputs", said, func(r run) []any {
		outputs := map[string]string{}
		for _, a := range r.attempts {
			if a.status == "ok" {
				outputs[a.model.id()] = r.answer
			}
		}
		return []any{r.id, r.at, r.learner.id, r.teamID(), []provider.Message{{Role: provider.RoleUser, Content: r.prompt}}, outputs}
	})
}

func (r run) teamID() *uuid.UUID {
	if r.team == nil {
		return nil
	}
	return &r.team.id
}

func (r run) templateID() *uuid.UUID {
	if r.template == nil {
		return nil
	}
	return &r.template.id
}

// secret is a key that the sandbox takes, or refuses in the way in which this
// one failed.
func (k *userKey) secret(owner *learner) key.Secret {
	fault := ""
	if k.failed {
		fault = fmt.Sprint("-fault-", k.failure.httpStatus)
	}
	return key.Secret(fmt.Sprintf("sandbox-%s-%s%s", k.provider, owner.id, fault))
}

// past are last use, last error, status, error class and message.
func (k *userKey) past() []any {
	values := []any{orNull(k.usedAt)}
	switch {
	case !k.failed:
		return append(values, nil, key.Healthy, nil, nil)
	case k.failure.class == provider.ClassBilling:
		return append(values, k.failsAt, key.Billing, k.failure.class, k.failure.message)
	default:
		return append(values, k.failsAt, key.Invalid, k.failure.class, k.failure.message)
	}
}

func orNull[T comparable](v T) any {
	var zero T
	if v == zero {
		return nil
	}
	return v
}
