package handlers_test

import (
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"golang.org/x/net/html"

	"github.com/promptcademy/promptops/handlers"
	"github.com/promptcademy/promptops/internal/account"
	"github.com/promptcademy/promptops/internal/audit"
	"github.com/promptcademy/promptops/internal/key"
	"github.com/promptcademy/promptops/internal/price"
	"github.com/promptcademy/promptops/internal/provider"
)

const fallbackPath = "/keys/fallback"

// formAt is the form of a page that is sent to an address, as it would be sent,
// with changes "name", "value", …
func formAt(t *testing.T, page reply, action string, changes ...string) string {
	t.Helper()
	document, err := html.Parse(strings.NewReader(page.Text))
	must(t, err)
	attribute := func(node *html.Node, name string) string {
		for _, a := range node.Attr {
			if a.Key == name {
				return a.Val
			}
		}
		return ""
	}
	values, found := url.Values{}, false
	for form := range document.Descendants() {
		if form.Data != "form" || attribute(form, "action") != action {
			continue
		}
		found = true
		for node := range form.Descendants() {
			name := attribute(node, "name")
			switch {
			case name == "":
			case node.Data == "input":
				values.Set(name, attribute(node, "value"))
			case node.Data == "textarea":
				text := ""
				if node.FirstChild != nil {
					text = node.FirstChild.Data
				}
				values.Set(name, text)
			case node.Data == "select":
				for option := range node.Descendants() {
					if option.Data == "option" && (values.Get(name) == "" || strings.Contains(nodeText(option), "selected")) {
						values.Set(name, attribute(option, "value"))
					}
				}
			}
		}
	}
	if !found {
		t.Fatalf("no form goes to %s", action)
	}
	for i := 0; i < len(changes); i += 2 {
		values.Set(changes[i], changes[i+1])
	}
	return values.Encode()
}

func nodeText(node *html.Node) string {
	text := ""
	for _, a := range node.Attr {
		text += a.Key + " "
	}
	return text
}

// keep is a visitor who remembers all that was said, to look for secrets in it.
type keep struct {
	*visitor
	said *strings.Builder
}

func (k keep) get(path string) reply {
	k.t.Helper()
	r := k.visitor.get(path)
	k.said.WriteString(r.Text)
	return r
}

func (k keep) post(path, form string) reply {
	k.t.Helper()
	r := k.visitor.post(path, form)
	k.said.WriteString(r.Text + strings.Join(r.Header.Values("Set-Cookie"), "\n") + r.Header.Get("Location"))
	return r
}

// leaks looks for secrets in the log, in what was said and in what is stored.
func (s *site) leaks(t *testing.T, said string, secrets ...string) {
	t.Helper()
	for _, table := range []string{"ops.audit_log", "ops.key_events", "ops.fallback_keys", "public.user_api_keys"} {
		var stored string
		must(t, s.DB.QueryRow(t.Context(), `select coalesce(string_agg(x::text, ''), '') from `+table+` x`).Scan(&stored))
		said += stored
	}
	said += s.Events.Text()
	for _, secret := range secrets {
		if at := strings.Index(said, secret); at >= 0 {
			t.Errorf("%q came out: …%s…", secret, said[max(0, at-200):min(len(said), at+100)])
		}
	}
}

func (s *site) keyed(t *testing.T, label string) uuid.UUID {
	t.Helper()
	var id uuid.UUID
	must(t, s.DB.QueryRow(t.Context(), `select id from ops.fallback_keys where label = $1`, label).Scan(&id))
	return id
}

// refusesAll makes every provider one that takes no key.
func refusesAll(t *testing.T) func(*handlers.Server) {
	t.Helper()
	nobody := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(http.StatusUnauthorized)
		_, _ = w.Write([]byte(`{"error":{"message":"Incorrect API key provided"}}`))
	}))
	t.Cleanup(nobody.Close)
	return func(h *handlers.Server) {
		urls := map[string]string{}
		for _, spec := range provider.Known {
			urls[spec.ID] = nobody.URL
		}
		h.Providers = provider.NewRegistry(provider.NewHTTPClient(), urls)
		h.Runner.Health = key.NewHealth(h.Runner.Keys, key.HealthOptions{Log: h.Log, Providers: h.Providers, Now: h.Now})
		h.TestKey = h.Runner.Health.Test
	}
}

