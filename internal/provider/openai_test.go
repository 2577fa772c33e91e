package provider

import (
	"errors"
	"fmt"
	"strings"
	"testing"
)

func TestOpenAIContent(t *testing.T) {
	for _, tt := range []struct {
		content, refusal, text string
		err                    error
	}{
		{content: `"Hello\nthere, \"chef\" \ud83d\ude00"`, text: "Hello\nthere, \"chef\" 😀"},
		{content: `null`, refusal: "No.", text: "No."},
		{content: `""`, refusal: "No.", text: "No."},
		{content: `[{"type":"thinking","thinking":[{"type":"text","text":"hm"}]},{"type":"text","text":"a"},{"type":"text","text":"b"}]`, text: "ab"},
		{content: `[{"type":"image_url","text":7},{"text":"of no type"},{"type":["text"],"text":"x"}]`},
		{content: `[]`},
		{content: `["a"]`, err: errShape},
		{content: `7`, err: errShape},
		{content: `{"type":"text","text":"a"}`, err: errShape},
	} {
		a := &answer{}
		body := fmt.Sprintf(`{"choices":[{"index":0,"message":{"content":%s,"refusal":%q},"finish_reason":"stop"}]}`, tt.content, tt.refusal)
		err := openAI{}.decoder(Call{}, a).whole([]byte(body))
		if a.reply.Text != tt.text || !errors.Is(err, tt.err) {
			t.Errorf("%s is %q and %v, want %q and %v", tt.content, a.reply.Text, err, tt.text, tt.err)
		}
	}
}

func BenchmarkDecodeOpenAI(b *testing.B) {
	body := []byte(`{"id":"chatcmpl-1","object":"chat.completion","created":1761000000,"model":"gpt-5-mini","choices":[{"index":0,"message":{"role":"assistant","content":"` +
		strings.Repeat(`A short answer to a short question.\n`, 14) +
		`","refusal":null},"finish_reason":"stop"}],"usage":{"prompt_tokens":20,"completion_tokens":120,"total_tokens":140,"prompt_tokens_details":{"cached_tokens":0},"completion_tokens_details":{"reasoning_tokens":0}}}`)
	b.SetBytes(int64(len(body)))
	b.ReportAllocs()
	for b.Loop() {
		a := &answer{}
		if err := (openAI{}).decoder(Call{}, a).whole(body); err != nil {
			b.Fatal(err)
		}
	}
}
