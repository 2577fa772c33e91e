package sheet_test

import (
	"io"
	"strings"
	"testing"

	"github.com/shopspring/decimal"

	"github.com/promptcademy/promptops/internal/sheet"
)

func TestSheet(t *testing.T) {
	var got strings.Builder
	s := sheet.New(&got, "name", "number")
	s.Row("=cmd()", -5)
	s.Row(`@a,"b"`, int64(7))
	s.Row("\tx", decimal.RequireFromString("-0.000000000120"))
	s.Row("-", nil)
	s.Row("", true)
	if err := s.End(); err != nil {
		t.Fatal(err)
	}
	want := "name,number\r\n'=cmd(),-5\r\n\"'@a,\"\"b\"\"\",7\r\n'\tx,-0.00000000012\r\n'-,\r\n,true\r\n"
	if got.String() != want {
		t.Errorf("got\n%q\nwant\n%q", got.String(), want)
	}
}

type brokenPipe struct{}

func (brokenPipe) Write([]byte) (int, error) { return 0, io.ErrClosedPipe }

func TestSheetSaysThatNobodyGotIt(t *testing.T) {
	if err := sheet.New(brokenPipe{}, "a").End(); err == nil {
		t.Error("nobody got the file, and nobody was told")
	}
}