func TestFallbackKeysAreAdded(t *testing.T) {
	t.Parallel()
	s := newSite(t, refusesAll(t))
	admin := keep{s.as(account.RoleAdmin), &strings.Builder{}}
	const secret = "sk-proj-typed-into-the-form-5x7QZZ"
	admin.get(fallbackPath).wants(t, http.StatusOK).shows(t, "There are no fallback keys yet", `href="/keys/fallback/new"`, `aria-current="page"`)
	empty := admin.get(fallbackPath+"/new?provider=google").wants(t, http.StatusOK).shows(t, `type="password"`, `<option value="google" selected>`, `autocomplete="off"`)

	refused := admin.post(fallbackPath, formAt(t, empty, fallbackPath, "provider", "nobody", "secret", secret, "label", `"><script>`, "monthlyCapUsd", "25,00", "expires", "soon")).
		wants(t, http.StatusUnprocessableEntity).
		shows(t, "not set up here", "not an amount of dollars", "not a day", "Type the key again", `value="25,00"`, "&#34;&gt;&lt;script&gt;")
	admin.post(fallbackPath, formAt(t, empty, fallbackPath, "provider", "openai", "secret", "sk-…1234", "label", "x")).wants(t, http.StatusUnprocessableEntity).shows(t, "no key has")
	added := admin.post(fallbackPath, formAt(t, refused, fallbackPath, "provider", "openai", "secret", " "+secret+"\n", "label", "Main <b>", "monthlyCapUsd", "$25.50", "expires", "2027-01-31", "models", "gpt-5-mini")).
		wants(t, http.StatusSeeOther)
	id := s.keyed(t, "Main <b>")
	if got := added.Header.Get("Location"); got != fallbackPath+"/"+id.String() {
		t.Errorf("adding leads to %s", got)
	}
	admin.get(fallbackPath+"/"+id.String()).wants(t, http.StatusOK).shows(t, "The key is stored, sealed.", "It was not accepted", "key refused", "Main &lt;b&gt;", "…7QZZ", "of $25.50", "Added.")
	if again := admin.get(fallbackPath + "/" + id.String()); strings.Contains(again.Text, "The key is stored") {
		t.Error("it is said twice")
	}
	admin.get(fallbackPath).wants(t, http.StatusOK).shows(t, "Main &lt;b&gt;", "0 of 1 key usable", "Invalid", "Only for gpt-5-mini")

	admin.post(fallbackPath, formAt(t, empty, fallbackPath, "provider", "openai", "secret", secret, "label", "Twin")).wants(t, http.StatusConflict).
		shows(t, "This key is stored already, as &#34;Main &lt;b&gt;&#34;.", `href="/keys/fallback/`+id.String()+`"`, `value="Twin"`)
	admin.post(fallbackPath, formAt(t, empty, fallbackPath, "provider", "anthropic", "secret", "sk-ant-admin-of-the-tests", "label", "Odd")).wants(t, http.StatusSeeOther)
	admin.get(fallbackPath+"/"+s.keyed(t, "Odd").String()).shows(t, "usually look like sk-ant-api…", "This is an admin key")
	admin.get(fallbackPath+"/"+uuid.NewString()).wants(t, http.StatusNotFound)
	admin.get(fallbackPath+"/nothing").wants(t, http.StatusNotFound)
	s.leaks(t, admin.said.String(), secret, "typed-into", "sk-ant-admin-of")
}

func TestFallbackKeysAreTested(t *testing.T) {
	t.Parallel()
	s := newSite(t).withKeys("openai")
	_, _, err := s.Keys.AddFallback(t.Context(), key.NewFallback{Provider: "openai", Label: "Bad", Secret: "not-a-key-of-the-sandbox", Sandbox: true})
	must(t, err)
	admin := s.as(account.RoleAdmin)
	for label, says := range map[string]string{"openai": "The provider accepts it (", "Bad": "It was not accepted ("} {
		id := s.keyed(t, label).String()
		from := admin.post(fallbackPath+"/"+id+"/test", "from=list").wants(t, http.StatusSeeOther).Header.Get("Location")
		if from != fallbackPath+"#key-"+id {
			t.Errorf("the test leads to %s", from)
		}
		admin.get(fallbackPath).shows(t, says)
	}
	admin.post(fallbackPath+"/"+uuid.NewString()+"/test", "").wants(t, http.StatusNotFound)
}

