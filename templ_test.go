package promptops_test

import (
	"context"
	"errors"
	"io"
	"net/http/httptest"
	"testing"

	"github.com/a-h/templ"

	"github.com/promptcademy/promptops"
)

func TestRender(t *testing.T) {
	w := httptest.NewRecorder()
	if err := promptops.Render(t.Context(), w, 404, templ.Raw("<p>gone</p>")); err != nil {
		t.Fatal(err)
	}
	if w.Code != 404 || w.Body.String() != "<p>gone</p>" {
		t.Errorf("answer = %d %q", w.Code, w.Body)
	}
	if got := w.Header().Get("Content-Type"); got != "text/html; charset=utf-8" {
		t.Errorf("Content-Type = %q", got)
	}
	if got := w.Header().Get("Cache-Control"); got != "no-store" {
		t.Errorf("Cache-Control = %q", got)
	}
}

func TestRenderFragmentVaries(t *testing.T) {
	w := httptest.NewRecorder()
	if err := promptops.RenderFragment(t.Context(), w, 200, templ.Raw("<p>part</p>")); err != nil {
		t.Fatal(err)
	}
	if got := w.Header().Get("Vary"); got != "HX-Request" {
		t.Errorf("Vary = %q", got)
	}
}

func TestRenderWritesNothingWhenThePageBreaks(t *testing.T) {
	broken := errors.New("broken")
	page := templ.ComponentFunc(func(_ context.Context, w io.Writer) error {
		_, _ = io.WriteString(w, "<p>half a")
		return broken
	})
	w := httptest.NewRecorder()
	w.Code = 0
	if err := promptops.Render(t.Context(), w, 200, page); !errors.Is(err, broken) {
		t.Errorf("error = %v, want the page's", err)
	}
	if w.Code != 0 || w.Body.Len() > 0 || len(w.Header()) > 0 {
		t.Errorf("wrote %d %q %v", w.Code, w.Body, w.Header())
	}
}
