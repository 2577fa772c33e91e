package handlers

import (
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/promptcademy/promptops/internal/key"
	"github.com/promptcademy/promptops/views"
)

// fallbackView writes out the fallback keys, the providers in the order in which
// people see them.
func (s *Server) fallbackView(all key.Overview, zone *time.Location, now time.Time) views.FallbackPage {
	local := now.In(s.Fallbacks.Zone())
	page := views.FallbackPage{Day: local.Format("2 Jan 2006"), Month: local.Format("January 2006"), Zone: s.Fallbacks.Zone().String()}
	for _, id := range all.Forsaken(now) {
		one := views.Forsaken{ID: id, Name: s.providerName(id), Keys: len(all.Of(id))}
		if n := all.Missing[id]; n > 0 {
			one.Attempts = views.Count(int64(n))
		}
		page.Forsaken = append(page.Forsaken, one)
	}
	var ids []string
	for _, spec := range s.Providers.Specs() {
		ids = append(ids, spec.ID)
	}
	for _, k := range all.Keys {
		if !slices.Contains(ids, k.Provider) { // an endpoint that is gone
			ids = append(ids, k.Provider)
		}
	}
	for _, id := range ids {
		if keys := all.Of(id); len(keys) > 0 {
			page.Providers = append(page.Providers, s.fallbackProvider(id, keys, zone, now))
		}
	}
	return page
}

func (s *Server) fallbackProvider(id string, keys []key.FallbackKey, zone *time.Location, now time.Time) views.FallbackProvider {
	_, known := s.Providers.Lookup(id)
	one := views.FallbackProvider{ID: id, Name: s.providerName(id), Gone: !known}
	usable := 0
	var seen []string
	for i, k := range keys {
		if k.State(now).Hopeful() {
			usable++
		}
		seen = append(seen, k.ID.String())
		row := s.fallbackRow(k, zone, now)
		row.Place = strconv.Itoa(i + 1)
		row.First, row.Last = i == 0, i == len(keys)-1
		row.InTurn = i > 0 && keys[i-1].Priority == k.Priority || i < len(keys)-1 && keys[i+1].Priority == k.Priority
		one.Keys = append(one.Keys, row)
	}
	one.Seen = strings.Join(seen, ",")
	one.Usable = strconv.Itoa(usable) + " of " + plural(int64(len(keys)), "key", "keys") + " usable"
	return one
}

// fallbackRow writes out a key, but for its place.
func (s *Server) fallbackRow(k key.FallbackKey, zone *time.Location, now time.Time) views.FallbackKey {
	row := views.FallbackKey{
		ID: k.ID.String(), Label: k.Label, LastFour: k.LastFour, Provider: s.providerName(k.Provider), Sandbox: k.Sandbox,
		Models: strings.Join(k.Models, ", "), State: keyState(k, zone, now), Notes: keyNotes(k, zone, now),
		Today: views.MoneyExact(k.Spent.Today.Decimal()), Month: limitUse(k.Spent.Month, k.MonthlyCap),
		Runway: runway(k), Endless: outlasts(k, now, s.Fallbacks.Zone()),
		Used: momentOf(k.LastUsedAt, zone), Worked: momentOf(latest(k.LastSuccessAt, k.LastVerifiedAt), zone),
	}
	if k.LastErrorAt != nil {
		row.Error = &views.KeyError{
			At: views.MomentOf(*k.LastErrorAt, zone), Class: k.LastError.Class, HTTP: httpStatus(k.LastError.HTTPStatus), Message: k.LastError.Message,
			RunID: runOf(k.LastError.RunID), RequestID: k.LastError.ProviderRequestID,
		}
	}
	return row
}

// latest is the later one of what has happened: a call that was answered, or a
// free check.
func latest(a, b *time.Time) *time.Time {
	if a == nil || b != nil && b.After(*a) {
		return b
	}
	return a
}

// keyState says what has become of a key, and because of what.
func keyState(k key.FallbackKey, zone *time.Location, now time.Time) views.KeyState {
	state := views.KeyState{State: string(k.State(now))}
	state.Before = views.KeyStateWords(state.State)
	switch k.State(now) {
	case key.StateCooling:
		state.At = momentOf(k.CoolingUntil, zone)
		if k.Suspect != nil && *k.Suspect != "rate_limited" {
			state.Before = "Calls with it failed again and again (" + *k.Suspect + "). It rests until"
		}
	case key.StateDisabled:
		state.Before, state.At, state.After = "Out of use since", &views.Moment{}, k.StatusReason
		if k.StatusBy != "" {
			state.Before = "Disabled by " + k.StatusBy + " on"
		}
		*state.At = views.MomentOf(k.StatusAt, zone)
	case key.StateInvalid, key.StateBilling:
		state.After = k.StatusReason
	case key.StateExpired:
		state.Before, state.After, state.At = "Its last day of use was over on", "Rotate it, or change the day.", momentOf(k.ExpiresAt, zone)
	}
	return state
}

