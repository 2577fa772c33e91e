package provider

import (
	"context"
	"encoding/json"
	"slices"
	"strings"
	"unicode"
)

const (
	maxModelsListed = 1000
	maxModelName    = 200 // bytes
)

// Models asks an OpenAI-compatible provider which models it has, a call that
// costs nothing. secret may be empty: many servers of one's own want none. Errors
// are a *Failure.
func (r *Registry) Models(ctx context.Context, id, secret string) ([]string, error) {
	found, _ := r.Client(id, false)
	c, ok := found.(*client)
	if !ok {
		return nil, &Failure{Class: ClassNotFound, Message: "There is no such provider."}
	}
	names, failure := c.models(ctx, secret)
	if failure != nil {
		return nil, failure
	}
	return names, nil
}

func (c *client) models(caller context.Context, secret string) ([]string, *Failure) {
	ctx, cancel := context.WithCancel(caller)
	defer cancel()
	resp, failure := c.send(ctx, "GET", "/models", nil, secret)
	if failure != nil {
		return nil, failure
	}
	defer resp.Body.Close()
	if resp.StatusCode/100 != 2 {
		return nil, c.refused(resp, secret, cancel)
	}
	body, err := readBody(resp.Body, maxAnswer)
	defer putBody(body)
	if err == nil {
		err = listed(body.Bytes())
	}
	if err != nil {
		return nil, c.failure(caller, err, resp, body.Bytes(), secret)
	}
	return modelNames(body.Bytes(), secret), nil
}

// modelNames reads {"data":[{"id":…}]} and {"models":[{"name":…}]}, sorted. What
// cannot be a name is left out.
func modelNames(body []byte, secret string) []string {
	type model struct {
		ID   string `json:"id"`
		Name string `json:"name"`
	}
	var list struct {
		Data   []model `json:"data"`
		Models []model `json:"models"`
	}
	_ = json.Unmarshal(body, &list) // as far as it has that shape
	var names []string
	for _, m := range slices.Concat(list.Data, list.Models) {
		name := m.ID
		if name == "" {
			name = m.Name
		}
		if name == "" || len(name) > maxModelName || strings.ContainsFunc(name, func(r rune) bool { return unicode.IsSpace(r) || !unicode.IsPrint(r) }) ||
			secret != "" && strings.Contains(name, secret) {
			continue
		}
		names = append(names, name)
	}
	slices.Sort(names)
	names = slices.Compact(names)
	return names[:min(len(names), maxModelsListed)]
}
