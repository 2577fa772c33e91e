package provider

import (
	"errors"
	"io"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/google/go-cmp/cmp"
)

// readEvents reads all events as "name|data", and the error that ends them.
func readEvents(r io.Reader, limit int) ([]string, error) {
	events := newEventReader(r, limit)
	defer events.release()
	var all []string
	for {
		e, err := events.next()
		if err != nil {
			return all, err
		}
		all = append(all, e.name+"|"+string(e.data))
	}
}

func TestEventReader(t *testing.T) {
	long := strings.Repeat("x", 200<<10)
	tests := []struct {
		name, in string
		want     []string
	}{
		{"nothing", "", nil},
		{"one", "data: a\n\n", []string{"|a"}},
		{"no space", "data:a\n\n", []string{"|a"}},
		{"two spaces", "data:  a\n\n", []string{"| a"}},
		{"crlf", "event: e\r\ndata: a\r\n\r\ndata: b\r\n\r\n", []string{"e|a", "|b"}},
		{"cr", "event: e\rdata: a\r\rdata: b\r\r", []string{"e|a", "|b"}},
		{"mixed ends", "data: a\r\n\ndata: b\n\r\ndata: c\r\r\n", []string{"|a", "|b", "|c"}},
		{"several lines", "data: a\ndata\ndata: b\n\n", []string{"|a\n\nb"}},
		{"comments", ": hello\n\n:\n:keep-alive\n\ndata: a\n: x\ndata: b\n\n", []string{"|a\nb"}},
		{"other fields", "id: 1\nretry: 5\ndata: a\nnonsense\n\n", []string{"|a"}},
		{"name without data", "event: e\n\ndata: a\n\n", []string{"|a"}},
		{"byte order mark", "\ufeffdata: a\n\n", []string{"|a"}},
		{"byte order mark only at the start", "data: a\n\n\ufeffdata: b\n\n", []string{"|a"}},
		{"empty data", "data:\n\n", []string{"|"}},
		{"colon in data", "data: {\"a\": 1}\n\n", []string{`|{"a": 1}`}},
		{"no end", "data: a\n\ndata: b", []string{"|a", "|b"}},
		{"long line", "data: " + long + "\n\ndata: b\n\n", []string{"|" + long, "|b"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			for name, r := range map[string]io.Reader{
				"whole": strings.NewReader(tt.in), "bytewise": iotest.OneByteReader(strings.NewReader(tt.in)), "data with EOF": iotest.DataErrReader(strings.NewReader(tt.in)),
			} {
				got, err := readEvents(r, maxLine)
				if !errors.Is(err, io.EOF) {
					t.Errorf("%s: error %v", name, err)
				}
				if diff := cmp.Diff(tt.want, got); diff != "" {
					t.Errorf("%s: %s", name, diff)
				}
			}
		})
	}
}

func TestEventReaderLimits(t *testing.T) {
	for name, in := range map[string]string{
		"line":        "data: " + strings.Repeat("x", 2000) + "\n\n",
		"no line end": strings.Repeat("x", 2000),
		"many lines":  strings.Repeat("data: xxxxxxxxxx\n", 200),
	} {
		if _, err := readEvents(strings.NewReader(in), 1000); !errors.Is(err, errTooLarge) {
			t.Errorf("%s: %v, want errTooLarge", name, err)
		}
	}
}

func TestEventReaderBrokenOff(t *testing.T) {
	r := io.MultiReader(strings.NewReader("data: a\n\ndata: b\n"), iotest.ErrReader(io.ErrUnexpectedEOF))
	got, err := readEvents(r, maxLine)
	if !errors.Is(err, io.ErrUnexpectedEOF) || !cmp.Equal(got, []string{"|a"}) {
		t.Errorf("got %q, %v", got, err)
	}
}

// However the bytes arrive, the events are the same.
func FuzzEventReader(f *testing.F) {
	for _, seed := range []string{"data: a\n\n", "event: e\r\ndata: a\r\n\r\n", "\ufeff: c\r\rdata:x\rdata\r\r", "\r\n\n\rdata", "data: " + strings.Repeat("y", 5000)} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, in string) {
		const limit = 4096
		whole, wholeErr := readEvents(strings.NewReader(in), limit)
		bytewise, err := readEvents(iotest.OneByteReader(strings.NewReader(in)), limit)
		if diff := cmp.Diff(whole, bytewise); diff != "" || !errors.Is(err, wholeErr) {
			t.Errorf("%v and %v:\n%s", wholeErr, err, diff)
		}
		for _, e := range whole {
			if len(e) > 2*limit+1 {
				t.Errorf("an event of %d bytes", len(e))
			}
		}
		if errors.Is(wholeErr, io.EOF) {
			lf := strings.NewReplacer("\r\n", "\n", "\r", "\n").Replace(in)
			same, err := readEvents(strings.NewReader(lf), limit)
			if diff := cmp.Diff(whole, same); diff != "" || !errors.Is(err, io.EOF) {
				t.Errorf("with other line ends: %v\n%s", err, diff)
			}
		}
	})
}
