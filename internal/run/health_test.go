package run

import (
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/promptcademy/promptops/internal/key"
	"github.com/promptcademy/promptops/internal/provider"
)

// fickle plays providers whose keys turn bad, each in the provider's own words.
type fickle struct {
	*httptest.Server
	mu   sync.Mutex
	keys map[string]*temper // by secret
	rng  *rand.Rand
}

// temper is how one key is.
type temper struct {
	mood   string  // "", "dead", "broke"
	moody  float64 // how often a good key has trouble all the same
	checks int
	calls  int
	after  int       // calls since it is dead or broke
	out    time.Time // when its row was seen to say so: no run that began later may use it
	late   int       // those that did
}

// began marks a prompt with when its run began.
const began = "It is now "

func newFickle(t testing.TB) *fickle {
	t.Helper()
	f := &fickle{keys: map[string]*temper{}, rng: rand.New(rand.NewPCG(1, uint64(time.Now().UnixNano())))}
	f.Server = httptest.NewServer(f)
	t.Cleanup(func() {
		f.CloseClientConnections()
		f.Close()
	})
	return f
}

// on changes or reads one key's temper.
func (f *fickle) on(secret string, change func(*temper)) {
	f.mu.Lock()
	defer f.mu.Unlock()
	change(f.keys[secret])
}

func (f *fickle) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, _ := io.ReadAll(r.Body)
	name, _, _ := strings.Cut(strings.TrimPrefix(r.URL.Path, "/"), "/")
	a := understand(r, body)
	if a.secret == "" {
		a.wire, a.secret = "openai", strings.TrimPrefix(r.Header.Get("Authorization"), "Bearer ")
	}
	check := r.Method == http.MethodGet
	f.mu.Lock()
	k := f.keys[a.secret]
	mood, trouble, which := k.mood, f.rng.Float64() < k.moody, f.rng.IntN(6)
	if check {
		k.checks++
	} else {
		k.calls++
		if mood != "" {
			k.after++
		}
		if at := startOf(body); !k.out.IsZero() && at.After(k.out) {
			k.late++
		}
	}
	f.mu.Unlock()
	switch {
	case mood == "dead", !check && trouble && which == 0: // also a stray one
		f.refuse(w, name, a.secret)
	case mood == "broke" && !check:
		f.bill(w, name)
	case mood == "broke" && name == "deepseek":
		_, _ = io.WriteString(w, `{"is_available":false,"balance_infos":[]}`)
	case check && name == "deepseek":
		_, _ = io.WriteString(w, `{"is_available":true,"balance_infos":[]}`)
	case check:
		_, _ = io.WriteString(w, `{"data":[],"models":[]}`)
	case trouble && which == 1:
		w.Header().Set("Retry-After", "1")
		a.model = "429"
		refuse(w, a)
	case trouble && which == 2:
		a.model = "429"
		refuse(w, a)
	case trouble && which == 3:
		a.model = "503"
		refuse(w, a)
	case trouble && which == 4:
		<-r.Context().Done()
	case trouble && which == 5:
		a.model = "403"
		refuse(w, a)
	default:
		a.answer(w, greeting, "\n")
	}
}

func startOf(body []byte) time.Time {
	_, rest, _ := strings.Cut(string(body), began)
	digits, _, _ := strings.Cut(rest, "!")
	n, _ := strconv.ParseInt(digits, 10, 64)
	return time.Unix(0, n)
}

