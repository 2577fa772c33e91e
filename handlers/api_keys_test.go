package handlers_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/promptcademy/promptops/handlers"
	"github.com/promptcademy/promptops/internal/account"
	"github.com/promptcademy/promptops/internal/demo"
	"github.com/promptcademy/promptops/internal/key"
	"github.com/promptcademy/promptops/internal/provider"
	"github.com/promptcademy/promptops/internal/provider/sandbox"
)

const keysPath = "/api/keys"

// newKeySite is a site whose providers are played by a sandbox, also for keys that
// do not know of it.
func newKeySite(t testing.TB) *site {
	t.Helper()
	box, err := sandbox.Start(t.Context(), "", sandbox.NoDelay)
	must(t, err)
	return newSite(t, func(h *handlers.Server) {
		h.Providers = provider.NewRegistry(provider.NewHTTPClient(), map[string]string{
			"openai": box.URL + "/openai/v1", "anthropic": box.URL + "/anthropic", "google": box.URL + "/google", "xai": box.URL + "/xai/v1",
		})
		h.Runner.Providers = h.Providers
		h.OwnKeys = key.NewOwnKeys(h.Runner.Keys, h.Providers, h.Log)
		h.Runner.Health = key.NewHealth(h.Runner.Keys, key.HealthOptions{Log: h.Log, Providers: h.Providers, Now: h.Now})
		h.TestKey = h.Runner.Health.Test
	})
}

type keyAnswer struct {
	Key      key.OwnKey   `json:"key"`
	Keys     []key.OwnKey `json:"keys"`
	Verified bool         `json:"verified"`
	Note     string       `json:"note"`
	Warnings []string     `json:"warnings"`
	Error    *runError    `json:"error"`
}

func (r reply) key(t testing.TB) keyAnswer {
	t.Helper()
	var answer keyAnswer
	if err := json.Unmarshal([]byte(r.Text), &answer); err != nil {
		t.Fatalf("status %d, and the answer is not JSON: %v\n%.1000s", r.StatusCode, err, r.Text)
	}
	return answer
}

// keys sends a request with an access token to the address below /api/keys.
func (v *visitor) keys(token, method, below, body string, header ...string) reply {
	v.t.Helper()
	header = append([]string{"Content-Type", "application/json", "Authorization", "Bearer " + token}, header...)
	return v.send(method, keysPath+below, strings.NewReader(body), header...)
}

func (v *visitor) addKey(token, provider, label, secret string) reply {
	v.t.Helper()
	body, err := json.Marshal(map[string]string{"provider": provider, "label": label, "secret": secret})
	must(v.t, err)
	return v.keys(token, http.MethodPost, "", string(body))
}

// everything is all that the database holds, as text.
func (s *site) everything(t testing.TB) string {
	t.Helper()
	rows, err := s.DB.Query(t.Context(), `
		select format('%I.%I', schemaname, tablename)
		from pg_tables
		where schemaname in ('public', 'ops', 'auth')`)
	must(t, err)
	names, err := pgx.CollectRows(rows, pgx.RowTo[string])
	must(t, err)
	var all strings.Builder
	for _, name := range names {
		var text string
		must(t, s.DB.QueryRow(t.Context(), `select coalesce(string_agg(t::text, E'\n'), '') from `+name+` t`).Scan(&text))
		all.WriteString(text)
	}
	return all.String()
}

