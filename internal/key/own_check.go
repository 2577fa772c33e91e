package key

import (
	"context"
	"fmt"
	"time"

	"github.com/google/uuid"

	"github.com/promptcademy/promptops/internal/fault"
	"github.com/promptcademy/promptops/internal/postgres"
)

// Test asks the provider about a learner's stored key and notes what it said. A
// key that it accepts is healthy, unless somebody disabled it; what it says against
// a key is evidence, and makes the key due for a check. It is fault.NotFound when
// there is no such key.
func (o *OwnKeys) Test(ctx context.Context, source Source, id uuid.UUID, _ *uuid.UUID, now time.Time) (Tested, error) {
	keys, err := o.store.query(ctx, `select `+userColumns+` from public.user_api_keys where id = $1 and 'user' = $2`, id, source)
	if err == nil && len(keys) == 0 {
		err = fault.New(fault.NotFound, "There is no such key.")
	}
	if err != nil {
		return Tested{}, err
	}
	secret, err := o.store.Open(keys[0])
	if err != nil {
		return Tested{}, err
	}
	c := check{keyID: id, sandbox: keys[0].Sandbox}
	failure, err := o.check(ctx, NewUser{Provider: keys[0].Provider, Secret: secret}, &c)
	if err != nil {
		return Tested{}, err
	}
	t := Tested{OK: failure == nil, Latency: c.latency, Reason: "The provider accepted the key."}
	if failure != nil {
		t.Class, t.Message, t.Reason = failure.Class, failure.Message, "The provider did not accept the key; it is due to be checked again."
	}
	err = o.store.db.QueryRow(ctx, `
		update public.user_api_keys set
		  status = case when $2 and status <> 'disabled' then 'healthy' else status end,
		  cooling_until = case when $2 then null else cooling_until end,
		  suspect = case when $2 then null else suspect end,
		  last_verified_at = case when $2 then $3 else last_verified_at end,
		  last_error_at = case when $2 then last_error_at else $3 end,
		  last_error_class = case when $2 then last_error_class else $4 end,
		  last_error_message = case when $2 then last_error_message else $5 end,
		  next_probe_at = case when $2 then null else $3 end,
		  updated_at = now()
		where id = $1
		returning status`, id, t.OK, now, t.Class, t.Message).Scan(&t.Status)
	if err != nil {
		return Tested{}, postgres.Fault(fmt.Errorf("test own key: %w", err))
	}
	return t, nil
}
