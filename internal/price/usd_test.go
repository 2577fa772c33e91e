package price_test

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/shopspring/decimal"

	"github.com/promptcademy/promptops/internal/price"
)

func usd(t testing.TB, s string) price.USD {
	t.Helper()
	amount, err := price.ParseUSD(s)
	if err != nil {
		t.Fatal(err)
	}
	return amount
}

func TestUSDIsAPlainJSONNumber(t *testing.T) {
	for in, want := range map[string]string{
		"0":                    "0",
		"0.00":                 "0",
		"0.001934":             "0.001934",
		"1.50":                 "1.5",
		"1e-7":                 "0.0000001",
		"1.5E+3":               "1500",
		"-0.25":                "-0.25",
		"0.123456789012345678": "0.123456789012345678",
		"12345678901234567890": "12345678901234567890",
	} {
		var amount price.USD
		if err := json.Unmarshal([]byte(in), &amount); err != nil {
			t.Errorf("read %s: %v", in, err)
			continue
		}
		got, err := json.Marshal(amount)
		if err != nil || string(got) != want {
			t.Errorf("%s was written as %s (%v), want %s", in, got, err, want)
		}
	}
}

func TestUSDInJSONStructs(t *testing.T) {
	type row struct {
		Cost  price.USD  `json:"cost"`
		Known *price.USD `json:"known"`
	}
	got, err := json.Marshal(row{})
	if want := `{"cost":0,"known":null}`; err != nil || string(got) != want {
		t.Errorf("got %s (%v), want %s", got, err, want)
	}
	amount := usd(t, "0.1")
	r := row{Known: &amount}
	if err := json.Unmarshal([]byte(`{"cost":0.30,"known":null}`), &r); err != nil {
		t.Fatal(err)
	}
	if r.Known != nil || r.Cost.String() != "0.3" {
		t.Errorf("read %+v", r)
	}
}

func TestUSDRefuses(t *testing.T) {
	for _, in := range []string{`"1.5"`, `true`, `{}`, `1e999999`, `1e-999999`, `1e101`,
		`0.` + strings.Repeat("1", 200)} {
		var amount price.USD
		if err := json.Unmarshal([]byte(in), &amount); err == nil {
			t.Errorf("%.20q was taken as %.40s", in, amount)
		}
	}
	for _, in := range []string{"", " ", "1,5", "$1", "NaN", "Infinity", "0x10", "1 2"} {
		if amount, err := price.ParseUSD(in); err == nil {
			t.Errorf("%q was taken as %s", in, amount)
		}
	}
}

func TestUSDArithmeticIsExact(t *testing.T) {
	var sum price.USD
	for range 1000 {
		sum = sum.Add(usd(t, "0.1"))
	}
	if !sum.Equal(usd(t, "100")) || sum.Cmp(usd(t, "100.0")) != 0 {
		t.Errorf("1000 × 0.1 = %s", sum)
	}
	if rest := sum.Sub(usd(t, "100")); !rest.IsZero() {
		t.Errorf("100 - 100 = %s", rest)
	}
	if usd(t, "0.2").Cmp(usd(t, "0.10")) != 1 || usd(t, "-1").Cmp(price.USD{}) != -1 {
		t.Error("Cmp orders by value")
	}
	if got := price.NewUSD(decimal.New(5, -1)).Decimal(); !got.Equal(decimal.New(5, -1)) {
		t.Errorf("Decimal() = %s", got)
	}
}

// FuzzUSD: what is read can be written, and reads back as the same amount.
func FuzzUSD(f *testing.F) {
	for _, seed := range []string{"0", "0.001934", "-1.50", "1e-7", "12e3", "1e99", "1e-99", "null", "\"1\"", "1e999999", "00.1", "-0", "."} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, in string) {
		var amount price.USD
		if err := json.Unmarshal([]byte(in), &amount); err != nil {
			return
		}
		written, err := json.Marshal(amount)
		if err != nil {
			t.Fatalf("%q cannot be written: %v", in, err)
		}
		var again price.USD
		if err := json.Unmarshal(written, &again); err != nil || !again.Equal(amount) {
			t.Fatalf("%q was written as %s, which reads as %s (%v)", in, written, again, err)
		}
		numeric, err := amount.NumericValue()
		if err != nil {
			t.Fatal(err)
		}
		var scanned price.USD
		if err := scanned.ScanNumeric(numeric); err != nil || scanned.String() != amount.String() {
			t.Fatalf("%q scanned as %s (%v)", in, scanned, err)
		}
	})
}