func TestALearnerKeepsKeys(t *testing.T) {
	t.Parallel()
	s := newKeySite(t)
	ada := s.learner("ada@example.org")
	token, v := s.token(ada), s.visitor()
	const secret = "sandbox-of-ada-0123456789abcdef"

	empty := v.keys(token, http.MethodGet, "", "").wants(t, http.StatusOK).shows(t, `"keys":[]`, `{"id":"openai","name":"OpenAI","keyShape":"sk-…"}`)
	if got := empty.Header.Get("Cache-Control"); got != "no-store" {
		t.Errorf("Cache-Control is %q", got)
	}
	added := v.addKey(token, " openai ", "Mine", secret+"\n").wants(t, http.StatusCreated).key(t)
	now := added.Key.CreatedAt
	want := keyAnswer{Verified: true, Warnings: []string{}, Key: key.OwnKey{
		ID: added.Key.ID, Provider: "openai", ProviderName: "OpenAI", Label: "Mine", LastFour: "cdef", Status: key.Healthy,
		LastVerifiedAt: &now, CreatedAt: now,
	}}
	if diff := cmp.Diff(want, added); diff != "" {
		t.Errorf("added (-want +got):\n%s", diff)
	}

	// It pays for the next run.
	run := v.run(token, `{"prompt":"Hello","models":["openai/gpt-5-mini"]}`).wants(t, http.StatusOK).run(t)
	if run.Results[0].KeySource != "user" || run.Results[0].Status != "ok" {
		t.Errorf("the run ended as %+v", run.Results[0])
	}

	again := v.addKey(token, "openai", "Twice", secret).wants(t, http.StatusConflict).key(t)
	if len(again.Error.Details) != 1 || !strings.Contains(again.Error.Details[0].Message, added.Key.ID.String()) {
		t.Errorf("the twin is not named: %+v", again.Error)
	}
	listed := v.keys(token, http.MethodGet, "", "").wants(t, http.StatusOK).key(t)
	if diff := cmp.Diff([]key.OwnKey{added.Key}, listed.Keys); diff != "" {
		t.Errorf("listed (-want +got):\n%s", diff)
	}
	tested := v.keys(token, http.MethodPost, "/"+added.Key.ID.String()+"/verify", "").wants(t, http.StatusOK).key(t)
	if !tested.Verified || tested.Note != "" || !tested.Key.LastVerifiedAt.After(now) {
		t.Errorf("tested: %+v", tested)
	}

	v.keys(token, http.MethodDelete, "/"+added.Key.ID.String(), "").wants(t, http.StatusNoContent)
	v.keys(token, http.MethodDelete, "/"+added.Key.ID.String(), "").wants(t, http.StatusNotFound)
	v.keys(token, http.MethodPost, "/"+added.Key.ID.String()+"/verify", "").wants(t, http.StatusNotFound)
	v.keys(token, http.MethodGet, "", "").wants(t, http.StatusOK).shows(t, `"keys":[]`)
	run = v.run(token, `{"prompt":"Hello","models":["openai/gpt-5-mini"]}`).wants(t, http.StatusOK).run(t)
	if run.Results[0].Error == nil || run.Results[0].Error.Class != "missing_key" {
		t.Errorf("the key is used after its end: %+v", run.Results[0])
	}
	v.addKey(token, "openai", "Again", secret).wants(t, http.StatusCreated)

	for _, event := range []string{"user_key_added", "user_key_removed"} {
		if !strings.Contains(s.Events.Text(), `"msg":"`+event+`"`) {
			t.Errorf("the log does not tell of %s", event)
		}
	}
	for where, text := range map[string]string{"log": s.Events.Text(), "database": s.everything(t)} {
		if strings.Contains(text, "0123456789abcdef") {
			t.Errorf("the key is in the %s", where)
		}
	}
}