func TestFallbackKeysAreMoved(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	for _, label := range []string{"a", "b", "c"} {
		_, err := s.Fallbacks.Add(t.Context(), key.NewKey{Provider: "openai", Secret: key.Secret("sk-" + label), Settings: key.Settings{Label: label}}, audit.CommandLine, s.Clock.Now())
		must(t, err)
	}
	admin := s.as(account.RoleAdmin)
	order := func() string {
		t.Helper()
		var labels string
		must(t, s.DB.QueryRow(t.Context(), `select string_agg(label || priority, ' ' order by priority) from ops.fallback_keys`).Scan(&labels))
		return labels
	}
	const action = fallbackPath + "/order"
	page := admin.get(fallbackPath)
	b := s.keyed(t, "b").String()
	moved := admin.post(action, formAt(t, page, action, "move", b+":up")).wants(t, http.StatusSeeOther)
	if got := moved.Header.Get("Location"); got != fallbackPath+"#key-"+b || order() != "b10 a20 c30" {
		t.Errorf("leads to %s, the order is %s", got, order())
	}
	late := admin.post(action, formAt(t, page, action, "move", b+":down")).wants(t, http.StatusConflict).shows(t, "The order was changed meanwhile")
	admin.post(action, formAt(t, late, action, "move", b+":down"), "HX-Request", "true").wants(t, http.StatusSeeOther)
	fragment := admin.get(fallbackPath, "HX-Request", "true")
	if strings.Contains(fragment.Text, "<html") || order() != "a10 b20 c30" {
		t.Errorf("the order is %s, and htmx gets\n%.200s", order(), fragment.Text)
	}
	fragment.shows(t, "The order is saved")
	ids := []string{s.keyed(t, "c").String(), s.keyed(t, "a").String(), b}
	admin.post(action, formAt(t, fragment, action, "order", strings.Join(ids, ","))).wants(t, http.StatusSeeOther)
	if got := order(); got != "c10 a20 b30" {
		t.Errorf("the order is %s", got)
	}
	admin.post(action, formAt(t, admin.get(fallbackPath), action, "order", ids[0])).wants(t, http.StatusUnprocessableEntity).shows(t, "every key")

	// Of many at once one is first.
	page = admin.get(fallbackPath)
	var all sync.WaitGroup
	var mu sync.Mutex
	statuses := map[int]int{}
	for i := range 6 {
		form := formAt(t, page, action, "move", ids[i%3]+":"+[]string{"up", "down"}[i%2])
		all.Go(func() {
			status := admin.post(action, form).StatusCode
			mu.Lock()
			defer mu.Unlock()
			statuses[status]++
		})
	}
	all.Wait()
	if statuses[http.StatusSeeOther] == 0 || statuses[http.StatusSeeOther]+statuses[http.StatusConflict] != 6 {
		t.Errorf("%v", statuses)
	}
}

func TestFallbackKeysAreChanged(t *testing.T) {
	t.Parallel()
	s := newSite(t).withKeys("openai")
	id := s.keyed(t, "openai")
	path := fallbackPath + "/" + id.String()
	marta, lena := s.as(account.RoleAdmin), keep{s.as(account.RoleAdmin), &strings.Builder{}}
	old := lena.get(path)
	marta.post(path, formAt(t, marta.get(path), path, "label", "Main", "monthlyCapUsd", "50")).wants(t, http.StatusSeeOther)
	marta.get(path).shows(t, "Saved, for every run", `value="50"`, "Changed: label from openai to Main; monthly cap from none to 50.")
	marta.post(path, formAt(t, marta.get(path), path)).wants(t, http.StatusSeeOther)
	marta.get(path).shows(t, "Nothing was changed")

	late := lena.post(path, formAt(t, old, path, "models", "gpt-5", "monthlyCapUsd", "40")).wants(t, http.StatusConflict).
		shows(t, "Nothing was saved yet", "Changed meanwhile from openai to Main.", "Changed meanwhile from nothing to 50. What you typed is still here.", "gpt-5</textarea>", `value="40"`)
	refused := lena.post(path, formAt(t, late, path, "monthlyCapUsd", "-1")).wants(t, http.StatusUnprocessableEntity).shows(t, "must not be negative")
	lena.post(path, formAt(t, refused, path, "monthlyCapUsd", "40")).wants(t, http.StatusSeeOther)
	lena.get(path).shows(t, `value="Main"`, `value="40"`, "gpt-5</textarea>")
	lena.post(path, "label=x").wants(t, http.StatusConflict)

	lena.post(path+"/disable", "reason=+").wants(t, http.StatusUnprocessableEntity).shows(t, "say why")
	lena.post(path+"/disable", "reason=Leaked+%3Cb%3E").wants(t, http.StatusSeeOther)
	lena.get(path).shows(t, "The key is disabled", "Disabled by", "Leaked &lt;b&gt;", "healthy → disabled", path+"/enable")
	lena.post(path+"/disable", "reason=again").wants(t, http.StatusConflict).shows(t, "disabled already")
	lena.get(fallbackPath).shows(t, "OpenAI has no fallback key that can be used: its only one is out of use.")
	lena.post(path+"/enable", "").wants(t, http.StatusSeeOther)
	lena.post(path+"/enable", "").wants(t, http.StatusConflict).shows(t, "is not disabled")

	const secret = "sandbox-a-new-one-of-the-tests"
	lena.post(path+"/rotate", "secret="+secret+"&overlap=soon").wants(t, http.StatusUnprocessableEntity).shows(t, "Type the key again")
	to := lena.post(path+"/rotate", "secret="+secret+"&overlap=24h").wants(t, http.StatusSeeOther).Header.Get("Location")
	lena.get(to).shows(t, "This key has taken the old one’s place. The provider accepts it", "Main", "1 of 2")
	lena.get(path).shows(t, "Retires", "Another key took its place", path+"/keep", "Its place was taken by")
	lena.post(path+"/rotate", "secret=another&overlap=24h").wants(t, http.StatusConflict).shows(t, "replaced already")
	s.Clock.Advance(25 * time.Hour)
	lena = keep{s.as(account.RoleAdmin), lena.said}
	lena.post(path+"/keep", "").wants(t, http.StatusConflict).shows(t, "has retired already")
	lena.get(fallbackPath).shows(t, "Retired", "1 of 2 keys usable")

	lena.post(path+"/delete", "confirm=main").wants(t, http.StatusUnprocessableEntity).shows(t, "not the label of this key")
	if to := lena.post(path+"/delete", "confirm=Main").wants(t, http.StatusSeeOther).Header.Get("Location"); to != fallbackPath {
		t.Errorf("deleting leads to %s", to)
	}
	lena.get(fallbackPath).shows(t, "The key is deleted")
	for _, verb := range []string{"", "/disable", "/enable", "/keep", "/delete", "/test"} {
		lena.post(path+verb, "reason=x&label=x&confirm=x").wants(t, http.StatusNotFound)
	}
	s.leaks(t, lena.said.String(), secret, "sandbox-openai-of-the-tests")
}

