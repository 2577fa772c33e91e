package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/google/uuid"

	"github.com/promptcademy/promptops/internal/fault"
	"github.com/promptcademy/promptops/internal/key"
	"github.com/promptcademy/promptops/internal/provider"
)

// keyTester tests a fallback key by a free call. It draws no conclusions.
func keyTester(store *key.Store, registry *provider.Registry) func(context.Context, key.Source, uuid.UUID, *uuid.UUID, time.Time) (key.Tested, error) {
	return func(ctx context.Context, _ key.Source, id uuid.UUID, _ *uuid.UUID, _ time.Time) (key.Tested, error) {
		keys, err := store.ListFallback(ctx)
		if err != nil {
			return key.Tested{}, err
		}
		i := slices.IndexFunc(keys, func(k key.Key) bool { return k.ID == id })
		if i < 0 {
			return key.Tested{}, fault.New(fault.NotFound, "There is no such key any more.")
		}
		k := keys[i]
		client, ok := registry.Client(k.Provider, k.Sandbox)
		if !ok {
			return key.Tested{}, fault.New(fault.Conflict, "Its provider is no longer set up.")
		}
		secret, err := store.Open(k)
		if err != nil {
			return key.Tested{}, fmt.Errorf("open key %s: %w", id, err)
		}
		started := time.Now()
		err = client.Check(ctx, secret.Reveal())
		tested := key.Tested{OK: err == nil, Latency: time.Since(started), Status: k.Status}
		if failure, ok := errors.AsType[*provider.Failure](err); ok {
			tested.Class, tested.Message = failure.Class, failure.Message
		} else if err != nil {
			return key.Tested{}, err
		}
		return tested, nil
	}
}