// refuse says that a key is bad, with the key in the message.
func (f *fickle) refuse(w http.ResponseWriter, name, secret string) {
	status, body := 401, `{"error":{"message":"Incorrect API key provided: %s","type":"invalid_request_error","code":"invalid_api_key"}}`
	switch name {
	case "anthropic":
		body = `{"type":"error","error":{"type":"authentication_error","message":"invalid x-api-key %s"},"request_id":"req_1"}`
	case "google":
		status, body = 400, `{"error":{"code":400,"message":"API key not valid: %s","status":"INVALID_ARGUMENT","details":[{"reason":"API_KEY_INVALID"}]}}`
	case "xai":
		status, body = 400, `{"code":"Client specified an invalid argument","error":"Incorrect API key provided: %s"}`
	case "deepseek":
		body = `{"error":{"message":"Authentication Fails, Your api key: %s is invalid","type":"authentication_error","code":"invalid_request_error"}}`
	}
	w.WriteHeader(status)
	fmt.Fprintf(w, body, secret)
}

// bill says that there is no money.
func (f *fickle) bill(w http.ResponseWriter, name string) {
	status, body := 402, `{"error":{"message":"Insufficient Balance"}}`
	switch name {
	case "openai":
		status, body = 429, `{"error":{"message":"You exceeded your current quota","type":"insufficient_quota","code":"insufficient_quota"}}`
	case "anthropic":
		status, body = 400, `{"type":"error","error":{"type":"invalid_request_error","message":"Your credit balance is too low"}}`
	}
	w.WriteHeader(status)
	_, _ = io.WriteString(w, body)
}

// secretOf makes a key of letters that no other text is made of.
func secretOf(prefix string) string {
	const letters = "ghjkqvwxyzGHJKQVWXYZ"
	b := make([]byte, 32)
	for i := range b {
		b[i] = letters[rand.IntN(len(letters))]
	}
	return prefix + string(b)
}

