package params_test

import (
	"errors"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/promptcademy/promptops/internal/fault"
	"github.com/promptcademy/promptops/internal/params"
)

func read(t *testing.T, query string) *params.Reader {
	t.Helper()
	values, err := url.ParseQuery(query)
	if err != nil {
		t.Fatal(err)
	}
	return params.From(values)
}

func TestRead(t *testing.T) {
	t.Parallel()
	berlin, err := time.LoadLocation("Europe/Berlin")
	if err != nil {
		t.Fatal(err)
	}
	r := read(t, "name=+Ada+&kind=b&id=0198c0de-0000-7000-8000-000000000001&n=7&from=2026-10-25&to=2026-10-25")
	if name := r.Text("name"); name != "Ada" {
		t.Errorf("text %q", name)
	}
	if kind := params.OneOf(r, "kind", "a", "b"); kind != "b" {
		t.Errorf("word %q", kind)
	}
	if id := r.ID("id"); id == nil || id.String() != "0198c0de-0000-7000-8000-000000000001" {
		t.Errorf("id %v", id)
	}
	if n := r.Number("n"); n != 7 {
		t.Errorf("number %d", n)
	}
	from, to := r.Days(berlin)
	if to.Sub(from) != 25*time.Hour || params.FirstDay(from, berlin) != "2026-10-25" || params.LastDay(to, berlin) != "2026-10-25" {
		t.Errorf("days from %v to %v", from, to)
	}
	if r.Text("none") != "" || params.OneOf(r, "none", "a") != "" || r.ID("none") != nil || r.Number("none") != 0 || r.Err() != nil {
		t.Errorf("what is not there is refused: %v", r.Err())
	}
}

// Everything that is wrong comes back at once, and none of it is used.
func TestRefuse(t *testing.T) {
	t.Parallel()
	r := read(t, "name=a%00b&long="+strings.Repeat("x", 256)+"&utf=%ff&kind=c&only=x&id=7&n=0&m=many&from=2026-02-30&to=soon")
	if r.Text("name") != "" || r.Text("long") != "" || r.Text("utf") != "" || params.OneOf(r, "kind", "a", "b", "d") != "" || params.OneOf(r, "only", "a") != "" ||
		r.ID("id") != nil || r.Number("n") != 0 || r.Number("m") != 0 {
		t.Error("something that was refused is used")
	}
	if from, to := r.Days(time.UTC); !from.IsZero() || !to.IsZero() {
		t.Errorf("days from %v to %v", from, to)
	}
	err := r.Err()
	want := map[string]string{
		"name": "characters", "long": "too long", "utf": "characters", "kind": "must be a, b or d", "only": "must be a", "id": "not an id",
		"n": "not a number", "m": "not a number", "from": "not a day", "to": "not a day",
	}
	if got := problems(t, err); len(got) != len(want) {
		t.Errorf("problems %v, want %v", got, want)
	} else {
		for name, part := range want {
			if !strings.Contains(got[name], part) {
				t.Errorf("%s %s, want %q", name, got[name], part)
			}
		}
	}
	r = read(t, "from=2026-11-02&to=2026-11-01")
	r.Days(time.UTC)
	if got := problems(t, r.Err()); len(got) != 1 || got["from"] == "" {
		t.Errorf("%v, want one on from", got)
	}
}

// problems are the messages of a fault.Invalid by parameter.
func problems(t *testing.T, err error) map[string]string {
	t.Helper()
	invalid, ok := errors.AsType[*fault.Error](err)
	if !ok || invalid.Kind != fault.Invalid {
		t.Fatalf("%v, want fault.Invalid", err)
	}
	all := map[string]string{}
	for _, detail := range invalid.Details {
		all[detail.Field] += detail.Message
	}
	return all
}
