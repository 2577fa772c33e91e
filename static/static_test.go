package static

import (
	"errors"
	"net/http"
	"net/http/httptest"
	"testing"
	"testing/fstest"
)

func built() fstest.MapFS {
	return fstest.MapFS{
		"manifest.json":    {Data: []byte(`{"app.js":"app.AAAA.js","inter.woff2":"inter.BBBB.woff2"}`)},
		"app.AAAA.js":      {Data: []byte("plain")},
		"app.AAAA.js.br":   {Data: []byte("brotli")},
		"app.AAAA.js.gz":   {Data: []byte("gzip")},
		"inter.BBBB.woff2": {Data: []byte("font")},
	}
}

func TestLoadWithoutBuildSaysWhatToDo(t *testing.T) {
	_, err := load(fstest.MapFS{".gitkeep": {}})
	if !errors.Is(err, ErrNotBuilt) {
		t.Fatalf("error = %v, want ErrNotBuilt", err)
	}
}

func TestLoadRefusesManifestThatNamesMissingFile(t *testing.T) {
	broken := built()
	delete(broken, "app.AAAA.js")
	if _, err := load(broken); err == nil {
		t.Fatal("a manifest that names a missing file was accepted")
	}
}

func TestURL(t *testing.T) {
	assets, err := load(built())
	if err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]string{
		"app.js":     "/static/app.AAAA.js",
		"missing.js": "/static/missing.js",
	} {
		if got := assets.URL(name); got != want {
			t.Errorf("URL(%q) = %q, want %q", name, got, want)
		}
	}
}

func TestHandler(t *testing.T) {
	assets, err := load(built())
	if err != nil {
		t.Fatal(err)
	}
	tests := []struct {
		name         string
		method, path string
		accept       string
		status       int
		body         string
		encoding     string
		contentType  string
	}{
		{"brotli first", "GET", "/static/app.AAAA.js", "gzip, deflate, br", 200, "brotli", "br", "text/javascript; charset=utf-8"},
		{"gzip", "GET", "/static/app.AAAA.js", "gzip", 200, "gzip", "gzip", "text/javascript; charset=utf-8"},
		{"weight of zero is a no", "GET", "/static/app.AAAA.js", "br;q=0, gzip; q=0.5", 200, "gzip", "gzip", "text/javascript; charset=utf-8"},
		{"no header", "GET", "/static/app.AAAA.js", "", 200, "plain", "", "text/javascript; charset=utf-8"},
		{"part of a word is no match", "GET", "/static/app.AAAA.js", "brx, xgzip", 200, "plain", "", "text/javascript; charset=utf-8"},
		{"font is sent as it is", "GET", "/static/inter.BBBB.woff2", "br, gzip", 200, "font", "", "font/woff2"},
		{"head has no body", "HEAD", "/static/app.AAAA.js", "br", 200, "", "br", "text/javascript; charset=utf-8"},
		{"plain name", "GET", "/static/app.js", "br", 404, "404 page not found\n", "", "text/plain; charset=utf-8"},
		{"manifest is not public", "GET", "/static/manifest.json", "", 404, "404 page not found\n", "", "text/plain; charset=utf-8"},
		{"compressed form has no address", "GET", "/static/app.AAAA.js.br", "", 404, "404 page not found\n", "", "text/plain; charset=utf-8"},
		{"path does not climb", "GET", "/static/../static.go", "", 404, "404 page not found\n", "", "text/plain; charset=utf-8"},
		{"post", "POST", "/static/app.AAAA.js", "", 405, "Method not allowed\n", "", "text/plain; charset=utf-8"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			r := httptest.NewRequest(tt.method, "/", nil)
			r.URL.Path = tt.path
			r.Header.Set("Accept-Encoding", tt.accept)
			w := httptest.NewRecorder()
			assets.Handler().ServeHTTP(w, r)
			if w.Code != tt.status || w.Body.String() != tt.body {
				t.Errorf("answer = %d %q, want %d %q", w.Code, w.Body, tt.status, tt.body)
			}
			if got := w.Header().Get("Content-Encoding"); got != tt.encoding {
				t.Errorf("Content-Encoding = %q, want %q", got, tt.encoding)
			}
			if got := w.Header().Get("Content-Type"); got != tt.contentType {
				t.Errorf("Content-Type = %q, want %q", got, tt.contentType)
			}
			if w.Code != http.StatusOK {
				return
			}
			if got := w.Header().Get("Cache-Control"); got != "public, max-age=31536000, immutable" {
				t.Errorf("Cache-Control = %q", got)
			}
			if got := w.Header().Get("Vary"); got != "Accept-Encoding" {
				t.Errorf("Vary = %q", got)
			}
		})
	}
}
