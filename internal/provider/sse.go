package provider

import (
	"bytes"
	"errors"
	"io"
	"sync"
)

// event is one server-sent event. data is valid until the next one is read.
type event struct {
	name string
	data []byte
	cut  bool // the stream ended before the blank line that completes an event
}

// eventReader reads server-sent events as the HTML standard defines them: lines
// end in \n, \r\n or \r, data may span lines, comments are skipped. Unlike the
// standard it also hands over an event that the end of the stream cut short,
// since some servers forget the last line break.
type eventReader struct {
	in    io.Reader
	limit int // of a line, and of an event's data
	buf   []byte
	pos   int // buf[pos:] is unread
	seen  int // buf[pos:seen] holds no line break
	data  []byte
	err   error // of in, once it has ended
	begun bool
	// skipLF: the last line ended in \r; a \n that follows belongs to it.
	skipLF bool
	junk   bool // a line came that no event stream has
}

var eventReaders = sync.Pool{New: func() any { return &eventReader{buf: make([]byte, 0, 4<<10)} }}

// newEventReader reads in; release gives its buffers back.
func newEventReader(in io.Reader, limit int) *eventReader {
	r := eventReaders.Get().(*eventReader)
	*r = eventReader{in: in, limit: limit, buf: r.buf[:0], data: r.data[:0]}
	return r
}

func (r *eventReader) release() {
	if cap(r.buf)+cap(r.data) > 128<<10 {
		return
	}
	r.in = nil
	eventReaders.Put(r)
}

// next reads the next event that has data. After the last it returns io.EOF;
// errTooLarge when a line or an event exceeds the limit; else the reader's own
// error.
func (r *eventReader) next() (event, error) {
	var e event
	var hasData bool
	r.data = r.data[:0]
	for {
		line, err := r.line()
		if errors.Is(err, io.EOF) && hasData {
			e.data, e.cut = r.data, true
			return e, nil
		}
		if err != nil {
			return event{}, err
		}
		if len(line) == 0 {
			if hasData {
				e.data = r.data
				return e, nil
			}
			e.name = ""
			continue
		}
		field, value, _ := bytes.Cut(line, []byte(":"))
		value = bytes.TrimPrefix(value, []byte(" "))
		switch string(field) {
		case "data":
			if len(r.data)+len(value) > r.limit {
				return event{}, errTooLarge
			}
			if hasData {
				r.data = append(r.data, '\n')
			}
			r.data = append(r.data, value...)
			hasData = true
		case "event":
			e.name = string(value)
		case "", "id", "retry": // "" is a comment
		default:
			r.junk = true
		}
	}
}

// line reads one line without its end. It is valid until the next call. What
// follows the last line end counts as a line if the stream ended cleanly.
func (r *eventReader) line() ([]byte, error) {
	for {
		if !r.begun && (len(r.buf) >= 3 || r.err != nil) {
			r.begun = true
			if bytes.HasPrefix(r.buf, []byte("\ufeff")) {
				r.pos = 3
			}
		}
		if r.begun {
			if r.skipLF && r.pos < len(r.buf) {
				if r.buf[r.pos] == '\n' {
					r.pos++
				}
				r.skipLF = false
			}
			r.seen = max(r.seen, r.pos)
			if i := lineEnd(r.buf[r.seen:]); i >= 0 {
				line := r.buf[r.pos : r.seen+i]
				r.skipLF = r.buf[r.seen+i] == '\r'
				r.pos = r.seen + i + 1
				if len(line) > r.limit {
					return nil, errTooLarge
				}
				return line, nil
			}
			r.seen = len(r.buf)
			if len(r.buf)-r.pos > r.limit {
				return nil, errTooLarge
			}
		}
		if r.err != nil {
			if errors.Is(r.err, io.EOF) && r.pos < len(r.buf) {
				line := r.buf[r.pos:]
				r.pos = len(r.buf)
				return line, nil
			}
			return nil, r.err
		}
		r.fill()
	}
}

// lineEnd is the index of the first \n or \r, -1 if there is none.
func lineEnd(b []byte) int {
	i := bytes.IndexByte(b, '\n')
	if i >= 0 {
		b = b[:i]
	}
	if j := bytes.IndexByte(b, '\r'); j >= 0 {
		return j
	}
	return i
}

// fill reads more, making room first.
func (r *eventReader) fill() {
	if r.pos > 0 {
		n := copy(r.buf, r.buf[r.pos:])
		r.buf, r.seen, r.pos = r.buf[:n], r.seen-r.pos, 0
	}
	if len(r.buf) == cap(r.buf) {
		grown := make([]byte, len(r.buf), 2*cap(r.buf))
		copy(grown, r.buf)
		r.buf = grown
	}
	n, err := r.in.Read(r.buf[len(r.buf):cap(r.buf)])
	r.buf = r.buf[:len(r.buf)+n]
	r.err = err
}
