package demo

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/promptcademy/promptops/internal/price"
)

// digest is everything in a world that a page shows.
func digest(w world) string {
	var text strings.Builder
	fmt.Fprintln(&text, w.first, len(w.events), len(w.progress), len(w.shared))
	for _, l := range w.learners {
		fmt.Fprintln(&text, l.id, l.email, l.signedUpAt, l.lastRunAt, len(l.keys), len(l.teams))
	}
	for _, r := range w.runs {
		tokens, cost, unpriced := r.totals()
		fmt.Fprintln(&text, r.id, r.learner.id, r.teamID(), r.status, r.models(), r.durationMs, tokens, cost, unpriced)
	}
	return text.String()
}

func TestWorldAtAnyTime(t *testing.T) {
	book := price.NewBook(nil)
	for _, at := range []string{
		"2026-11-24T00:00:00Z", "2026-03-01T23:59:59.999Z", "2028-02-29T12:00:00+13:00", "2026-11-01T06:30:00-05:00",
	} {
		now, err := time.Parse(time.RFC3339, at)
		if err != nil {
			t.Fatal(err)
		}
		w := newWorld(book, now)
		if len(w.runs) < 9000 {
			t.Errorf("%s: %d runs", at, len(w.runs))
		}
		for i, r := range w.runs {
			if r.finishedAt().After(now) || r.at.Before(w.first) {
				t.Fatalf("%s: a run from %s to %s", at, r.at, r.finishedAt())
			}
			if i > 0 && r.at.Before(w.runs[i-1].at) {
				t.Fatalf("%s: runs are not in order", at)
			}
			if _, _, unpriced := r.totals(); unpriced == 0 && r.status == "success" {
				t.Fatalf("%s: a run is priced without any price", at)
			}
		}
		for _, l := range w.learners {
			if l.signedUpAt.After(now) || l.lastRunAt.After(now) {
				t.Fatalf("%s: a learner of %s to %s", at, l.signedUpAt, l.lastRunAt)
			}
			for _, k := range l.keys {
				if k.addedAt.Before(l.signedUpAt) || k.addedAt.After(now) || k.usedAt.After(now) {
					t.Fatalf("%s: a key of %s", at, k.addedAt)
				}
			}
		}
		for _, e := range w.events {
			if e.at.After(now) || e.at.Before(e.template.createdAt) && e.event != "created" {
				t.Fatalf("%s: template %s at %s", at, e.event, e.at)
			}
		}
		if digest(w) != digest(newWorld(book, now)) {
			t.Errorf("%s: the same moment made another world", at)
		}
	}
}
