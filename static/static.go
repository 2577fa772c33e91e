// Package static holds the front end: scripts, style and font, built from src/
// by `make assets` and embedded into the binary. Every file is named by its
// content, so a browser may keep it forever and a new build is a new name.
package static

import (
	"embed"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"mime"
	"net/http"
	"path"
	"strconv"
	"strings"
)

//go:embed all:dist
var dist embed.FS

// Prefix is where Handler expects to be mounted and what URL begins with.
const Prefix = "/static/"

// ErrNotBuilt is what Load returns in a binary that was compiled before the
// assets were.
var ErrNotBuilt = errors.New("front-end assets are not built: run make assets")

// Assets is the built front end. It does not change after Load.
type Assets struct {
	files map[string]string // "app.js" to "app.3F2AQ7.js"
	found map[string]file   // by hashed name
}

// file is one asset in every form in which it can be sent.
type file struct {
	contentType string
	plain       []byte
	brotli      []byte // nil when compressing would not help
	gzip        []byte
}

// Load reads the embedded assets into memory. It returns ErrNotBuilt when
// there are none.
func Load() (*Assets, error) {
	built, err := fs.Sub(dist, "dist")
	if err != nil {
		return nil, err
	}
	return load(built)
}

func load(built fs.FS) (*Assets, error) {
	manifest, err := fs.ReadFile(built, "manifest.json")
	if errors.Is(err, fs.ErrNotExist) {
		return nil, ErrNotBuilt
	}
	if err != nil {
		return nil, err
	}
	a := &Assets{found: make(map[string]file)}
	if err := json.Unmarshal(manifest, &a.files); err != nil {
		return nil, fmt.Errorf("read manifest.json: %w", err)
	}
	for _, hashed := range a.files {
		f := file{contentType: contentType(hashed)}
		if f.plain, err = fs.ReadFile(built, hashed); err != nil {
			return nil, fmt.Errorf("manifest.json names a missing file: %w", err)
		}
		if f.brotli, err = readOptional(built, hashed+".br"); err != nil {
			return nil, err
		}
		if f.gzip, err = readOptional(built, hashed+".gz"); err != nil {
			return nil, err
		}
		a.found[hashed] = f
	}
	return a, nil
}

func readOptional(fsys fs.FS, name string) ([]byte, error) {
	b, err := fs.ReadFile(fsys, name)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	return b, err
}

// contentType does not ask the machine's own table for the kinds we serve: it
// differs from one system to the next.
func contentType(name string) string {
	switch ext := path.Ext(name); ext {
	case ".js":
		return "text/javascript; charset=utf-8"
	case ".css":
		return "text/css; charset=utf-8"
	case ".woff2":
		return "font/woff2"
	case ".svg":
		return "image/svg+xml"
	default:
		return mime.TypeByExtension(ext)
	}
}

// URL returns the address of an asset by the name it has in src/ ("app.js").
// A name that was not built keeps its plain address, which answers 404.
func (a *Assets) URL(name string) string {
	if hashed, ok := a.files[name]; ok {
		return Prefix + hashed
	}
	return Prefix + name
}

// Handler serves the assets under Prefix, compressed as the browser accepts,
// to be cached for good. Everything else is 404.
func (a *Assets) Handler() http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		f, ok := a.found[strings.TrimPrefix(r.URL.Path, Prefix)]
		if !ok {
			http.NotFound(w, r)
			return
		}
		if r.Method != http.MethodGet && r.Method != http.MethodHead {
			w.Header().Set("Allow", "GET, HEAD")
			http.Error(w, "Method not allowed", http.StatusMethodNotAllowed)
			return
		}
		body, encoding := f.choose(r.Header.Get("Accept-Encoding"))
		h := w.Header()
		h.Set("Content-Type", f.contentType)
		h.Set("Content-Length", strconv.Itoa(len(body)))
		h.Set("Cache-Control", "public, max-age=31536000, immutable")
		h.Set("X-Content-Type-Options", "nosniff")
		h.Add("Vary", "Accept-Encoding")
		if encoding != "" {
			h.Set("Content-Encoding", encoding)
		}
		w.WriteHeader(http.StatusOK)
		if r.Method == http.MethodGet {
			_, _ = w.Write(body) // a browser that went away is nobody's fault
		}
	})
}

// choose returns the smallest form that the Accept-Encoding header allows,
// with its Content-Encoding.
func (f file) choose(acceptEncoding string) (body []byte, encoding string) {
	if f.brotli != nil && accepts(acceptEncoding, "br") {
		return f.brotli, "br"
	}
	if f.gzip != nil && accepts(acceptEncoding, "gzip") {
		return f.gzip, "gzip"
	}
	return f.plain, ""
}

// accepts says whether an Accept-Encoding header names coding with a weight
// above zero.
func accepts(header, coding string) bool {
	for part := range strings.SplitSeq(header, ",") {
		name, parameters, _ := strings.Cut(part, ";")
		if !strings.EqualFold(strings.TrimSpace(name), coding) {
			continue
		}
		weight, found := strings.CutPrefix(strings.ReplaceAll(parameters, " ", ""), "q=")
		if !found {
			return true
		}
		q, err := strconv.ParseFloat(weight, 64)
		return err == nil && q > 0
	}
	return false
}