// What a provider says decides whether a key is stored.
func TestNewKeysAreVerified(t *testing.T) {
	t.Parallel()
	s := newKeySite(t)
	v := s.visitor()
	for _, c := range []struct {
		fault    string
		stored   bool
		class    string
		notStore string // of the note
	}{
		{"401", false, "", ""},
		{"403", true, "permission", "does not let"},
		{"429", true, "rate_limited", "limits"},
		{"500", true, "provider_error", "trouble"},
		{"503", true, "overloaded", "trouble"},
		{"html", true, "", "could not be verified"},
	} {
		for _, id := range []string{"openai", "anthropic", "google", "xai"} {
			ada := s.learner(uuid.NewString() + "@example.org")
			token := s.token(ada)
			secret := "sandbox-" + strings.ReplaceAll(uuid.NewString(), "-", "") + "-fault-" + c.fault
			answer := v.addKey(token, id, "", secret)
			if strings.Contains(answer.Text, secret[:20]) {
				t.Errorf("%s %s: the answer holds the key: %s", id, c.fault, answer.Text)
			}
			list := v.keys(token, http.MethodGet, "", "").wants(t, http.StatusOK).key(t).Keys
			var due *time.Time
			if !c.stored {
				got := answer.wants(t, http.StatusUnprocessableEntity).key(t)
				if diff := cmp.Diff([]string{"secret"}, got.Error.fields()); diff != "" || len(list) != 0 {
					t.Errorf("%s %s: %d keys stored; fields %s", id, c.fault, len(list), diff)
				}
			} else {
				got := answer.wants(t, http.StatusCreated).key(t)
				if got.Verified || !strings.Contains(got.Note, c.notStore) || got.Key.Status != key.Healthy || got.Key.StatusReason == "" ||
					got.Key.LastVerifiedAt != nil || got.Key.LastError == nil || len(got.Warnings) != 1 || c.class != "" && got.Key.LastError.Class != c.class || len(list) != 1 {
					t.Errorf("%s %s: %+v, %d keys stored", id, c.fault, got, len(list))
				}
				must(t, s.DB.QueryRow(t.Context(), `select next_probe_at from public.user_api_keys where user_id = $1`, ada).Scan(&due))
				if due == nil || due.After(s.Clock.Now()) {
					t.Errorf("%s %s: to be checked again at %v", id, c.fault, due)
				}
			}
			var kind, to string
			var class *string
			must(t, s.DB.QueryRow(t.Context(), `select kind, class, to_status from ops.key_events where user_id = $1`, ada).Scan(&kind, &class, &to))
			if kind != "learner" || class == nil || *class == "cancelled" || (to == "refused") == c.stored {
				t.Errorf("%s %s: the event says %s, %v, %s", id, c.fault, kind, class, to)
			}
			if strings.Contains(s.everything(t), secret) || strings.Contains(s.Events.Text(), secret) {
				t.Errorf("%s %s: the key is written down", id, c.fault)
			}
		}
	}
}

// What a provider says of a key is told without the key, and one that cannot be
// reached or takes its time is no reason to lose what was typed.
func TestNewKeysAtStrangeProviders(t *testing.T) {
	t.Parallel()
	const secret = "gsk_J6fX0aQ2mWv8TzR4yLpN1sKd7uHb3CgE"
	echo := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.WriteHeader(http.StatusUnauthorized)
		fmt.Fprintf(w, `{"error":{"message":"Invalid API Key: %s"}}`, r.Header.Get("Authorization"))
	}))
	t.Cleanup(echo.Close)
	gone := httptest.NewServer(nil)
	gone.Close()
	s := newSite(t, func(h *handlers.Server) {
		h.Providers = provider.NewRegistry(provider.NewHTTPClient(), map[string]string{"groq": echo.URL, "mistral": gone.URL})
		h.OwnKeys = key.NewOwnKeys(h.Runner.Keys, h.Providers, h.Log)
	})
	token, v := s.token(s.learner("ada@example.org")), s.visitor()
	refused := v.addKey(token, "groq", "", secret).wants(t, http.StatusUnprocessableEntity).shows(t, "was refused by Groq", "Invalid API Key")
	stored := v.addKey(token, "mistral", "", secret).wants(t, http.StatusCreated).shows(t, `"verified":false`, "did not answer", `"class":"network"`)
	for where, text := range map[string]string{"an answer": refused.Text + stored.Text, "the database": s.everything(t), "the log": s.Events.Text()} {
		if strings.Contains(text, secret[4:12]) {
			t.Errorf("the key is in %s", where)
		}
	}
}

