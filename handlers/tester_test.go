package handlers_test

import (
	"context"
	"errors"
	"slices"
	"time"

	"github.com/google/uuid"

	"github.com/promptcademy/promptops/internal/fault"
	"github.com/promptcademy/promptops/internal/key"
	"github.com/promptcademy/promptops/internal/provider"
)

// tester tests fallback keys by a free call.
func tester(store *key.Store, registry *provider.Registry) func(context.Context, key.Source, uuid.UUID, *uuid.UUID, time.Time) (key.Tested, error) {
	return func(ctx context.Context, _ key.Source, id uuid.UUID, _ *uuid.UUID, _ time.Time) (key.Tested, error) {
		keys, err := store.ListFallback(ctx)
		if err != nil {
			return key.Tested{}, err
		}
		i := slices.IndexFunc(keys, func(k key.Key) bool { return k.ID == id })
		if i < 0 {
			return key.Tested{}, fault.New(fault.NotFound, "There is no such key.")
		}
		client, _ := registry.Client(keys[i].Provider, keys[i].Sandbox)
		secret, err := store.Open(keys[i])
		if err != nil {
			return key.Tested{}, err
		}
		started := time.Now()
		err = client.Check(ctx, secret.Reveal())
		tested := key.Tested{OK: err == nil, Latency: time.Since(started)}
		if failure, ok := errors.AsType[*provider.Failure](err); ok {
			tested.Class, tested.Message = failure.Class, failure.Message
		}
		return tested, nil
	}
}
