package sandbox

import (
	"bytes"
	"encoding/json"
	"net/http"
	"strconv"
	"strings"
)

// frame is one event of a stream. data is written as JSON, a string as it is;
// without data the frame is the comment.
type frame struct {
	name    string
	comment string
	data    any
}

// object is a JSON object.
type object map[string]any

// frameWriter writes server-sent events, each at once.
type frameWriter struct {
	w     http.ResponseWriter
	crlf  bool // as unusual as the standard allows
	begun bool
	err   error
}

func newFrameWriter(w http.ResponseWriter, crlf bool) *frameWriter {
	return &frameWriter{w: w, crlf: crlf}
}

func (f *frameWriter) write(frames ...frame) {
	var b bytes.Buffer
	for _, frame := range frames {
		f.encode(&b, frame)
	}
	if _, err := f.w.Write(b.Bytes()); err != nil {
		f.err = err
		return
	}
	f.err = http.NewResponseController(f.w).Flush()
}

func (f *frameWriter) encode(b *bytes.Buffer, frame frame) {
	eol := "\n"
	if f.crlf {
		eol = "\r\n"
		if !f.begun {
			b.WriteString("\ufeff")
		}
		b.WriteString(": a comment" + eol + eol + "id: 1" + eol)
	}
	f.begun = true
	if frame.data == nil {
		b.WriteString(": " + frame.comment + eol + eol)
		return
	}
	if frame.name != "" {
		b.WriteString("event: " + frame.name + eol)
	}
	text, ok := frame.data.(string)
	if !ok {
		text = string(marshal(frame.data))
		if f.crlf { // a line break is allowed between tokens
			text = strings.Replace(text, "{", "{\n", 1)
		}
	}
	for line := range strings.SplitSeq(text, "\n") {
		b.WriteString("data: " + line + eol)
	}
	b.WriteString(eol)
}

// marshal is for what the sandbox itself has put together.
func marshal(v any) []byte {
	b, err := json.Marshal(v)
	if err != nil {
		panic(err)
	}
	return b
}

func writeJSON(w http.ResponseWriter, status int, v any) { writeBody(w, status, marshal(v)) }

// writeBody writes what is JSON already.
func writeBody(w http.ResponseWriter, status int, body []byte) {
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Content-Length", strconv.Itoa(len(body)))
	w.WriteHeader(status)
	_, _ = w.Write(body)
}

func refuse(w http.ResponseWriter, r *refusal) {
	for name, values := range r.header {
		w.Header()[name] = values
	}
	writeJSON(w, r.status, r.body)
}

// half sends the first half of an answer.
func half(w http.ResponseWriter, v any) {
	body := marshal(v)
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Content-Length", strconv.Itoa(len(body)))
	_, _ = w.Write(body[:len(body)/2])
	_ = http.NewResponseController(w).Flush()
}

// garbage sends 10 MB that mean nothing.
func garbage(w http.ResponseWriter, stream bool) {
	w.Header().Set("Content-Type", "application/json")
	if stream {
		w.Header().Set("Content-Type", "text/event-stream")
	}
	block := bytes.Repeat([]byte("\x00\xff garbage {[\"<"), 4<<10)
	for sent := 0; sent < 10<<20; sent += len(block) {
		if _, err := w.Write(block); err != nil {
			return
		}
	}
}

func page(w http.ResponseWriter) {
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	_, _ = w.Write([]byte("<!DOCTYPE html><html><head><title>Just a moment...</title></head><body><h1>Checking your browser</h1></body></html>"))
}