func TestRejectedKeyRequests(t *testing.T) {
	t.Parallel()
	s := newKeySite(t)
	token, v := s.token(s.learner("ada@example.org")), s.visitor()
	const secret = "sandbox-never-to-be-repeated"
	for _, c := range []struct {
		name, body string
		header     []string
		status     int
		fields     []string
	}{
		{"empty body", ``, nil, 400, []string{"body"}},
		{"not JSON", `secret=` + secret, nil, 400, []string{"body"}},
		{"two values", `{} {}`, nil, 400, []string{"body"}},
		{"null", `null`, nil, 400, []string{"body"}},
		{"a list", `[]`, nil, 400, []string{"body"}},
		{"wrong types", `{"provider":7,"label":[],"secret":{}}`, nil, 400, []string{"label", "provider", "secret"}},
		{"unknown fields", `{"provider":"openai","secret":"` + secret + `","Provider":"x","baseUrl":"x"}`, nil, 400, []string{"Provider", "baseUrl"}},
		{"the key as a name", `{"` + secret + `":"openai"}`, nil, 400, []string{"(a name of 28 characters)"}},
		{"invalid UTF-8", "{\"provider\":\"openai\",\"secret\":\"\xff\xfe\"}", nil, 400, []string{"secret"}},
		{"nothing", `{}`, nil, 422, []string{"provider", "secret"}},
		{"nulls", `{"provider":null,"label":null,"secret":null}`, nil, 422, []string{"provider", "secret"}},
		{"another provider", `{"provider":"nobody","secret":"` + secret + `"}`, nil, 422, []string{"provider"}},
		{"the key as provider", `{"provider":"` + secret + `","secret":"a b","label":"a\u0000b"}`, nil, 422, []string{"provider", "label", "secret"}},
		{"a masked key", `{"provider":"openai","secret":"sk-…1234"}`, nil, 422, []string{"secret"}},
		{"a long label", `{"provider":"openai","secret":"` + secret + `","label":"` + strings.Repeat("x", 201) + `"}`, nil, 422, []string{"label"}},
		{"too large", `{"provider":"openai","secret":"` + strings.Repeat("x", 1<<20) + `"}`, nil, 413, nil},
		{"a form", `provider=openai`, []string{"Content-Type", "application/x-www-form-urlencoded"}, 415, nil},
		{"no token", `{}`, []string{"Authorization", ""}, 401, nil},
		{"a token of nobody", `{}`, []string{"Authorization", "Bearer nonsense"}, 401, nil},
		{"an account that is gone", `{}`, []string{"Authorization", "Bearer " + s.token(uuid.New())}, 401, nil},
	} {
		answer := v.keys(token, http.MethodPost, "", c.body, c.header...).wants(t, c.status)
		if strings.Contains(answer.Text, "never-to-be-repeated") {
			t.Errorf("%s: the answer repeats the key: %s", c.name, answer.Text)
		}
		if diff := cmp.Diff(c.fields, answer.key(t).Error.fields()); c.fields != nil && diff != "" {
			t.Errorf("%s: fields (-want +got):\n%s", c.name, diff)
		}
	}
	v.keys(token, http.MethodPut, "", "{}").wants(t, http.StatusMethodNotAllowed)
	v.keys(token, http.MethodGet, "/"+uuid.NewString(), "").wants(t, http.StatusMethodNotAllowed)
	for _, id := range []string{"x", "%00", strings.ToUpper(uuid.NewString()), "{" + uuid.NewString() + "}"} {
		v.keys(token, http.MethodDelete, "/"+id, "").wants(t, http.StatusNotFound)
	}
	if text := s.everything(t) + s.Events.Text(); strings.Contains(text, "never-to-be-repeated") {
		t.Error("the key is written down")
	}
	var rows int
	must(t, s.DB.QueryRow(t.Context(), `select (select count(*) from public.user_api_keys) + (select count(*) from ops.key_events)`).Scan(&rows))
	if rows != 0 {
		t.Errorf("%d rows are left of what was rejected", rows)
	}
}

// A learner gets at no key of anybody else, and learns of none.
func TestKeysOfOthersAreNotThere(t *testing.T) {
	t.Parallel()
	s := newKeySite(t)
	v := s.visitor()
	ada, bob := s.token(s.learner("ada@example.org")), s.token(s.learner("bob@example.org"))
	hers := "/" + v.addKey(ada, "openai", "Hers", "sandbox-of-ada-0123456789").wants(t, http.StatusCreated).key(t).Key.ID.String()
	nobodys := "/" + uuid.NewString()
	for _, try := range []struct{ method, below string }{{http.MethodDelete, ""}, {http.MethodPost, "/verify"}} {
		theirs, none := v.keys(bob, try.method, hers+try.below, "").wants(t, http.StatusNotFound), v.keys(bob, try.method, nobodys+try.below, "").wants(t, http.StatusNotFound)
		if diff := cmp.Diff(none.key(t), theirs.key(t)); diff != "" {
			t.Errorf("%s tells hers from nobody's:\n%s", try.method, diff)
		}
	}
	v.keys(bob, http.MethodGet, "", "").wants(t, http.StatusOK).shows(t, `"keys":[]`)
	v.addKey(bob, "openai", "His", "sandbox-of-ada-0123456789").wants(t, http.StatusCreated) // nor that she has the same
	v.keys(ada, http.MethodGet, "", "").wants(t, http.StatusOK).shows(t, "Hers")

	// No operator has a way in, whatever their cookie.
	for _, role := range []account.Role{account.RoleAdmin, account.RoleTeamLead} {
		s.as(role).get(keysPath).wants(t, http.StatusUnauthorized)
	}
	_, err := s.DB.Exec(t.Context(), `update auth.users set banned_until = 'infinity' where email = 'ada@example.org'`)
	must(t, err)
	for _, try := range []struct{ method, below string }{{http.MethodGet, ""}, {http.MethodPost, ""}, {http.MethodDelete, hers}, {http.MethodPost, hers + "/verify"}} {
		v.keys(ada, try.method, try.below, `{"provider":"openai","secret":"sandbox-x"}`).wants(t, http.StatusForbidden)
	}
}

