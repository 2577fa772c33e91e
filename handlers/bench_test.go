package handlers_test

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
)

// BenchmarkRunAPI is a run of one model, alone: all that we do for it, and the
// sandbox.
func BenchmarkRunAPI(b *testing.B) {
	s := newSite(b).withKeys("openai")
	handler := s.Handler()
	token := s.token(s.learner("bench@example.org"))
	b.ReportAllocs()
	for b.Loop() {
		r := httptest.NewRequest(http.MethodPost, runPath, strings.NewReader(`{"prompt":"Explain RAG to a chef.","models":["openai/gpt-5-mini"],"config":{"temperature":0.7,"maxTokens":512}}`))
		r.Header.Set("Content-Type", "application/json")
		r.Header.Set("Authorization", "Bearer "+token)
		w := httptest.NewRecorder()
		handler.ServeHTTP(w, r)
		if w.Code != http.StatusOK || !strings.Contains(w.Body.String(), `"status":"success"`) {
			b.Fatal(w.Code, w.Body)
		}
	}
}
