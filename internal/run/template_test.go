package run

import (
	"errors"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"

	"github.com/promptcademy/promptops/internal/fault"
	"github.com/promptcademy/promptops/internal/provider"
)

// template makes one; owner nil means that it is the platform's.
func (w *world) template(owner *uuid.UUID, body string, public bool) uuid.UUID {
	w.t.Helper()
	id := uuid.New()
	w.exec(`insert into public.prompt_templates (id, owner_id, title, body, is_public) values ($1, $2, 'A template', $3, $4)`, id, owner, body, public)
	return id
}

func TestWhoMayUseATemplate(t *testing.T) {
	w := makeWorld(t)
	bob, others := uuid.New(), uuid.New()
	w.exec(`insert into auth.users (id, email) values ($1, 'bob@example.org')`, bob)
	w.exec(`insert into public.teams (id, name) values ($1, 'Others')`, others)
	w.exec(`insert into public.team_members (team_id, user_id) values ($1, $2)`, others, bob)
	shared, elsewhere := w.template(&bob, "shared", false), w.template(&bob, "elsewhere", false)
	w.exec(`insert into public.team_templates (team_id, template_id) values ($1, $2), ($3, $4)`, w.team, shared, others, elsewhere)
	operator := uuid.New()
	for _, test := range []struct {
		name     string
		template uuid.UUID
		operator bool
		may      bool
	}{
		{"one's own", w.template(&w.ada, "own", false), false, true},
		{"a public one", w.template(&bob, "public", true), false, true},
		{"the platform's, public", w.template(nil, "platform", true), false, true},
		{"the platform's, not public", w.template(nil, "platform", false), false, false},
		{"shared with the team", shared, false, true},
		{"shared with another team", elsewhere, false, false},
		{"somebody else's", w.template(&bob, "private", false), false, false},
		{"none at all", uuid.New(), false, false},
		{"somebody else's, as an operator", w.template(&bob, "private", false), true, true},
		{"none at all, as an operator", uuid.New(), true, false},
	} {
		t.Run(test.name, func(t *testing.T) {
			call := w.call("google/good")
			call.Request.Prompt, call.Request.TemplateID = "", &test.template
			if test.operator {
				call.LearnerID, call.OperatorID = nil, &operator
			}
			before := w.double.calls.Load()
			e, err := w.Run(w.ctx, call, nil)
			if !test.may {
				checkInvalid(t, err, "templateId")
				if w.double.calls.Load() != before {
					t.Error("a provider was called all the same")
				}
				return
			}
			if err != nil || e.Status != Success {
				t.Fatalf("got %s, %v", encoded(t, e), err)
			}
			w.in(t).checkRows(call, e, Success)
		})
	}
}

// checkInvalid checks that an error names these fields, in this order.
func checkInvalid(t *testing.T, err error, fields string) {
	t.Helper()
	f, ok := errors.AsType[*fault.Error](err)
	if !ok || f.Kind != fault.Invalid {
		t.Fatalf("got %v, want %s to be refused", err, fields)
	}
	var got []string
	for _, detail := range f.Details {
		got = append(got, detail.Field)
	}
	if strings.Join(got, " ") != fields {
		t.Errorf("refused %s, want %s", strings.Join(got, " "), fields)
	}
}

func TestTeam(t *testing.T) {
	w := makeWorld(t)
	stranger, missing := uuid.New(), uuid.New()
	for _, team := range []uuid.UUID{stranger, uuid.Nil} {
		call := w.call("google/good")
		call.Request.TeamID = &team
		_, err := w.Run(w.ctx, call, nil)
		checkInvalid(t, err, "teamId")
		call.Request.TemplateID = &missing
		_, err = w.Run(w.ctx, call, nil)
		checkInvalid(t, err, "teamId templateId")
	}
	if n := w.double.calls.Load(); n != 0 {
		t.Errorf("%d calls were made", n)
	}
	var stored int
	w.must(w.pool.QueryRow(w.ctx, `select count(*) from public.prompt_runs`).Scan(&stored))
	if stored != 0 {
		t.Errorf("%d runs are stored", stored)
	}
	if strings.Contains(w.logs.String(), "ai_run_start") {
		t.Errorf("logged as started: %s", w.logs)
	}
}