// Keys turn bad in every way at random while two nodes run prompts on one
// database.
func TestKeysTurnBadWhileRunsGoOn(t *testing.T) {
	w := makeWorld(t)
	f := newFickle(t)
	w.exec(`delete from ops.fallback_keys`)
	w.exec(`delete from public.user_api_keys`)
	urls := map[string]string{}
	for id, path := range map[string]string{"openai": "/openai/v1", "anthropic": "/anthropic", "google": "/google", "xai": "/xai/v1", "deepseek": "/deepseek", "groq": "/groq/v1"} {
		urls[id] = f.URL + path
	}
	w.Providers = provider.NewRegistry(provider.NewHTTPClient(), urls)
	var exhausted atomic.Int32
	health := func() *key.Health {
		h := key.NewHealth(w.Keys, key.HealthOptions{Log: w.Log, Providers: w.Providers, Now: time.Now,
			Exhausted: func(_ context.Context, _ pgx.Tx, id, _ string) error {
				if id != "groq" {
					t.Errorf("%s has keys", id)
				}
				exhausted.Add(1)
				return nil
			}})
		t.Cleanup(h.Stop)
		return h
	}

	type held struct {
		key.Key
		secret, fate string // fate: what it turns into, or "good", "disabled" (from the start), "halted" (by hand, later)
	}
	var all []held
	add := func(id, fate string, own bool) {
		secret := secretOf(map[string]string{"anthropic": "sk-ant-api03-", "google": "AQ.", "xai": "xai-", "groq": "gsk_"}[id])
		one := held{secret: secret, fate: fate}
		var err error
		if own {
			one.Key, _, err = w.Keys.AddUser(w.ctx, key.NewUser{LearnerID: w.ada, Provider: id, Label: fate, Secret: key.Secret(secret)})
		} else {
			one.Key, _, err = w.Keys.AddFallback(w.ctx, key.NewFallback{Provider: id, Label: fate, Secret: key.Secret(secret)})
		}
		w.must(err)
		f.keys[secret] = &temper{}
		f.keys[secret].moody = map[string]float64{"good": 0.05, "halted": 0.2}[fate]
		all = append(all, one)
	}
	providers := []string{"openai", "anthropic", "google", "xai", "deepseek"}
	for _, id := range providers {
		add(id, "dead", true)
		for _, fate := range []string{"good", "good", "dead", "broke", "disabled", "halted"} {
			add(id, fate, false)
		}
	}
	add("groq", "dead", false)
	w.exec(`update ops.fallback_keys set status = 'disabled', status_reason = 'by hand' where label = 'disabled'`)

	// Two nodes, each with four that run prompts and one that looks after keys.
	const workers = 4
	ctx, stop := context.WithCancel(w.ctx)
	defer stop()
	var working sync.WaitGroup
	var runs atomic.Int64
	nodes := []*world{w, w.node()}
	for _, node := range nodes {
		node.Health = health()
		working.Go(func() {
			for ctx.Err() == nil {
				if err := node.Health.RunOnce(ctx, time.Now()); err != nil && ctx.Err() == nil {
					t.Error(err)
				}
				sleep(ctx, 50*time.Millisecond)
			}
		})
		for range workers {
			working.Go(func() {
				for ctx.Err() == nil {
					call := node.call(providers[rand.IntN(5)]+"/m", "groq/m")
					call.Request.Prompt = fmt.Sprintf("%s%d!", began, time.Now().UnixNano())
					call.Request.Config.TimeoutMs = ptr(1000)
					if rand.IntN(2) == 0 {
						call.LearnerID, call.OperatorID = nil, ptr(uuid.New()) // has no keys of its own
					}
					if _, err := node.Run(ctx, call, nil); err != nil && ctx.Err() == nil {
						t.Errorf("a run failed: %v", err)
						return
					}
					runs.Add(1)
				}
			})
		}
	}
	statusOf := func(k key.Key) (status, reason string) {
		t.Helper()
		table := "ops.fallback_keys"
		if k.Source == key.User {
			table = "public.user_api_keys"
		}
		w.must(w.pool.QueryRow(w.ctx, `select status, status_reason from `+table+` where id = $1`, k.ID).Scan(&status, &reason))
		return status, reason
	}
	// One after the other they turn bad; each has to be noticed.
	ends := map[string]string{"dead": "invalid", "broke": "billing"}
	rand.Shuffle(len(all), func(i, j int) { all[i], all[j] = all[j], all[i] })
	for _, one := range all {
		if one.fate == "halted" {
			w.exec(`update ops.fallback_keys set status = 'disabled', status_reason = 'by hand' where id = $1`, one.ID)
			f.on(one.secret, func(k *temper) { k.out = time.Now() })
		}
		if ends[one.fate] == "" {
			continue
		}
		f.on(one.secret, func(k *temper) { k.mood = one.fate })
		for out := false; ; sleep(w.ctx, 2*time.Millisecond) {
			status, reason := statusOf(one.Key)
			if status != "healthy" && !out {
				out = true
				f.on(one.secret, func(k *temper) { k.out = time.Now() })
			}
			if status == ends[one.fate] {
				break
			}
			if w.ctx.Err() != nil {
				t.Fatalf("the %s key of %s that is %s stays %s (%s) after %d runs", one.Source, one.Provider, one.fate, status, reason, runs.Load())
			}
		}
	}
	for more := runs.Load() + 50; runs.Load() < more && w.ctx.Err() == nil; {
		sleep(w.ctx, 5*time.Millisecond)
	}
	stop()
	working.Wait()
	for _, node := range nodes {
		node.Health.Stop()
	}

	var events string
	w.must(w.pool.QueryRow(w.ctx, `select coalesce(string_agg(e::text, E'\n' order by id), '') from ops.key_events e`).Scan(&events))
	var rows string
	w.must(w.pool.QueryRow(w.ctx, `
		select concat((select string_agg(to_jsonb(k)::text, E'\n') from ops.fallback_keys k), (select string_agg(to_jsonb(k)::text, E'\n') from public.user_api_keys k),
		              (select string_agg(a::text, E'\n') from public.prompt_attempts a))`).Scan(&rows))
	shown := events + rows + w.logs.String()
	for _, one := range all {
		status, reason := statusOf(one.Key)
		k := f.keys[one.secret]
		name := fmt.Sprintf("the %s key of %s (%s, now %s: %s)", one.Source, one.Provider, one.fate, status, reason)
		switch one.fate {
		case "good":
			if status != "healthy" && status != "cooling" {
				t.Errorf("%s was good", name)
			}
		case "disabled":
			if status != "disabled" || reason != "by hand" || k.calls > 0 || k.checks > 0 {
				t.Errorf("%s was used: %d calls, %d checks", name, k.calls, k.checks)
			}
		case "halted":
			if status != "disabled" || reason != "by hand" || k.late > 0 {
				t.Errorf("%s was used by %d runs that began later", name, k.late)
			}
		default:
			if most := len(nodes)*workers + 1; status != ends[one.fate] || k.after > most || k.after == 0 || k.late > 0 {
				t.Errorf("%s was called %d times after it died, %d times by runs that began after its row said so", name, k.after, k.late)
			}
			// The evidence: a call of a run, then a check.
			class := map[string]string{"dead": "invalid_key", "broke": "billing"}[one.fate]
			var ofRun, confirmed, onKey bool
			w.must(w.pool.QueryRow(w.ctx, `
				select exists (select from public.prompt_runs r where r.id = e.run_id),
				       exists (select from ops.key_events p where p.key_id = e.key_id and p.kind = 'probe' and p.to_status = $2 and p.id > e.id),
				       exists (select from ops.fallback_keys f where f.id = e.key_id and f.last_error_class is not null
				               union all select from public.user_api_keys u where u.id = e.key_id and u.last_error_class is not null)
				from ops.key_events e where e.key_id = $1 and e.kind = 'attempt' and e.class = $3 order by id desc limit 1`,
				one.ID, ends[one.fate], class).Scan(&ofRun, &confirmed, &onKey))
			if !ofRun || !confirmed || !onKey {
				t.Errorf("%s has no evidence: of a run %v, confirmed %v, on the key %v", name, ofRun, confirmed, onKey)
			}
		}
		random := one.secret[len(one.secret)-32:]
		for i := 0; i+8 <= len(random); i++ {
			if at := strings.Index(shown, random[i:i+8]); at >= 0 {
				t.Fatalf("a piece of a key is shown: …%s…", shown[max(0, at-100):min(len(shown), at+100)])
			}
		}
	}
	if n := exhausted.Load(); n != 1 || strings.Count(w.logs.String(), `"fallback_keys_exhausted"`) != 1 {
		t.Errorf("told %d times that groq has no keys left", n)
	}
	t.Logf("%d runs, %d events", runs.Load(), strings.Count(events, "\n"))
}

// When the provider is down its keys rest, but are used all the same: an outage
// must not look like a missing key. A success ends it.
func TestAnOutageIsNotAMissingKey(t *testing.T) {
	w := makeWorld(t)
	for range 3 { // of three calls each
		w.run(w.call("google/500"), nil)
	}
	w.Health.Wait()
	var status, suspect string
	state := func() {
		t.Helper()
		w.must(w.pool.QueryRow(w.ctx, `select status, coalesce(suspect, '') from ops.fallback_keys where provider = 'google'`).Scan(&status, &suspect))
	}
	if state(); status != "cooling" || suspect != "provider_error" {
		t.Errorf("the key is %s, %s", status, suspect)
	}
	for _, node := range []*world{w, w.node()} {
		if r := node.run(node.call("google/500"), nil).Results[0]; r.Error == nil || r.Error.Class != provider.ClassProviderError || r.Attempts == 0 {
			t.Errorf("got %s", encoded(t, r))
		}
	}
	if e := w.run(w.call("google/good"), nil); e.Status != Success {
		t.Errorf("got %s", encoded(t, e))
	}
	w.Health.Wait()
	if state(); status != "healthy" || suspect != "" {
		t.Errorf("the key is %s, %s", status, suspect)
	}
}
