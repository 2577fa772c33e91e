package provider_test

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/promptcademy/promptops/internal/audit"
	"github.com/promptcademy/promptops/internal/fault"
	"github.com/promptcademy/promptops/internal/postgres"
	"github.com/promptcademy/promptops/internal/postgres/pgtest"
	"github.com/promptcademy/promptops/internal/provider"
)

var (
	moment = time.Date(2026, 11, 24, 12, 0, 0, 0, time.UTC)
	marta  = audit.Operator(uuid.New(), "marta@example.org")
)

// newEndpoints makes an Endpoints that finds names in hosts, and no other.
func newEndpoints(t *testing.T, db postgres.DB, hosts map[string]string) (*provider.Endpoints, *provider.Registry) {
	t.Helper()
	registry := provider.NewRegistry(nil, nil)
	e := provider.NewEndpoints(db, registry, slog.New(slog.DiscardHandler))
	e.Resolve = func(_ context.Context, host string) ([]netip.Addr, error) {
		var found []netip.Addr
		for address := range strings.FieldsSeq(hosts[host]) {
			found = append(found, netip.MustParseAddr(address))
		}
		if found == nil {
			return nil, &net.DNSError{Err: "no such host", Name: host}
		}
		return found, nil
	}
	return e, registry
}

// problemOf is what is wrong with a field, "" if nothing is.
func problemOf(t *testing.T, err error, field string) string {
	t.Helper()
	var f *fault.Error
	if err != nil && !errors.As(err, &f) {
		t.Fatal(err)
	}
	if f != nil {
		for _, d := range f.Details {
			if d.Field == field {
				return d.Message
			}
		}
	}
	return ""
}

func TestEndpointAddressesAreChecked(t *testing.T) {
	t.Parallel()
	hosts := map[string]string{
		"llm.example.com": "93.184.216.34 2606:2800:220:1::1", "rebound.example.com": "93.184.216.34 10.0.0.1", "six.example.com": "fd00:ec2::254",
		"mapped.example.com": "::ffff:169.254.169.254", "localhost": "127.0.0.1 ::1",
	}
	e, registry := newEndpoints(t, pgtest.Tx(t), hosts)
	for address, want := range map[string]string{
		"https://llm.example.com/v1": "", "http://LLM.example.com:8000/v1/": "", "https://93.184.216.34/v1": "", "https://[2606:2800:220:1::1]:8443": "",
		"": "empty", "llm.example.com/v1": "http or https", "ftp://llm.example.com": "http or https", "file:///etc/passwd": "http or https", "https://": "http or https",
		"https:llm.example.com": "http or https", "javascript:alert(1)": "http or https", "gopher://127.0.0.1": "http or https",
		"https://user:pass@llm.example.com": "name or password", "https://user@llm.example.com": "name or password",
		"https://llm.example.com/v1?key=1": "without ? or #", "https://llm.example.com/v1?": "without ? or #", "https://llm.example.com/v1#x": "without ? or #", "https://llm.example.com/#": "without ? or #",
		"https://llm.example.com/../v1": "no base URL", "https://llm.example.com/v 1": "no base URL", "https://llm.example.com/\\evil": "no base URL",
		"https://llm.example.com/v1/chat/completions": "/chat/completions", "https://" + strings.Repeat("a", 300): "longer than",
		"https://nowhere.example.com": "cannot be found",
		"https://rebound.example.com": "private network", "https://six.example.com": "private network", "https://mapped.example.com": "private network", "http://localhost:11434/v1": "private network",
		"http://0.0.0.0": "private network", "http://10.1.2.3": "private network", "http://100.64.0.1": "private network", "http://127.0.0.1:5432": "private network",
		"http://169.254.169.254/latest": "private network", "http://172.31.255.255": "private network", "http://192.0.0.192": "private network", "http://192.168.1.1": "private network",
		"http://198.18.0.1": "private network", "http://224.0.0.1": "private network", "http://240.0.0.1": "private network", "http://255.255.255.255": "private network",
		"http://168.63.129.16": "private network", "http://[::]": "private network", "http://[::1]": "private network", "http://[::ffff:127.0.0.1]": "private network",
		"http://[::7f00:1]": "private network", "http://[64:ff9b::7f00:1]": "private network", "http://[fc00::1]": "private network", "http://[fe80::1%25eth0]": "private network",
		"http://[2002:7f00:1::]": "private network", "http://[ff02::1]": "private network",
		// What only some resolvers take for an address is a name that nobody has.
		"http://2130706433": "cannot be found", "http://0x7f.1": "cannot be found", "http://127.1": "cannot be found",
	} {
		err := e.Add(t.Context(), provider.NewEndpoint{ID: "x" + strings.ReplaceAll(uuid.NewString(), "-", ""), Name: "X", BaseURL: address}, marta, moment)
		if got := problemOf(t, err, "baseUrl"); (got == "") != (want == "") || !strings.Contains(got, want) {
			t.Errorf("%q: %q, want %q", address, got, want)
		}
	}
	registry.AllowPrivate(true)
	if err := e.Add(t.Context(), provider.NewEndpoint{ID: "ollama", Name: "Ollama", BaseURL: "http://localhost:11434/v1"}, marta, moment); err != nil {
		t.Errorf("where private addresses are allowed: %v", err)
	}
}

