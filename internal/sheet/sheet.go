// Package sheet writes CSV that spreadsheets and programs read alike.
package sheet

import (
	"encoding/csv"
	"fmt"
	"io"
	"strconv"
)

// Sheet is a CSV file as RFC 4180 asks for: comma, CRLF, a header. There is no
// byte order mark, since programs stumble over it.
type Sheet struct {
	out *csv.Writer
}

// New begins a Sheet with its header.
func New(w io.Writer, head ...string) *Sheet {
	out := csv.NewWriter(w)
	out.UseCRLF = true
	_ = out.Write(head) // what goes wrong comes back from End
	return &Sheet{out}
}

// Row adds a line. Cells are strings, which never become formulas; numbers and
// amounts, with all their digits; or nil, for what is not known.
func (s *Sheet) Row(cells ...any) {
	record := make([]string, len(cells))
	for i, cell := range cells {
		switch c := cell.(type) {
		case nil:
		case string:
			record[i] = Text(c)
		case int:
			record[i] = strconv.Itoa(c)
		case int64:
			record[i] = strconv.FormatInt(c, 10)
		case float64:
			record[i] = strconv.FormatFloat(c, 'f', -1, 64)
		case bool:
			record[i] = strconv.FormatBool(c)
		case fmt.Stringer:
			record[i] = c.String()
		default:
			panic(fmt.Sprintf("sheet: a cell of type %T", cell))
		}
	}
	_ = s.out.Write(record)
}

// End writes what is left, and says what went wrong at any time.
func (s *Sheet) End() error {
	s.out.Flush()
	return s.out.Error()
}

// Text is a cell of text, which no spreadsheet runs though it look like a formula.
func Text(s string) string {
	if s == "" {
		return s
	}
	switch s[0] {
	case '=', '+', '-', '@', '\t', '\r', '\n':
		return "'" + s
	}
	return s
}