func TestFallbackKeysAreForAdmins(t *testing.T) {
	t.Parallel()
	s := newSite(t).withKeys("openai")
	path := fallbackPath + "/" + s.keyed(t, "openai").String()
	stored := func() (text string) {
		t.Helper()
		must(t, s.DB.QueryRow(t.Context(), `select string_agg(k::text, '') from ops.fallback_keys k`).Scan(&text))
		return text
	}
	before := stored()
	lead, admin := s.as(account.RoleTeamLead), s.as(account.RoleAdmin)
	for _, verb := range []string{"", "/disable", "/enable", "/rotate", "/keep", "/delete", "/test"} {
		if r := lead.post(path+verb, "reason=x&confirm=openai&secret=x&overlap=0").wants(t, http.StatusForbidden); strings.Contains(r.Text, "openai") {
			t.Error("a team lead is told of a key")
		}
		admin.post(path+verb, "reason=x&confirm=openai&secret=x&overlap=0", "Sec-Fetch-Site", "cross-site").wants(t, http.StatusForbidden)
	}
	if stored() != before {
		t.Error("a key was changed")
	}
	s.loseDatabase()
	admin.get(fallbackPath).wants(t, http.StatusServiceUnavailable)
	admin.post(path+"/disable", "reason=x").wants(t, http.StatusServiceUnavailable)
}

// What the page says was spent is what the runs cost, to the last digit.
func TestFallbackKeysShowWhatIsSpent(t *testing.T) {
	t.Parallel()
	s := newSite(t).withKeys("openai", "anthropic")
	ada := s.learner("ada@example.org")
	for range 3 {
		s.visitor().run(s.token(ada), `{"prompt":"Explain RAG to a chef","models":["openai/gpt-5-mini","anthropic/claude-haiku-5-5","xai/grok-4.5"]}`).wants(t, http.StatusOK)
	}
	admin := s.as(account.RoleAdmin)
	page := admin.get(fallbackPath).wants(t, http.StatusOK).shows(t, "xAI has no fallback key.", "That happened 3 times in the last seven days.", `href="/keys/fallback/new?provider=xai"`)
	for _, id := range []string{"openai", "anthropic"} {
		var usd, used price.USD
		must(t, s.DB.QueryRow(t.Context(), `select sum(cost_usd) from public.prompt_attempts where fallback_key_id = $1`, s.keyed(t, id)).Scan(&usd))
		must(t, s.DB.QueryRow(t.Context(), `select used_usd from ops.budget_counters where scope = 'key' and subject = $1`, s.keyed(t, id)).Scan(&used))
		if usd.IsZero() || !usd.Equal(used) {
			t.Fatalf("%s: %s spent, %s counted", id, usd, used)
		}
		if n := strings.Count(page.Text, "$"+usd.String()); n != 2 { // today and this month
			t.Errorf("%s: $%s is shown %d times, want 2", id, usd, n)
		}
	}
}

