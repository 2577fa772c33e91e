package provider

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"time"
	"unicode"

	"github.com/jackc/pgx/v5"

	"github.com/promptcademy/promptops/internal/audit"
	"github.com/promptcademy/promptops/internal/fault"
	"github.com/promptcademy/promptops/internal/network"
	"github.com/promptcademy/promptops/internal/postgres"
)

// Endpoint is an OpenAI-compatible server that an admin added: its models are
// called id/model, as those of the Known providers are.
type Endpoint struct {
	ID           string
	Name         string
	BaseURL      string
	Revision     int // grows with every change
	CreatedAt    time.Time
	FallbackKeys int // keys that are stored for it
	UserKeys     int // of learners
}

// Variable is the environment variable that sets another base URL for a Known
// provider; "" for an added endpoint.
func Variable(id string) string {
	switch {
	case !slices.ContainsFunc(Known, func(s Spec) bool { return s.ID == id }):
		return ""
	case id == "google":
		return "GEMINI_BASE_URL"
	default:
		return strings.ToUpper(id) + "_BASE_URL"
	}
}

const (
	maxEndpointName = 60  // bytes
	maxEndpointURL  = 300 // bytes
	maxEndpoints    = 100

	resolvePatience = 5 * time.Second
)

var endpointID = regexp.MustCompile(`^[a-z][a-z0-9-]{0,39}$`)

// NewEndpoint is an endpoint as it was typed.
type NewEndpoint struct {
	ID      string
	Name    string
	BaseURL string // as OpenAI's own clients expect it, up to and with the version path
}

const endpointColumns = `p.id, p.name, p.base_url, p.revision, p.created_at,
	(select count(*) from ops.fallback_keys k where k.provider = p.id) as fallback_keys,
	(select count(*) from public.user_api_keys k where k.provider = p.id) as user_keys`

// List returns the added endpoints by name.
func (e *Endpoints) List(ctx context.Context) ([]Endpoint, error) {
	rows, err := e.db.Query(ctx, `select `+endpointColumns+` from ops.providers p order by p.name, p.id`)
	if err != nil {
		return nil, postgres.Fault(fmt.Errorf("list endpoints: %w", err))
	}
	found, err := pgx.CollectRows(rows, pgx.RowToStructByName[Endpoint])
	return found, postgres.Fault(err)
}

// Get returns an added endpoint; fault.NotFound if there is none of that id.
func (e *Endpoints) Get(ctx context.Context, id string) (Endpoint, error) {
	return e.get(ctx, e.db, id, "")
}

func (e *Endpoints) get(ctx context.Context, db postgres.DB, id, lock string) (Endpoint, error) {
	rows, err := db.Query(ctx, `select `+endpointColumns+` from ops.providers p where p.id = $1`+lock, id)
	if err != nil {
		return Endpoint{}, postgres.Fault(err)
	}
	found, err := pgx.CollectExactlyOneRow(rows, pgx.RowToStructByName[Endpoint])
	if errors.Is(err, pgx.ErrNoRows) {
		return Endpoint{}, fault.New(fault.NotFound, "There is no endpoint %q any more.", id)
	}
	return found, postgres.Fault(err)
}

// Add stores an endpoint and makes it known to this node at once; to the others
// within half a minute. Bad values are fault.Invalid, also an address that may not
// be called.
func (e *Endpoints) Add(ctx context.Context, n NewEndpoint, by audit.Actor, now time.Time) error {
	n.ID = strings.TrimSpace(n.ID)
	problems := e.check(ctx, &n)
	switch {
	case !endpointID.MatchString(n.ID):
		problems = append(problems, fault.Field{Field: "id", Message: "must be small letters, digits and hyphens, 40 at most, and begin with a letter"})
	case slices.ContainsFunc(Known, func(s Spec) bool { return s.ID == n.ID }):
		problems = append(problems, fault.Field{Field: "id", Message: "is that of a provider that is built in; choose another"})
	}
	if len(problems) > 0 {
		return fault.InvalidFields(problems)
	}
	err := postgres.InTx(ctx, e.db, func(tx pgx.Tx) error {
		var count int
		if err := tx.QueryRow(ctx, `select count(*) from ops.providers`).Scan(&count); err != nil {
			return err
		}
		if count >= maxEndpoints {
			return fault.New(fault.Conflict, "There are %d endpoints already. Remove one first.", count)
		}
		tag, err := tx.Exec(ctx, `
			insert into ops.providers (id, name, base_url, created_at, updated_at) values ($1, $2, $3, $4, $4)
			on conflict (id) do nothing`, n.ID, n.Name, n.BaseURL, now)
		if err != nil {
			return err
		}
		if tag.RowsAffected() == 0 {
			return fault.InvalidFields([]fault.Field{{Field: "id", Message: "is taken by another endpoint; choose another"}})
		}
		return audit.Add(ctx, tx, audit.Entry{
			At: now, Actor: by, Action: "provider.add", SubjectType: "provider", SubjectID: n.ID, SubjectLabel: n.Name,
			Details: map[string]any{"baseUrl": n.BaseURL},
		})
	})
	if err != nil {
		return postgres.Fault(err)
	}
	return e.RunOnce(ctx, now)
}