// A name that meant a public address when the endpoint was saved, and means this
// machine when it is called, leads nowhere.
func TestReboundNamesAreNotCalled(t *testing.T) {
	t.Parallel()
	var calls atomic.Int64
	target := serve(t, func(w http.ResponseWriter, _ *http.Request) {
		calls.Add(1)
		_, _ = w.Write([]byte(`{"data":[{"id":"secret-model"}]}`))
	})
	_, port, err := net.SplitHostPort(strings.TrimPrefix(target.URL, "http://"))
	if err != nil {
		t.Fatal(err)
	}
	e, registry := newEndpoints(t, pgtest.Tx(t), map[string]string{"localhost": "93.184.216.34"})
	if err := e.Add(t.Context(), provider.NewEndpoint{ID: "rebound", Name: "Rebound", BaseURL: "http://localhost:" + port + "/v1"}, marta, moment); err != nil {
		t.Fatal(err)
	}
	client, ok := registry.Client("rebound", false)
	if !ok {
		t.Fatal("it is not known at once")
	}
	_, completed := complete(t.Context(), t, client, ask("m", "Why?"), false)
	_, listed := registry.Models(t.Context(), "rebound", "sk-secret")
	for what, err := range map[string]error{"completion": completed, "check": client.Check(t.Context(), "sk-secret"), "models": listed} {
		if err == nil || !strings.Contains(err.Error(), "private network") {
			t.Errorf("%s: %v", what, err)
		}
	}
	if n := calls.Load(); n != 0 {
		t.Errorf("this machine was called %d times", n)
	}
	// A redirect from outside would have to be followed to get in, and none is.
	registry.AllowPrivate(true)
	away := serve(t, func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, target.URL, http.StatusFound) })
	if err := e.Add(t.Context(), provider.NewEndpoint{ID: "away", Name: "Away", BaseURL: away.URL}, marta, moment); err != nil {
		t.Fatal(err)
	}
	if _, err := registry.Models(t.Context(), "away", "sk-secret"); err == nil {
		t.Error("a redirect was followed")
	}
	if n := calls.Load(); n != 0 {
		t.Errorf("this machine was called %d times", n)
	}
	names, err := registry.Models(t.Context(), "rebound", "sk-secret")
	if err != nil || !slices.Equal(names, []string{"secret-model"}) {
		t.Errorf("where private addresses are allowed: %v, %v", names, err)
	}
}

