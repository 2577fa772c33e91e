package usage_test

import (
	"io"
	"strings"
	"testing"
	"time"

	"github.com/promptcademy/promptops/internal/price"
	"github.com/promptcademy/promptops/internal/usage"
)

func usd(t testing.TB, s string) price.USD {
	t.Helper()
	amount, err := price.ParseUSD(s)
	if err != nil {
		t.Fatal(err)
	}
	return amount
}

func TestWriteCSV(t *testing.T) {
	report := usage.Report{Days: []usage.Day{
		{Start: time.Date(2026, 11, 1, 0, 0, 0, 0, time.UTC)},
		{Start: time.Date(2026, 11, 2, 0, 0, 0, 0, time.UTC), Models: []usage.ModelSum{
			{Provider: "openai", Model: "openai/gpt-5-mini", Sum: usage.Sum{
				Attempts: 12, Errors: 2, Unpriced: 1, Cost: usd(t, "0.000000000120"),
				Tokens: usage.Tokens{Input: 1000, CachedInput: 400, CacheWrite: 3, Output: 50, Reasoning: 20},
			}},
			{Provider: "=cmd", Model: `@a,"b"`, Sum: usage.Sum{Attempts: 3, Running: 1, Unpriced: 2}},
			{Provider: "-x", Model: "\tx", Sum: usage.Sum{Attempts: 1}},
		}},
	}}
	want := strings.Join([]string{
		`date,provider,model,attempts,errors,input_tokens,cached_input_tokens,cache_write_tokens,output_tokens,reasoning_tokens,total_tokens,cost_usd,unpriced`,
		`2026-11-02,openai,openai/gpt-5-mini,12,2,1000,400,3,50,20,1050,0.00000000012,1`,
		`2026-11-02,'=cmd,"'@a,""b""",3,0,0,0,0,0,0,0,,2`,
		"2026-11-02,'-x,'\tx,1,0,0,0,0,0,0,0,0,0",
		``,
	}, "\r\n")
	var got strings.Builder
	if err := usage.WriteCSV(&got, report); err != nil {
		t.Fatal(err)
	}
	if got.String() != want {
		t.Errorf("got\n%s\nwant\n%s", got.String(), want)
	}
}

type brokenPipe struct{}

func (brokenPipe) Write([]byte) (int, error) { return 0, io.ErrClosedPipe }

func TestWriteCSVReportsAFailedWrite(t *testing.T) {
	if err := usage.WriteCSV(brokenPipe{}, usage.Report{}); err == nil {
		t.Error("nobody got the file, and nobody was told")
	}
}