// keyNotes are what will happen to a key by itself.
func keyNotes(k key.FallbackKey, zone *time.Location, now time.Time) []views.KeyNote {
	var notes []views.KeyNote
	state := k.State(now)
	if k.Expiring(now) {
		notes = append(notes, views.KeyNote{Kind: "warning", Text: "Expires", At: momentOf(k.ExpiresAt, zone)})
	}
	if k.RetireAt != nil && state != key.StateDisabled && state != key.StateRetired {
		notes = append(notes, views.KeyNote{Kind: "info", Text: "Retires", At: momentOf(k.RetireAt, zone)})
	}
	return notes
}

// keyView writes out one key, but for its forms.
func (s *Server) keyView(all key.Overview, k key.FallbackKey, events []key.FallbackEvent, zone *time.Location, now time.Time) views.KeyPage {
	page := views.KeyPage{
		Key: s.fallbackRow(k, zone, now), Zone: s.Fallbacks.Zone().String(), Facts: s.keyFacts(all, k, zone, now),
		Retires: momentOf(k.RetireAt, zone), Replaced: k.ReplacedBy != nil,
	}
	others := slices.ContainsFunc(all.Of(k.Provider), func(other key.FallbackKey) bool { return other.ID != k.ID && other.State(now).Hopeful() })
	page.LastHope = k.State(now).Hopeful() && !others
	if k.ReplacedBy != nil {
		if successor, err := all.Find(*k.ReplacedBy); err == nil {
			page.Successor = &views.KeyLink{Href: fallbackPath + "/" + successor.ID.String(), Label: successor.Label + " …" + successor.LastFour}
		}
	}
	if len(events) > historyShown {
		events, page.MoreEvents = events[:historyShown], true
	}
	for _, e := range events {
		event := views.KeyEvent{
			At: views.MomentOf(e.At, zone), Who: views.EventActor(e.Kind, e.Operator), Reason: e.Reason, From: string(e.From), To: string(e.To),
			Class: e.Class, HTTP: httpStatus(e.HTTPStatus), Message: e.Message, RunID: runOf(e.RunID), RequestID: e.ProviderRequestID,
		}
		if e.LatencyMs != nil {
			event.Took = views.Milliseconds(int64(*e.LatencyMs))
		}
		page.History = append(page.History, event)
	}
	return page
}

func (s *Server) keyFacts(all key.Overview, k key.FallbackKey, zone *time.Location, now time.Time) []views.Fact {
	row := s.fallbackRow(k, zone, now)
	at := func(label string, m *views.Moment) views.Fact {
		if m == nil {
			return views.Fact{Label: label, Value: "Never"}
		}
		fact := views.Fact{Label: label, Value: m.Local}
		if zone != time.UTC {
			fact.Note = m.UTC
		}
		return fact
	}
	keys := all.Of(k.Provider)
	place := slices.IndexFunc(keys, func(other key.FallbackKey) bool { return other.ID == k.ID }) + 1
	month := views.Fact{Label: "This month", Value: row.Month.Used, Note: "no cap"}
	if row.Month.Limit != "" {
		month.Note = "of " + row.Month.Limit + ", " + row.Month.Percent
	}
	left := views.Fact{Label: "Runway", Value: row.Runway}
	if row.Endless {
		left.Note = "past the month’s end"
	}
	facts := []views.Fact{
		{Label: "Spent today", Value: row.Today, Note: "with what runs have set aside"}, month, left,
		{Label: "Last seven full days", Value: views.MoneyExact(k.Spent.Week.Decimal())},
		{Label: "Place", Value: strconv.Itoa(place) + " of " + strconv.Itoa(len(keys)), Note: "priority " + strconv.Itoa(k.Priority)},
		at("Last used", row.Used), at("Last success", momentOf(k.LastSuccessAt, zone)), at("Last accepted by a check", momentOf(k.LastVerifiedAt, zone)),
	}
	if k.Sandbox {
		facts = append(facts, views.Fact{Label: "Opens", Value: "the built-in sandbox", Note: "not the real provider"})
	}
	return append(facts, at("Added", momentOf(&k.CreatedAt, zone)), views.Fact{Label: "Id", Value: k.ID.String(), Mono: true})
}