func TestConversation(t *testing.T) {
	id := uuid.New()
	user := func(s string) provider.Message { return provider.Message{Role: provider.RoleUser, Content: s} }
	for _, test := range []struct {
		name    string
		request Request
		body    string
		want    []provider.Message
		refused string
	}{
		{"a prompt", Request{Prompt: "Hi"}, "", []provider.Message{user("Hi")}, ""},
		{"a prompt with a system", Request{Prompt: "Hi", System: "Be brief"}, "", []provider.Message{{Role: provider.RoleSystem, Content: "Be brief"}, user("Hi")}, ""},
		{"messages", Request{Messages: []provider.Message{user("a"), {Role: provider.RoleAssistant, Content: "b"}, user("c")}}, "",
			[]provider.Message{user("a"), {Role: provider.RoleAssistant, Content: "b"}, user("c")}, ""},
		{"braces mean nothing without a template", Request{Prompt: "{{name}}"}, "", []provider.Message{user("{{name}}")}, ""},
		{"a template", Request{TemplateID: &id, Variables: map[string]string{"name": "Ada", "other.thing-2": "x"}}, "Hi {{name}}, {{ other.thing-2 }}, {{name}}!",
			[]provider.Message{user("Hi Ada, x, Ada!")}, ""},
		{"a template without placeholders", Request{TemplateID: &id}, "Hi", []provider.Message{user("Hi")}, ""},
		{"what is no placeholder stays", Request{TemplateID: &id}, "{{}} {{ }} {{1}} {name} {{a b}} {{ä}} {{{", []provider.Message{user("{{}} {{ }} {{1}} {name} {{a b}} {{ä}} {{{")}, ""},
		{"a value is not looked into", Request{TemplateID: &id, Variables: map[string]string{"a": "{{b}} $1 ${0}", "b": "x"}}, "{{a}} {{b}}", []provider.Message{user("{{b}} $1 ${0} x")}, ""},
		{"an empty value", Request{TemplateID: &id, Variables: map[string]string{"a": ""}}, "x{{a}}", []provider.Message{user("x")}, ""},
		{"a prompt of one's own for a template", Request{Prompt: "Ho {{name}}", TemplateID: &id, Variables: map[string]string{"name": "Ada"}}, "Hi {{name}}", []provider.Message{user("Ho Ada")}, ""},
		{"a prompt that leaves out a placeholder", Request{Prompt: "Ho", TemplateID: &id, Variables: map[string]string{"name": "Ada"}}, "Hi {{name}}", []provider.Message{user("Ho")}, ""},
		{"placeholders in system and messages", Request{System: "{{a}}", Messages: []provider.Message{user("{{b}}")}, TemplateID: &id, Variables: map[string]string{"a": "1", "b": "2"}}, "{{a}} {{b}}",
			[]provider.Message{{Role: provider.RoleSystem, Content: "1"}, user("2")}, ""},
		{"values are missing", Request{TemplateID: &id, Variables: map[string]string{"b": "x"}}, "{{c}} {{a}} {{b}} {{a}}", nil, "variables.a variables.c"},
		{"values are too many", Request{TemplateID: &id, Variables: map[string]string{"z": "1", "y": "2"}}, "{{x}}", nil, "variables.x variables.y variables.z"},
	} {
		t.Run(test.name, func(t *testing.T) {
			before := encoded(t, test.request.Messages)
			got, err := conversation(test.request, test.body)
			if test.refused != "" {
				checkInvalid(t, err, test.refused)
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(test.want, got); diff != "" {
				t.Error(diff)
			}
			if after := encoded(t, test.request.Messages); after != before {
				t.Errorf("the request was changed: %s", after)
			}
		})
	}
}
