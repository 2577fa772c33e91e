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
	day := time.Date(2026, 11, 2, 0, 0, 0, 0, time.UTC)
	line := func(group, sub string, sum usage.Sum) usage.Line {
		return usage.Line{Start: day, Group: usage.Value{ID: group, Name: group}, Sub: usage.Value{ID: sub, Name: sub}, Sums: usage.Sums{Sum: sum, Runs: 1}}
	}
	lines := []usage.Line{
		line("openai/gpt-5-mini", "=t", usage.Sum{
			Attempts: 12, Errors: 2, Unpriced: 1, Cost: usd(t, "0.000000000120"), Fallback: 3, FallbackCost: usd(t, "0.1"),
			Tokens: usage.Tokens{Input: 1000, CachedInput: 400, CacheWrite: 3, Output: 50, Reasoning: 20},
		}),
		line(`@a/,"b"`, "", usage.Sum{Attempts: 3, Running: 1, Unpriced: 2, UnknownUsage: 1}),
		line("\tx", "+1", usage.Sum{Attempts: 1}),
	}
	const figures = `attempts,errors,input_tokens,cached_input_tokens,cache_write_tokens,output_tokens,reasoning_tokens,total_tokens,cost_usd,unpriced,runs,running,cancelled,fallback_attempts,fallback_cost_usd,unknown_usage`
	for want, q := range map[string]usage.Query{
		"date,provider,model," + figures + "\r\n" +
			"2026-11-02,openai,openai/gpt-5-mini,12,2,1000,400,3,50,20,1050,0.00000000012,1,1,0,0,3,0.1,0\r\n" +
			`2026-11-02,'@a,"'@a/,""b""",3,0,0,0,0,0,0,0,,2,1,1,0,0,0,1` + "\r\n" +
			"2026-11-02,'\tx,'\tx,1,0,0,0,0,0,0,0,0,0,1,0,0,0,0,0\r\n": {},
		"hour,key_source,team_id,team," + figures + "\r\n" +
			"2026-11-02T00:00:00Z,openai/gpt-5-mini,'=t,'=t,12,2,1000,400,3,50,20,1050,0.00000000012,1,1,0,0,3,0.1,0\r\n" +
			`2026-11-02T00:00:00Z,"'@a/,""b""",,,3,0,0,0,0,0,0,0,,2,1,1,0,0,0,1` + "\r\n" +
			"2026-11-02T00:00:00Z,'\tx,'+1,'+1,1,0,0,0,0,0,0,0,0,0,1,0,0,0,0,0\r\n": {Bucket: usage.Hours, Group: usage.ByKey, Sub: usage.ByTeam},
	} {
		var got strings.Builder
		if err := usage.WriteCSV(&got, q, lines); err != nil {
			t.Fatal(err)
		}
		if got.String() != want {
			t.Errorf("got\n%s\nwant\n%s", got.String(), want)
		}
	}
}

type brokenPipe struct{}

func (brokenPipe) Write([]byte) (int, error) { return 0, io.ErrClosedPipe }

func TestWriteCSVReportsAFailedWrite(t *testing.T) {
	if err := usage.WriteCSV(brokenPipe{}, usage.Query{}, nil); err == nil {
		t.Error("nobody got the file, and nobody was told")
	}
}