func TestEndpointLife(t *testing.T) {
	t.Parallel()
	db := pgtest.Tx(t)
	e, registry := newEndpoints(t, db, map[string]string{"a.example.com": "93.184.216.34", "b.example.com": "93.184.216.34"})
	ctx := t.Context()
	add := func(id, name string) error {
		return e.Add(ctx, provider.NewEndpoint{ID: id, Name: name, BaseURL: "https://a.example.com/v1/"}, marta, moment)
	}
	if err := add(" vllm ", " vLLM <b> "); err != nil {
		t.Fatal(err)
	}
	for id, want := range map[string]string{"vllm": "taken", "openai": "built in", "Big": "small letters", "": "small letters", "a/b": "small letters", "1a": "small letters"} {
		if got := problemOf(t, add(id, "X"), "id"); !strings.Contains(got, want) {
			t.Errorf("id %q: %q, want %q", id, got, want)
		}
	}
	if got := problemOf(t, add("x", " "), "name"); got == "" {
		t.Error("a name is needed")
	}
	if spec, ok := registry.Lookup("vllm"); !ok || spec.Name != "vLLM <b>" || spec.BaseURL != "https://a.example.com/v1" {
		t.Errorf("known as %+v", spec)
	}

	change := func(name, address string, revision int) (bool, error) {
		return e.Change(ctx, provider.NewEndpoint{ID: "vllm", Name: name, BaseURL: address}, revision, marta, moment)
	}
	if changed, err := change("vLLM", "https://b.example.com/v2", 1); err != nil || !changed {
		t.Errorf("changed %v, %v", changed, err)
	}
	if changed, err := change("vLLM", "https://b.example.com/v2/", 2); err != nil || changed {
		t.Errorf("the same again: %v, %v", changed, err)
	}
	if _, err := change("Late", "https://a.example.com", 1); fault.KindOf(err) != fault.Conflict {
		t.Errorf("late: %v", err)
	}
	if _, err := change("vLLM", "https://nowhere.example.com", 2); problemOf(t, err, "baseUrl") == "" {
		t.Errorf("to nowhere: %v", err)
	}
	if spec, _ := registry.Lookup("vllm"); spec.BaseURL != "https://b.example.com/v2" {
		t.Errorf("known as %+v", spec)
	}

	learner := uuid.New()
	for _, sql := range []string{
		`insert into auth.users (id, email) values ('` + learner.String() + `', 'ada@example.org')`,
		`insert into public.user_api_keys (user_id, provider, label, ciphertext, fingerprint, last_four) values ('` + learner.String() + `', 'vllm', '', '', 'f', '')`,
		`insert into ops.fallback_keys (provider, label, ciphertext, fingerprint, last_four) values ('vllm', 'x', '', 'f', '')`,
	} {
		if _, err := db.Exec(ctx, sql); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := change("vLLM", "https://a.example.com/v2", 2); fault.KindOf(err) != fault.Conflict || !strings.Contains(err.Error(), "another host") {
		t.Errorf("a learner's key goes elsewhere: %v", err)
	}
	if changed, err := change("vLLM", "https://b.example.com/v3", 2); err != nil || !changed {
		t.Errorf("another path: %v, %v", changed, err)
	}
	for _, last := range []struct{ says, undo string }{
		{"1 fallback key is stored", `delete from ops.fallback_keys`}, {"belong to learners", `delete from public.user_api_keys`},
	} {
		if _, err := e.Remove(ctx, "vllm", marta, moment); fault.KindOf(err) != fault.Conflict || !strings.Contains(err.Error(), last.says) {
			t.Errorf("removed with keys: %v, want %q", err, last.says)
		}
		if _, err := db.Exec(ctx, last.undo); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := e.Remove(ctx, "vllm", marta, moment); err != nil {
		t.Fatal(err)
	}
	if _, err := e.Remove(ctx, "vllm", marta, moment); fault.KindOf(err) != fault.NotFound {
		t.Errorf("removed twice: %v", err)
	}
	if _, ok := registry.Lookup("vllm"); ok {
		t.Error("it is still known")
	}
	entries, err := audit.NewStore(db).List(ctx, audit.Filter{SubjectType: "provider"}, 10)
	if err != nil || len(entries) != 4 || entries[0].Action != "provider.remove" || entries[3].Action != "provider.add" {
		t.Errorf("audit: %+v, %v", entries, err)
	}
}

func TestModelsAreListed(t *testing.T) {
	t.Parallel()
	server := serve(t, func(w http.ResponseWriter, r *http.Request) {
		switch {
		case r.Method != http.MethodGet || r.URL.Path != "/v1/models":
			t.Errorf("%s %s", r.Method, r.URL)
		case r.Header.Get("Authorization") == "Bearer sk-bad":
			w.WriteHeader(http.StatusUnauthorized)
			_, _ = w.Write([]byte(`{"error":{"message":"Incorrect API key provided: sk-bad"}}`))
		case r.Header.Get("Authorization") == "":
			_, _ = w.Write([]byte(`{"models":[{"name":"llama"}]}`))
		default:
			_, _ = w.Write([]byte(`{"data":[{"id":"b"},{"id":"a"},{"id":"a"},{"id":"with space"},{"id":"x sk-good"},{"id":"xsk-good"},{}]}`))
		}
	})
	registry := provider.NewRegistry(nil, nil)
	registry.AllowPrivate(true)
	registry.SetAdded([]provider.Spec{{ID: "box", Name: "Box", BaseURL: server.URL + "/v1"}})
	for secret, want := range map[string]string{"sk-good": "a b", "": "llama"} {
		names, err := registry.Models(t.Context(), "box", secret)
		if err != nil || strings.Join(names, " ") != want {
			t.Errorf("with %q: %v, %v", secret, names, err)
		}
	}
	if _, err := registry.Models(t.Context(), "box", "sk-bad"); err == nil || strings.Contains(err.Error(), "sk-bad") {
		t.Errorf("with a bad key: %v", err)
	}
	if _, err := registry.Models(t.Context(), "nobody", ""); err == nil {
		t.Error("nobody has models")
	}
}
