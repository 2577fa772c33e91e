package provider

import (
	"maps"
	"net/http"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
)

// Split divides the full name of a model, "openrouter/openai/gpt-6-sol", at its
// first slash into the provider's id and the provider's own name of the model.
// ok is false if either is empty.
func Split(model string) (providerID, name string, ok bool) {
	providerID, name, _ = strings.Cut(model, "/")
	return providerID, name, providerID != "" && name != ""
}

// Registry holds a Client for every provider. It is safe for concurrent use.
type Registry struct {
	http      *http.Client
	overrides map[string]string

	mu      sync.Mutex // held while routes are made anew
	sandbox string
	added   []Spec
	guarded *http.Client // for those; nil: they may lie in private networks
	routes  atomic.Pointer[routes]
}

// routes never change once they are published.
type routes struct {
	specs   []Spec
	real    map[string]Client
	sandbox map[string]Client
}

// NewRegistry makes a registry of the Known providers that share httpClient.
// overrides are other base URLs by provider id; they go before everything else.
// Endpoints that are added later must not lie in private networks, unless
// AllowPrivate says so.
func NewRegistry(httpClient *http.Client, overrides map[string]string) *Registry {
	r := &Registry{http: httpClient, overrides: maps.Clone(overrides), guarded: newGuardedHTTPClient()}
	r.publish()
	return r
}

// UseSandbox sets the address of a sandbox server, where calls go for which
// Client is asked with sandbox. An empty one takes it back.
func (r *Registry) UseSandbox(baseURL string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.sandbox = strings.TrimRight(baseURL, "/")
	r.publish()
}

// AllowPrivate says whether added endpoints may lie in private networks.
func (r *Registry) AllowPrivate(allowed bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	switch {
	case allowed:
		r.guarded = nil
	case r.guarded == nil:
		r.guarded = newGuardedHTTPClient()
	}
	r.publish()
}

// PrivateAllowed says whether added endpoints may lie in private networks.
func (r *Registry) PrivateAllowed() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.guarded == nil
}

// SetAdded replaces the endpoints that were added to the Known providers, all
// at once. One whose id is known already, or which no model's name could
// contain, is left out.
func (r *Registry) SetAdded(specs []Spec) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.added = slices.Clone(specs)
	r.publish()
}

func (r *Registry) publish() {
	next := &routes{real: map[string]Client{}, sandbox: map[string]Client{}}
	for i, spec := range slices.Concat(Known, r.added) {
		if spec.ID == "" || strings.Contains(spec.ID, "/") || next.real[spec.ID] != nil {
			continue
		}
		trial := spec
		if r.sandbox != "" && i < len(Known) {
			trial.BaseURL = sandboxURL(r.sandbox, spec)
		}
		if override := r.overrides[spec.ID]; override != "" {
			spec.BaseURL, trial.BaseURL = override, override
		}
		transport := r.http
		if i >= len(Known) && r.guarded != nil {
			transport = r.guarded
		}
		next.specs = append(next.specs, spec)
		next.real[spec.ID] = New(spec, transport)
		next.sandbox[spec.ID] = New(trial, transport)
	}
	r.routes.Store(next)
}

// sandboxURL is where the sandbox plays a provider.
func sandboxURL(base string, spec Spec) string {
	if spec.Wire == WireOpenAI {
		return base + "/" + spec.ID + "/v1"
	}
	return base + "/" + spec.ID
}

// Client returns the client of a provider. With sandbox it speaks to the sandbox
// server if there is one, unless the provider's base URL was overridden or it is
// an added endpoint.
func (r *Registry) Client(id string, sandbox bool) (Client, bool) {
	clients := r.routes.Load().real
	if sandbox {
		clients = r.routes.Load().sandbox
	}
	c, ok := clients[id]
	return c, ok
}

// Specs lists the providers in the order in which people see them, with the base
// URLs that are in force.
func (r *Registry) Specs() []Spec { return slices.Clone(r.routes.Load().specs) }

// Lookup returns one of Specs.
func (r *Registry) Lookup(id string) (Spec, bool) {
	specs := r.routes.Load().specs
	if i := slices.IndexFunc(specs, func(s Spec) bool { return s.ID == id }); i >= 0 {
		return specs[i], true
	}
	return Spec{}, false
}
