package outreach

import (
	"errors"
	"net/url"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"

	"github.com/promptcademy/promptops/internal/fault"
)

func upper(id string) string { return strings.ToUpper(id) }

func TestTemplates(t *testing.T) {
	l := Learner{Name: "Ann\r\nBcc: x {{email}}", Email: "ann@example.org", Teams: []string{"Red", "Blue"}, Needs: []string{"google", "openai"}, Broken: []string{"openai", "xai"}, Usable: []string{"xai"}}
	got := Template{"For {{ name }}", "{{email}} | {{teams}} | {{providers}} | {{keys_url}}"}.ForLearner(l, upper, "https://learn.example.org/keys")
	want := Template{"For Ann Bcc: x {{email}}", "ann@example.org | Red, Blue | GOOGLE and OPENAI | https://learn.example.org/keys"}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	got = Template{"", "{{name}}, {{teams}}, {{providers}}, {{keys_url}}"}.ForLearner(Learner{}, upper, "")
	if got.Text != "there, no team, a provider of your choice, Settings → API Keys" {
		t.Error(got.Text)
	}
	got = Template{"", "{{count}}:\n{{learners}}"}.ForChannel([]Learner{l, {ID: uuid.Nil, Email: "bo@example.org"}}, upper, "")
	if got.Text != "2 learners:\n• Ann Bcc: x {{email}} (Red, Blue): GOOGLE and OPENAI\n• bo@example.org" {
		t.Error(got.Text)
	}
}

func TestTemplatesAreChecked(t *testing.T) {
	for channel, standard := range defaults {
		if problems := standard.check(channel); len(problems) > 0 {
			t.Errorf("%s: %v", channel, problems)
		}
	}
	for _, tt := range []struct {
		channel string
		t       Template
		want    []string
	}{
		{Email, Template{"", ""}, []string{"subject is missing", "text is missing"}},
		{Email, Template{"a\nb", "x"}, []string{"subject holds characters that cannot be sent"}},
		{Email, Template{"a", "{{nickname}} {{nickname}} {{learners}} {{name}}"}, []string{"text has {{nickname}}, {{learners}}, which nobody knows; there are {{name}}, {{email}}, {{teams}}, {{providers}}, {{keys_url}}"}},
		{Email, Template{"a", "{{name"}, []string{"text has {{ or }} without the other; write placeholders like {{name}}"}},
		{Email, Template{"a", strings.Repeat("x", 5001)}, []string{"text is too long; shorten it"}},
		{Slack, Template{"", "{{name}}"}, []string{"text has {{name}}, which nobody knows; there are {{learners}}, {{count}}, {{keys_url}}"}},
	} {
		var got []string
		for _, p := range tt.t.check(tt.channel) {
			got = append(got, p.Field+" "+p.Message)
		}
		if diff := cmp.Diff(tt.want, got); diff != "" {
			t.Errorf("%+v: %s", tt.t, diff)
		}
	}
}

func TestSettingsAreChecked(t *testing.T) {
	good := url.Values{"nudgeDays": {"7"}, "keysUrl": {"https://x.example.org/a"}, "emailSubject": {"S"}, "emailText": {"T\r\nU"}, "slackText": {"{{count}}"}}
	s, err := ParseSettings(good)
	if err != nil || s.NudgeDays != 7 || s.Email.Text != "T\nU" {
		t.Errorf("%+v, %v", s, err)
	}
	for field, value := range map[string]string{"nudgeDays": "0", "keysUrl": "javascript:alert(1)", "emailSubject": "", "emailText": "{{x}}", "slackText": " "} {
		bad := url.Values{}
		for name, values := range good {
			bad[name] = values
		}
		bad.Set(field, value)
		_, err := ParseSettings(bad)
		if f, ok := errors.AsType[*fault.Error](err); !ok || len(f.Details) != 1 || f.Details[0].Field != field {
			t.Errorf("%s=%q: %v", field, value, err)
		}
	}
}

func TestQueries(t *testing.T) {
	team := uuid.New()
	place := Place{Active: true, Cost: must(t, "0.000000000123"), ID: uuid.New()}
	for _, query := range []string{"", "show=all", "provider=openai&show=fallback&team=" + team.String(), "after=" + place.String() + "&q=ann&teams=all"} {
		values, _ := url.ParseQuery(query)
		q, err := ParseQuery(values)
		if err != nil || q.Values().Encode() != query {
			t.Errorf("%s becomes %s, %v", query, q.Values().Encode(), err)
		}
	}
	for _, query := range []string{"show=x", "provider=openai", "team=1", "after=!", "after=YQ", "q=%00", "q=" + strings.Repeat("x", 101)} {
		values, _ := url.ParseQuery(query)
		if _, err := ParseQuery(values); fault.KindOf(err) != fault.Invalid {
			t.Errorf("%s: %v", query, err)
		}
	}
}

func TestWriteCSV(t *testing.T) {
	var file strings.Builder
	err := WriteCSV(&file, []Learner{
		{ID: uuid.Nil, Name: "=cmd|' /C calc'!A0", Email: "@x", Teams: []string{"-a", "b,c"}, Usable: []string{"+o"}, Cost: must(t, "0.7"), State: New},
		{ID: uuid.Nil, Name: "Zoë", Unpriced: 3, StateAt: &noon},
	})
	if err != nil {
		t.Fatal(err)
	}
	want := "\ufeffid,name,email,teams,state,state_since,snoozed_until,nudged_at,usable_keys,broken_keys,broken_since,active,last_run_at,needs_key_for,fallback_cost_14_days_usd,projected_30_days_usd,unpriced_attempts\r\n" +
		"00000000-0000-0000-0000-000000000000,'=cmd|' /C calc'!A0,'@x,\"'-a; b,c\",new,,,,'+o,,,false,,,0.7,1.5,0\r\n" +
		"00000000-0000-0000-0000-000000000000,Zoë,,,,2026-11-24T12:00:00Z,,,,,,false,,,,,3\r\n"
	if diff := cmp.Diff(want, file.String()); diff != "" {
		t.Error(diff)
	}
}

func TestProjected(t *testing.T) {
	for cost, want := range map[string]string{"0": "0", "0.7": "1.5", "1": "2.142857", "0.000001": "0.000002"} {
		if got := Projected(must(t, cost)).String(); got != want {
			t.Errorf("%s becomes %s, want %s", cost, got, want)
		}
	}
}