// Change changes the name and address of the endpoint n.ID, as it was at a
// revision. It is fault.Conflict when somebody else was first, and when learners'
// keys would be sent to another host than they were given for. It says whether
// anything was changed.
func (e *Endpoints) Change(ctx context.Context, n NewEndpoint, revision int, by audit.Actor, now time.Time) (changed bool, err error) {
	if problems := e.check(ctx, &n); len(problems) > 0 {
		return false, fault.InvalidFields(problems)
	}
	err = postgres.InTx(ctx, e.db, func(tx pgx.Tx) error {
		old, err := e.get(ctx, tx, n.ID, ` for update of p`)
		switch {
		case err != nil:
			return err
		case old.Revision != revision:
			return fault.New(fault.Conflict, "Somebody else has changed this endpoint meanwhile. Look at what it is now and save again.")
		case old.UserKeys > 0 && origin(old.BaseURL) != origin(n.BaseURL):
			return fault.New(fault.Conflict, "%s stored for this endpoint by learners would be sent to another host. Add the new address as an endpoint of its own.", keysOf(old.UserKeys))
		}
		details := map[string]any{}
		if old.Name != n.Name {
			details["name"] = audit.Change{From: old.Name, To: n.Name}
		}
		if old.BaseURL != n.BaseURL {
			details["baseUrl"] = audit.Change{From: old.BaseURL, To: n.BaseURL}
		}
		if changed = len(details) > 0; !changed {
			return nil
		}
		_, err = tx.Exec(ctx, `
			update ops.providers set name = $2, base_url = $3, revision = revision + 1, updated_at = $4 where id = $1`,
			n.ID, n.Name, n.BaseURL, now)
		if err != nil {
			return err
		}
		return audit.Add(ctx, tx, audit.Entry{
			At: now, Actor: by, Action: "provider.change", SubjectType: "provider", SubjectID: n.ID, SubjectLabel: n.Name, Details: details,
		})
	})
	if err != nil {
		return false, postgres.Fault(err)
	}
	return changed, e.RunOnce(ctx, now)
}

// Remove removes an endpoint that no key is stored for; else it is
// fault.Conflict.
func (e *Endpoints) Remove(ctx context.Context, id string, by audit.Actor, now time.Time) (Endpoint, error) {
	var old Endpoint
	err := postgres.InTx(ctx, e.db, func(tx pgx.Tx) (err error) {
		old, err = e.get(ctx, tx, id, ` for update of p`)
		switch {
		case err != nil:
			return err
		case old.FallbackKeys > 0:
			return fault.New(fault.Conflict, "%s cannot be removed: %s stored for it. Delete or rotate what is left on Fallback Keys first.", old.Name, areKeys(old.FallbackKeys, "fallback key"))
		case old.UserKeys > 0:
			return fault.New(fault.Conflict, "%s cannot be removed: %s stored for it. They belong to learners, who have to delete them.", old.Name, areKeys(old.UserKeys, "learners’ key"))
		}
		if _, err := tx.Exec(ctx, `delete from ops.providers where id = $1`, id); err != nil {
			return err
		}
		return audit.Add(ctx, tx, audit.Entry{
			At: now, Actor: by, Action: "provider.remove", SubjectType: "provider", SubjectID: id, SubjectLabel: old.Name,
			Details: map[string]any{"baseUrl": old.BaseURL},
		})
	})
	if err != nil {
		return Endpoint{}, postgres.Fault(err)
	}
	return old, e.RunOnce(ctx, now)
}