// The same key at once is stored once, and its twin is named.
func TestTheSameKeyAtOnce(t *testing.T) {
	t.Parallel()
	s := newKeySite(t)
	token := s.token(s.learner("ada@example.org"))
	statuses := s.atOnce(4, func(int, *visitor) reply { return s.visitor().addKey(token, "openai", "", "sandbox-the-same-for-all") })
	if diff := cmp.Diff(map[int]int{201: 1, 409: 3}, statuses); diff != "" {
		t.Errorf("statuses (-want +got):\n%s", diff)
	}
	if keys := s.visitor().keys(token, http.MethodGet, "", "").key(t).Keys; len(keys) != 1 {
		t.Errorf("%d keys are stored", len(keys))
	}
}

// However many requests come at once, so many keys are checked and no more.
func TestChecksOfKeysAreLimited(t *testing.T) {
	t.Parallel()
	s := newKeySite(t)
	token, v := s.token(s.learner("ada@example.org")), s.visitor()
	statuses := s.atOnce(30, func(i int, _ *visitor) reply {
		return s.visitor().addKey(token, "openai", "", fmt.Sprintf("sandbox-number-%d-of-thirty", i))
	})
	if diff := cmp.Diff(map[int]int{201: 10, 429: 20}, statuses); diff != "" {
		t.Errorf("statuses (-want +got):\n%s", diff)
	}
	limited := v.addKey(token, "openai", "", "not-a-good-one").wants(t, http.StatusTooManyRequests)
	if wait := limited.Header.Get("Retry-After"); len(wait) != 3 { // some hundred seconds
		t.Errorf("Retry-After is %q", wait)
	}
	mine := v.keys(token, http.MethodGet, "", "").key(t).Keys
	v.keys(token, http.MethodPost, "/"+mine[0].ID.String()+"/verify", "").wants(t, http.StatusTooManyRequests)
	v.addKey(s.token(s.learner("bob@example.org")), "openai", "", "sandbox-of-another-learner").wants(t, http.StatusCreated)
	for _, k := range mine { // to remove them gains nothing
		v.keys(token, http.MethodDelete, "/"+k.ID.String(), "").wants(t, http.StatusNoContent)
	}
	v.addKey(token, "openai", "", "sandbox-one-more").wants(t, http.StatusTooManyRequests)
	s.Clock.Advance(10 * time.Minute)
	v.addKey(s.token(uuid.MustParse(s.idOf("ada@example.org"))), "openai", "", "sandbox-one-more").wants(t, http.StatusCreated)
}

func (s *site) idOf(email string) (id string) {
	s.t.Helper()
	must(s.t, s.DB.QueryRow(s.t.Context(), `select id::text from auth.users where email = $1`, email).Scan(&id))
	return id
}

func TestALearnerHasAtMostTwentyKeys(t *testing.T) {
	t.Parallel()
	s := newKeySite(t)
	ada := s.learner("ada@example.org")
	for i := range key.MaxOwn - 2 {
		_, _, err := s.Keys.AddUser(t.Context(), key.NewUser{LearnerID: ada, Provider: "openai", Secret: key.Secret(fmt.Sprintf("sandbox-%d", i))})
		must(t, err)
	}
	token := s.token(ada)
	statuses := s.atOnce(6, func(i int, _ *visitor) reply {
		return s.visitor().addKey(token, "xai", "", fmt.Sprintf("sandbox-more-%d", i))
	})
	if diff := cmp.Diff(map[int]int{201: 2, 409: 4}, statuses); diff != "" {
		t.Errorf("statuses (-want +got):\n%s", diff)
	}
}

