package provider_test

import (
	"io"
	"net/http"
	"slices"
	"testing"

	"github.com/promptcademy/promptops/internal/provider"
)

func TestSplit(t *testing.T) {
	tests := []struct {
		model, id, name string
		ok              bool
	}{
		{"openai/gpt-5", "openai", "gpt-5", true},
		{"openrouter/openai/gpt-6-sol", "openrouter", "openai/gpt-6-sol", true},
		{"gpt-5", "gpt-5", "", false},
		{"/gpt-5", "", "gpt-5", false},
		{"openai/", "openai", "", false},
		{"", "", "", false},
	}
	for _, tt := range tests {
		id, name, ok := provider.Split(tt.model)
		if id != tt.id || name != tt.name || ok != tt.ok {
			t.Errorf("Split(%q) = %q, %q, %v", tt.model, id, name, ok)
		}
	}
}

// Which server is called: override before sandbox before the provider's own.
func TestRegistryRoutes(t *testing.T) {
	listen := func(name string) string {
		return serve(t, func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("X-Request-Id", name+r.URL.Path)
			_, _ = io.WriteString(w, `{"choices":[{"message":{"content":""},"finish_reason":"stop"}],"content":[],"candidates":[{"finishReason":"STOP"}]}`)
		}).URL
	}
	override, box, added := listen("override"), listen("box"), listen("added")
	r := provider.NewRegistry(nil, map[string]string{"groq": override + "/openai/v1/"})
	r.UseSandbox(box + "/")
	r.AllowPrivate(true)
	r.SetAdded([]provider.Spec{
		{ID: "ollama", Name: "Ollama", Wire: provider.WireOpenAI, BaseURL: added + "/v1"},
		{ID: "openai", Name: "Not OpenAI", BaseURL: added},
		{ID: "a/b", BaseURL: added},
		{ID: "", BaseURL: added},
	})
	tests := []struct {
		id      string
		sandbox bool
		want    string
	}{
		{"groq", false, "override/openai/v1/chat/completions"},
		{"groq", true, "override/openai/v1/chat/completions"},
		{"openai", true, "box/openai/v1/chat/completions"},
		{"deepseek", true, "box/deepseek/v1/chat/completions"},
		{"anthropic", true, "box/anthropic/v1/messages"},
		{"google", true, "box/google/v1beta/models/m:generateContent"},
		{"ollama", false, "added/v1/chat/completions"},
		{"ollama", true, "added/v1/chat/completions"},
	}
	for _, tt := range tests {
		c, ok := r.Client(tt.id, tt.sandbox)
		if !ok {
			t.Errorf("no client for %s", tt.id)
			continue
		}
		reply, failure := complete(t.Context(), t, c, ask("m", "Why?"), false)
		if failure != nil || reply.RequestID != tt.want {
			t.Errorf("%s, sandbox %v: called %q, want %q (%v)", tt.id, tt.sandbox, reply.RequestID, tt.want, failure)
		}
	}
	for _, id := range []string{"nobody", "a/b", ""} {
		if _, ok := r.Client(id, false); ok {
			t.Errorf("there is a client for %q", id)
		}
	}
}

func TestRegistryLists(t *testing.T) {
	r := provider.NewRegistry(nil, map[string]string{"xai": "http://127.0.0.1:1/v1"})
	ids := func() (ids []string) {
		for _, s := range r.Specs() {
			ids = append(ids, s.ID)
		}
		return ids
	}
	known := []string{"openai", "anthropic", "google", "mistral", "openrouter", "groq", "deepseek", "xai"}
	r.SetAdded([]provider.Spec{{ID: "vllm", BaseURL: "http://127.0.0.1:1/v1"}, {ID: "ollama"}})
	if got := ids(); !slices.Equal(got, append(slices.Clone(known), "vllm", "ollama")) {
		t.Errorf("with two added: %v", got)
	}
	if spec, ok := r.Lookup("vllm"); !ok || spec.BaseURL != "http://127.0.0.1:1/v1" {
		t.Errorf("Lookup(vllm) = %+v, %v", spec, ok)
	}
	if spec, _ := r.Lookup("xai"); spec.Name != "xAI" || spec.BaseURL != "http://127.0.0.1:1/v1" {
		t.Errorf("Lookup(xai) = %+v", spec)
	}
	if provider.Known[7].BaseURL != "https://api.x.ai/v1" {
		t.Errorf("Known was changed: %+v", provider.Known[7])
	}
	r.SetAdded(nil)
	if got := ids(); !slices.Equal(got, known) {
		t.Errorf("after taking them back: %v", got)
	}
	if _, ok := r.Lookup("vllm"); ok {
		t.Error("vllm is still there")
	}
}

func TestRegistryWhileItChanges(t *testing.T) {
	r := provider.NewRegistry(nil, nil)
	done := make(chan struct{})
	go func() {
		defer close(done)
		for range 200 {
			r.SetAdded([]provider.Spec{{ID: "ollama"}})
			r.UseSandbox("http://127.0.0.1:1")
			r.SetAdded(nil)
		}
	}()
	for {
		if _, ok := r.Client("openai", true); !ok || len(r.Specs()) < len(provider.Known) {
			t.Fatal("a known provider was away")
		}
		select {
		case <-done:
			return
		default:
		}
	}
}
