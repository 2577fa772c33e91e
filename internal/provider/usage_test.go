package provider

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestUsageByWire(t *testing.T) {
	tests := []struct {
		name, wire, json string
		want             *Usage
	}{
		{"openai", "openai", `{"prompt_tokens":100,"completion_tokens":50,"prompt_tokens_details":{"cached_tokens":60,"cache_write_tokens":30},"completion_tokens_details":{"reasoning_tokens":20}}`,
			&Usage{Input: 100, CachedInput: 60, CacheWrite: 30, Output: 50, Reasoning: 20}},
		{"details are null", "openai", `{"prompt_tokens":1,"completion_tokens":2,"prompt_tokens_details":null,"completion_tokens_details":null}`, &Usage{Input: 1, Output: 2}},
		{"as floats", "openai", `{"prompt_tokens":1.0,"completion_tokens":2e1}`, &Usage{Input: 1, Output: 20}},
		{"deepseek", "openai", `{"prompt_tokens":100,"completion_tokens":50,"prompt_cache_hit_tokens":40,"prompt_cache_miss_tokens":60}`, &Usage{Input: 100, CachedInput: 40, Output: 50}},
		{"xai", "xai", `{"prompt_tokens":100,"completion_tokens":50,"completion_tokens_details":{"reasoning_tokens":200}}`, &Usage{Input: 100, Output: 250, Reasoning: 200}},
		{"empty", "openai", `{}`, nil},
		{"all zero", "openai", `{"prompt_tokens":0,"completion_tokens":0}`, nil},
		{"negative", "openai", `{"prompt_tokens":100,"completion_tokens":-1}`, nil},
		{"beyond belief", "openai", `{"prompt_tokens":100,"completion_tokens":9000000000}`, nil},
		{"overflow", "openai", `{"prompt_tokens":1e300,"completion_tokens":5}`, nil},
		{"half a token", "openai", `{"prompt_tokens":1.5,"completion_tokens":5}`, nil},
		{"a word", "openai", `{"prompt_tokens":"many","completion_tokens":5}`, nil},
		{"an object", "openai", `{"prompt_tokens":{},"completion_tokens":5}`, nil},
		{"more cached than sent", "openai", `{"prompt_tokens":10,"completion_tokens":5,"prompt_tokens_details":{"cached_tokens":11}}`, nil},
		{"more reasoning than output", "openai", `{"prompt_tokens":10,"completion_tokens":5,"completion_tokens_details":{"reasoning_tokens":6}}`, nil},

		{"anthropic", "anthropic", `{"input_tokens":10,"cache_creation_input_tokens":20,"cache_read_input_tokens":30,"cache_creation":{"ephemeral_5m_input_tokens":15,"ephemeral_1h_input_tokens":5},"output_tokens":40,"output_tokens_details":{"thinking_tokens":8}}`,
			&Usage{Input: 60, CachedInput: 30, CacheWrite: 20, CacheWrite1h: 5, Output: 40, Reasoning: 8}},
		{"all from the cache", "anthropic", `{"input_tokens":0,"cache_read_input_tokens":30,"output_tokens":4}`, &Usage{Input: 30, CachedInput: 30, Output: 4}},
		{"only the parts of a cache write", "anthropic", `{"input_tokens":1,"cache_creation":{"ephemeral_5m_input_tokens":15,"ephemeral_1h_input_tokens":5},"output_tokens":4}`,
			&Usage{Input: 21, CacheWrite: 20, CacheWrite1h: 5, Output: 4}},
		{"parts larger than the whole", "anthropic", `{"input_tokens":1,"cache_creation_input_tokens":3,"cache_creation":{"ephemeral_1h_input_tokens":5},"output_tokens":4}`, nil},
		{"nulls", "anthropic", `{"input_tokens":1,"cache_creation_input_tokens":null,"cache_creation":null,"output_tokens":4}`, &Usage{Input: 1, Output: 4}},
		{"negative cache", "anthropic", `{"input_tokens":100,"cache_read_input_tokens":-30,"output_tokens":4}`, nil},

		{"gemini", "gemini", `{"promptTokenCount":100,"cachedContentTokenCount":40,"toolUsePromptTokenCount":5,"candidatesTokenCount":20,"thoughtsTokenCount":30,"totalTokenCount":155}`,
			&Usage{Input: 105, CachedInput: 40, Output: 50, Reasoning: 30}},
		{"thoughts only", "gemini", `{"promptTokenCount":100,"thoughtsTokenCount":30}`, &Usage{Input: 100, Output: 30, Reasoning: 30}},
		{"negative thoughts", "gemini", `{"promptTokenCount":100,"thoughtsTokenCount":-30}`, nil},
	}
	for _, tt := range tests {
		var got *Usage
		var err error
		switch tt.wire {
		case "anthropic":
			var u anthropicUsage
			err = json.Unmarshal([]byte(tt.json), &u)
			got = u.usage()
		case "gemini":
			var u geminiUsage
			err = json.Unmarshal([]byte(tt.json), &u)
			got = u.usage()
		default:
			var u openAIUsage
			err = json.Unmarshal([]byte(tt.json), &u)
			got = u.usage(quirksOf[tt.wire].reasoningApart)
		}
		if err != nil {
			t.Errorf("%s: %v", tt.name, err)
		}
		if diff := cmp.Diff(tt.want, got); diff != "" {
			t.Errorf("%s: %s", tt.name, diff)
		}
	}
}

func TestCostAsReported(t *testing.T) {
	for in, want := range map[string]string{
		`{"cost":0.00150}`:   "0.0015",
		`{"cost":0}`:         "0",
		`{"cost":1.2e-05}`:   "0.000012",
		`{"cost":1e-400000}`: "0", // exponents that take forever to add up
		`{"cost":1e400000}`:  "none",
		`{"cost":1e-300}`:    "0",
		`{"cost":-1}`:        "none",
		`{"cost":1000000}`:   "none",
		`{"cost":"0.1"}`:     "none",
		`{"cost":null}`:      "none",
		`{"cost":{}}`:        "none",
		`{}`:                 "none",
	} {
		var u openAIUsage
		if err := json.Unmarshal([]byte(in), &u); err != nil {
			t.Errorf("%s: %v", in, err)
		}
		got := "none"
		if u.Cost.amount != nil {
			got = u.Cost.amount.String()
		}
		if got != want {
			t.Errorf("%s: %s, want %s", in, got, want)
		}
	}
}

func TestEstimate(t *testing.T) {
	call := Call{Messages: []Message{{RoleSystem, "Be brief"}, {RoleUser, strings.Repeat("word ", 100)}}}
	if got := Estimate(call, "ok"); got != (Usage{Input: 2 + 4 + 125 + 4, Output: 1}) {
		t.Errorf("got %+v", got)
	}
	if got := Estimate(call, ""); got.Output != 0 || got.Input == 0 {
		t.Errorf("without text: %+v", got)
	}
}