func keysOf(n int) string {
	if n == 1 {
		return "1 key"
	}
	return fmt.Sprintf("%d keys", n)
}

func areKeys(n int, noun string) string {
	if n == 1 {
		return "1 " + noun + " is"
	}
	return fmt.Sprintf("%d %ss are", n, noun)
}

// check trims what can be changed and says what cannot be used.
func (e *Endpoints) check(ctx context.Context, n *NewEndpoint) []fault.Field {
	var problems []fault.Field
	n.Name = strings.TrimSpace(n.Name)
	if n.Name == "" || len(n.Name) > maxEndpointName || strings.ContainsFunc(n.Name, func(r rune) bool { return r == unicode.ReplacementChar || !unicode.IsPrint(r) }) {
		problems = append(problems, fault.Field{Field: "name", Message: fmt.Sprintf("must be one line of 1 to %d bytes", maxEndpointName)})
	}
	address, problem := cleanURL(n.BaseURL)
	if problem == "" {
		n.BaseURL = address.String()
		problem = e.reachable(ctx, address.Hostname())
	}
	if problem != "" {
		problems = append(problems, fault.Field{Field: "baseUrl", Message: problem})
	}
	return problems
}

// cleanURL reads a base URL, or says what is wrong with it.
func cleanURL(typed string) (address *url.URL, problem string) {
	typed = strings.TrimRight(strings.TrimSpace(typed), "/")
	u, err := url.Parse(typed)
	switch {
	case typed == "":
		return nil, "is empty; write it like https://llm.example.com/v1"
	case len(typed) > maxEndpointURL:
		return nil, fmt.Sprintf("is longer than %d bytes", maxEndpointURL)
	case err != nil || u.Scheme != "https" && u.Scheme != "http" || u.Hostname() == "" || u.Opaque != "":
		return nil, "must be an http or https address, like https://llm.example.com/v1"
	case u.User != nil:
		return nil, "must not hold a name or password; a key is stored on Fallback Keys, where it is sealed"
	case u.RawQuery != "" || u.ForceQuery || u.Fragment != "" || strings.Contains(typed, "#"):
		return nil, "must end with its path, without ? or #"
	case strings.Contains(u.Path, "..") || strings.ContainsFunc(typed, func(r rune) bool { return unicode.IsSpace(r) || !unicode.IsPrint(r) || r == '\\' }):
		return nil, "has something in it that no base URL has"
	case strings.HasSuffix(u.Path, "/chat/completions"):
		return nil, "must end before /chat/completions, which is added for each call"
	}
	u.Host = strings.ToLower(u.Host)
	return u, ""
}

// reachable says why a host may not be called; "" if it may.
func (e *Endpoints) reachable(ctx context.Context, host string) (problem string) {
	if e.registry.PrivateAllowed() {
		return ""
	}
	ctx, cancel := context.WithTimeout(ctx, resolvePatience)
	defer cancel()
	addresses, err := e.resolve(ctx, host)
	if err != nil || len(addresses) == 0 {
		return "names a host that cannot be found; check its spelling"
	}
	if slices.ContainsFunc(addresses, network.Closed) {
		return "leads into a private network, where an endpoint could reach what is not meant for it; PROMPTOPS_ALLOW_PRIVATE_ENDPOINTS=true allows that"
	}
	return ""
}

func (e *Endpoints) resolve(ctx context.Context, host string) ([]netip.Addr, error) {
	if address, err := netip.ParseAddr(host); err == nil {
		return []netip.Addr{address}, nil
	}
	if e.Resolve != nil {
		return e.Resolve(ctx, host)
	}
	return net.DefaultResolver.LookupNetIP(ctx, "ip", host)
}

// origin is the part of an address that says who gets to see a key.
func origin(address string) string {
	u, err := url.Parse(address)
	if err != nil {
		return address
	}
	return u.Scheme + "://" + strings.ToLower(u.Host)
}