func TestProvidersAreAdded(t *testing.T) {
	t.Parallel()
	const path = "/settings/providers"
	s := newSite(t, func(h *handlers.Server) { h.Providers.AllowPrivate(true) })
	admin := keep{s.as(account.RoleAdmin), &strings.Builder{}}
	page := admin.get(path).wants(t, http.StatusOK).shows(t, "None yet.", "https://api.x.ai/v1", "GEMINI_BASE_URL", `href="/settings/budgets"`, "are allowed here")
	admin.post(path, formAt(t, page, path, "id", "openai", "name", "", "baseUrl", "ftp://x")).wants(t, http.StatusUnprocessableEntity).
		shows(t, "built in", "must be one line", "http or https", `value="ftp://x"`)
	admin.post(path, formAt(t, page, path, "id", "box", "name", "Box <b>", "baseUrl", s.Sandbox.URL+"/openai/v1/")).wants(t, http.StatusSeeOther)
	admin.get(path).shows(t, "The endpoint is added", "Box &lt;b&gt;", s.Sandbox.URL+"/openai/v1", "No fallback key")
	admin.get(fallbackPath+"/new").shows(t, `<option value="box">Box &lt;b&gt;</option>`)
	admin.post(path+"/box/test", "").wants(t, http.StatusOK).shows(t, "role=\"alert\"") // without a key it is refused
	admin.post(fallbackPath, "provider=box&label=Box+key&secret=sandbox-box-of-the-tests").wants(t, http.StatusSeeOther)
	admin.post(path+"/box/test", "").wants(t, http.StatusOK).shows(t, "Answered", "box/sandbox-model")

	edit := admin.get(path+"/box").wants(t, http.StatusOK).shows(t, "1 fallback key")
	admin.post(path+"/box", formAt(t, edit, path+"/box", "name", "Box")).wants(t, http.StatusSeeOther)
	admin.post(path+"/box", formAt(t, edit, path+"/box", "name", "Late")).wants(t, http.StatusConflict).shows(t, "Somebody else", `value="Late"`, "By now it is called “Box”")
	admin.post(path+"/box", formAt(t, admin.get(path+"/box"), path+"/box", "baseUrl", "x")).wants(t, http.StatusUnprocessableEntity).shows(t, "http or https")
	admin.post(path+"/box/delete", "").wants(t, http.StatusConflict).shows(t, "1 fallback key is stored for it")
	admin.post(fallbackPath+"/"+s.keyed(t, "Box key").String()+"/delete", "confirm=Box+key").wants(t, http.StatusSeeOther)
	admin.post(path+"/box/delete", "").wants(t, http.StatusSeeOther)
	admin.get(path).shows(t, "The endpoint is removed", "None yet.")
	for _, verb := range []string{"", "/test", "/delete"} {
		admin.post(path+"/box"+verb, "name=x&baseUrl=https%3A%2F%2Fexample.org&revision=1").wants(t, http.StatusNotFound)
	}
	s.leaks(t, admin.said.String(), "sandbox-box-of-the-tests")
}

func TestPrivateEndpointsAreRefused(t *testing.T) {
	t.Parallel()
	const path = "/settings/providers"
	s := newSite(t)
	admin := s.as(account.RoleAdmin)
	page := admin.get(path).shows(t, "are refused")
	for _, address := range []string{"http://127.0.0.1:5432", "http://localhost", "http://169.254.169.254/latest/meta-data", "http://[::1]/v1", "http://[::ffff:10.0.0.1]"} {
		admin.post(path, formAt(t, page, path, "id", "box", "name", "Box", "baseUrl", address)).wants(t, http.StatusUnprocessableEntity).shows(t, "leads into a private network")
	}
	// One that got in before, or by another way.
	_, err := s.DB.Exec(t.Context(), `insert into ops.providers (id, name, base_url) values ('box', 'Box', $1)`, s.Sandbox.URL+"/openai/v1")
	must(t, err)
	must(t, s.Endpoints.RunOnce(t.Context(), s.Clock.Now()))
	admin.post(path+"/box/test", "").wants(t, http.StatusOK).shows(t, "private network")
	client, _ := s.Providers.Client("box", true)
	if err := client.Check(t.Context(), "sandbox-key"); err == nil || !strings.Contains(err.Error(), string(provider.ClassNetwork)) {
		t.Errorf("it is called all the same: %v", err)
	}
}