// atOnce counts the statuses of n requests that are sent at the same time.
func (s *site) atOnce(n int, send func(i int, v *visitor) reply) map[int]int {
	s.t.Helper()
	var mu sync.Mutex
	statuses := map[int]int{}
	var all sync.WaitGroup
	for i := range n {
		all.Go(func() {
			status := send(i, s.visitor()).StatusCode
			mu.Lock()
			defer mu.Unlock()
			statuses[status]++
		})
	}
	all.Wait()
	return statuses
}

// A demo learner's key opens the sandbox if it looks like one of its keys; nobody
// else's does. It goes with the demo.
func TestKeysOfDemoLearners(t *testing.T) {
	t.Parallel()
	s := newSite(t, func(h *handlers.Server) {
		h.OwnKeys = key.NewOwnKeys(h.Runner.Keys, h.Runner.Providers, h.Log)
	}).withDemo()
	ada := s.token(uuid.MustParse(s.idOf(demo.Learner)))
	v := s.visitor()
	added := v.addKey(ada, "anthropic", "Trying", "sandbox-anthropic-with-curl").wants(t, http.StatusCreated).key(t)
	if !added.Verified || len(added.Warnings) != 0 {
		t.Errorf("added: %+v", added)
	}
	run := v.run(ada, `{"prompt":"Hello","models":["anthropic/claude-haiku-5-5"]}`).wants(t, http.StatusOK).run(t)
	if run.Results[0].KeySource != "user" || run.Results[0].Status != "ok" {
		t.Errorf("the run ended as %+v", run.Results[0])
	}
	v.addKey(ada, "anthropic", "Refused", "sandbox-anthropic-fault-401").wants(t, http.StatusUnprocessableEntity)
	v.keys(ada, http.MethodPost, "/"+added.Key.ID.String()+"/verify", "").wants(t, http.StatusOK).shows(t, `"verified":true`)

	second := v.addKey(ada, "mistral", "Removed", "sandbox-mistral-with-curl").wants(t, http.StatusCreated).key(t)
	v.keys(ada, http.MethodDelete, "/"+second.Key.ID.String(), "").wants(t, http.StatusNoContent)
	var left int
	must(t, s.DB.QueryRow(t.Context(), `select count(*) from ops.demo_records where id = $1`, second.Key.ID).Scan(&left))
	if left != 0 {
		t.Error("a key that is gone is still on record as one of the demo")
	}
	_, err := s.Demo.Clear(t.Context(), s.Clock.Now())
	must(t, err)
	v.keys(ada, http.MethodGet, "", "").wants(t, http.StatusUnauthorized)
}

func TestTheFrontendMayAskForKeys(t *testing.T) {
	t.Parallel()
	s := newKeySite(t)
	for _, method := range []string{http.MethodGet, http.MethodPost, http.MethodDelete} {
		answer := s.visitor().send(http.MethodOptions, keysPath, nil, "Origin", frontend, "Access-Control-Request-Method", method,
			"Access-Control-Request-Headers", "authorization,content-type").wants(t, http.StatusNoContent)
		if !strings.Contains(answer.Header.Get("Access-Control-Allow-Methods"), method) {
			t.Errorf("%s is not allowed: %v", method, answer.Header)
		}
	}
	answer := s.visitor().keys(s.token(s.learner("ada@example.org")), http.MethodGet, "", "", "Origin", frontend).wants(t, http.StatusOK)
	if answer.Header.Get("Access-Control-Allow-Origin") != frontend || !strings.Contains(answer.Header.Get("Access-Control-Expose-Headers"), "Retry-After") {
		t.Errorf("headers %v", answer.Header)
	}
}

func TestKeysWithoutADatabase(t *testing.T) {
	t.Parallel()
	s := newKeySite(t)
	token := s.token(s.learner("ada@example.org"))
	s.loseDatabase()
	for _, try := range []struct{ method, below string }{{http.MethodGet, ""}, {http.MethodPost, ""}, {http.MethodDelete, "/" + uuid.NewString()}} {
		s.visitor().keys(token, try.method, try.below, `{"provider":"openai","secret":"sandbox-of-nobody"}`).wants(t, http.StatusServiceUnavailable)
	}
	if strings.Contains(s.Events.Text(), "sandbox-of-nobody") {
		t.Error("the key is in the log")
	}
}
