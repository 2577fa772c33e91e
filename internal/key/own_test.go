package key

import (
	"context"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/promptcademy/promptops/internal/fault"
	"github.com/promptcademy/promptops/internal/postgres/pgtest"
	"github.com/promptcademy/promptops/internal/provider"
)

func TestOwnState(t *testing.T) {
	now := *at(0)
	was, until := at(-time.Hour), at(time.Minute)
	class := func(c provider.Class) *string { return new(string(c)) }
	for _, c := range []struct {
		name   string
		row    ownRow
		status Status
		says   string
	}{
		{"verified", ownRow{Status: Healthy, LastVerifiedAt: was}, Healthy, ""},
		{"used", ownRow{Status: Healthy, LastSuccessAt: was}, Healthy, ""},
		{"neither", ownRow{Status: Healthy}, Healthy, "not been verified"},
		{"limited", ownRow{Status: Cooling, CoolingUntil: until, LastVerifiedAt: was}, Cooling, "limits its requests"},
		{"limited, as health says it", ownRow{Status: Cooling, CoolingUntil: until, Suspect: class(provider.ClassRateLimited)}, Cooling, "limits its requests"},
		{"refused", ownRow{Status: Cooling, CoolingUntil: until, Suspect: class(provider.ClassInvalidKey)}, Cooling, "is being checked"},
		{"no credit, perhaps", ownRow{Status: Cooling, CoolingUntil: until, Suspect: class(provider.ClassBilling)}, Cooling, "out of credit. It is being checked"},
		{"an outage", ownRow{Status: Cooling, CoolingUntil: until, Suspect: class(provider.ClassOverloaded)}, Cooling, "did not answer"},
		{"rested", ownRow{Status: Cooling, CoolingUntil: was, LastVerifiedAt: was}, Healthy, ""},
		{"invalid", ownRow{Status: Invalid, LastVerifiedAt: was}, Invalid, "OpenAI does not accept it"},
		{"billing", ownRow{Status: Billing, LastVerifiedAt: was}, Billing, "out of credit"},
		{"disabled", ownRow{Status: Disabled, LastVerifiedAt: was, CoolingUntil: until}, Disabled, "switched off"},
	} {
		k := c.row.key("OpenAI", now)
		if k.Status != c.status || !strings.Contains(k.StatusReason, c.says) || (k.StatusReason == "") != (c.says == "") {
			t.Errorf("%s: %s, %q", c.name, k.Status, k.StatusReason)
		}
		if (k.CoolingUntil != nil) != (k.Status == Cooling) {
			t.Errorf("%s: %s until %v", c.name, k.Status, k.CoolingUntil)
		}
	}
}

func TestCheckWait(t *testing.T) {
	asked := []time.Time{}
	for i := range maxChecks - 1 {
		asked = append(asked, *at(time.Duration(i) * time.Second))
	}
	now := *at(time.Minute)
	if wait := checkWait(asked, now); wait != 0 {
		t.Errorf("after %d checks: %v", len(asked), wait)
	}
	asked = append(asked, *at(30 * time.Second))
	if wait := checkWait(asked, now); wait != checkWindow-time.Minute {
		t.Errorf("after %d checks: %v", len(asked), wait)
	}
	asked = append(asked, *at(31 * time.Second)) // more than there should be
	if wait := checkWait(asked, now); wait != checkWindow-time.Minute+time.Second {
		t.Errorf("after %d checks: %v", len(asked), wait)
	}
}

// Who does not wait for the provider has added nothing, but has used up a check.
func TestOwnKeyOfSomebodyWhoLeft(t *testing.T) {
	pool := pgtest.Database(t)
	ctx, leave := context.WithCancel(within(t))
	hanging := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		leave()
		<-r.Context().Done()
	}))
	t.Cleanup(hanging.Close)
	o := NewOwnKeys(NewStore(pool, ring(t, oldKey)), provider.NewRegistry(nil, map[string]string{"openai": hanging.URL}), quiet())
	ada := learner(t, pool)
	if _, err := o.Add(ctx, NewUser{LearnerID: ada, Provider: "openai", Secret: goodKey}, *at(0)); err == nil {
		t.Error("the key was added")
	}
	if keys, err := o.List(within(t), ada, *at(0)); err != nil || len(keys) != 0 {
		t.Errorf("%d keys are stored, %v", len(keys), err)
	}
	var class string
	if err := pool.QueryRow(within(t), `select class from ops.key_events where user_id = $1`, ada).Scan(&class); err != nil || class != "cancelled" {
		t.Errorf("the event says %q, %v", class, err)
	}
}

// An account may be deleted while its request is under way.
func TestOwnKeyOfNobody(t *testing.T) {
	o := NewOwnKeys(NewStore(pgtest.Tx(t), ring(t, oldKey)), provider.NewRegistry(nil, nil), quiet())
	_, err := o.Add(within(t), NewUser{LearnerID: uuid.New(), Provider: "openai", Secret: goodKey}, *at(0))
	if fault.KindOf(err) != fault.Unauthenticated {
		t.Errorf("got %v", err)
	}
	hides(t, err, goodKey)
}
