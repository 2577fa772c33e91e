package sandbox

import (
	"fmt"
	"hash/fnv"
	"strings"
	"time"
	"unicode/utf8"
)

// prompt is what any format asks for.
type prompt struct {
	provider  string
	model     string
	fault     string
	system    string
	turns     []string
	maxTokens int // 0: no limit
	stop      []string
	stream    bool
	withUsage bool   // OpenAI-style: usage in a stream only when asked for
	withCost  bool   // OpenRouter
	asked     string // how memory knows it; "" when there is none
	entry     *Entry // in the ledger; nil when there is none
}

// tally is what a call costs in tokens. input includes cached and cacheWrite,
// output includes reasoning.
type tally struct{ input, cached, cacheWrite, output, reasoning int }

// answer is what is answered: the text in pieces of one token each.
type answer struct {
	id     string
	pieces []string
	finish string // "stop" or "length"
	tally  tally
}

func (a answer) text() string { return strings.Join(a.pieces, "") }

// compose makes the answer to a prompt. The same prompt gets the same answer.
func compose(p prompt) answer {
	question := ""
	if len(p.turns) > 0 {
		question = p.turns[len(p.turns)-1]
	}
	h := hash(p.provider, p.model, p.system, strings.Join(p.turns, "\n"))
	text := prose(p, question, h)
	for _, stop := range p.stop {
		if stop != "" {
			text, _, _ = strings.Cut(text, stop)
		}
	}
	a := answer{id: fmt.Sprintf("%08x", h), pieces: tokens(text), finish: "stop"}
	a.tally.input = 3
	for _, turn := range append(p.turns, p.system) {
		if turn != "" {
			a.tally.input += len(tokens(turn)) + 4
		}
	}
	if a.tally.input > 1024 { // the size from which providers cache
		a.tally.cached = a.tally.input / 2 / 128 * 128
		if p.provider == "anthropic" { // the only one that is asked, and paid, for writing
			a.tally.cacheWrite = a.tally.input / 4
		}
	}
	if reasons(p.model) {
		a.tally.reasoning = 16 + int(h%113)
	}
	if p.maxTokens > 0 { // the limit is of both together
		a.tally.reasoning = min(a.tally.reasoning, p.maxTokens/2)
		if left := p.maxTokens - a.tally.reasoning; left < len(a.pieces) {
			a.pieces, a.finish = a.pieces[:left], "length"
		}
	}
	if p.fault == "huge-line" {
		a.pieces = []string{strings.Repeat(a.text()+" ", 300<<10/(len(a.text())+1)+1)}
		a.finish = "stop"
	}
	a.tally.output = a.tally.reasoning + len(a.pieces)
	return a
}

// tokens cuts text into pieces of at most eight bytes, words with the space
// before them; together they are the text.
func tokens(text string) []string {
	var pieces []string
	start := 0
	for i, r := range text {
		space := r == ' ' || r == '\n'
		if i > start && (space && !isSpace(text[i-1]) || i-start+utf8.RuneLen(r) > 8) {
			pieces = append(pieces, text[start:i])
			start = i
		}
	}
	if start < len(text) {
		pieces = append(pieces, text[start:])
	}
	return pieces
}

func isSpace(b byte) bool { return b == ' ' || b == '\n' }

// prose says what this is, what was asked, and how to ask better.
func prose(p prompt, question string, h uint32) string {
	if strings.TrimSpace(question) == "" {
		return "This is the sandbox. Nothing was asked, so there is nothing to answer."
	}
	var b strings.Builder
	fmt.Fprintf(&b, openings[h%uint32(len(openings))], p.model)
	fmt.Fprintf(&b, " Your prompt, “%s”, has %s.", shorten(question, 12), plural(len(strings.Fields(question)), "word"))
	if p.system != "" {
		fmt.Fprintf(&b, " It came with the instruction “%s”, which a real model would follow.", shorten(p.system, 8))
	}
	if n := len(p.turns); n > 1 {
		fmt.Fprintf(&b, " It continues a conversation of %s.", plural(n, "message"))
	}
	b.WriteString("\n\n")
	for i, tip := range fitting(question, h) {
		if i > 0 {
			b.WriteString(" ")
		}
		b.WriteString(tip)
	}
	b.WriteString("\n\n")
	b.WriteString(closings[h/7%uint32(len(closings))])
	return b.String()
}

var openings = []string{
	"This is the sandbox, standing in for %s: no provider was called and nothing was charged.",
	"Here is a sample answer from the sandbox in place of %s. It was made up on this machine, at no cost.",
	"You are talking to the sandbox, which plays %s so that you can try a run without any account.",
}

var closings = []string{
	"Add a key of your own to hear what the real model says.",
	"With a real key, the same run would bring a real answer, its tokens and its cost.",
	"Run the same prompt on several models at once and compare how each of them reads it.",
}

// fitting picks two pieces of advice that fit the prompt.
func fitting(question string, h uint32) []string {
	var tips []string
	low := strings.ToLower(question)
	has := func(words ...string) bool {
		for _, w := range words {
			if strings.Contains(low, w) {
				return true
			}
		}
		return false
	}
	if len(strings.Fields(question)) < 8 {
		tips = append(tips, "It is short, so a model has to guess a good deal: say in one sentence what you already know and what you want to do with the answer.")
	}
	if !has(" for ", " to a ", "audience", "beginner", "like i") {
		tips = append(tips, "Say who the answer is for; the same facts read differently for a beginner and for an expert.")
	}
	if !has("list", "table", "json", "steps", "bullet", "sentence", "words", "brief", "short") {
		tips = append(tips, "Name the form you want, such as five steps, a small table or one paragraph, and the answer becomes easier to check.")
	}
	if !has("example", "for instance", "such as") {
		tips = append(tips, "One good example in the prompt often does more than three sentences of instructions.")
	}
	if !has("why", "because", "reason") {
		tips = append(tips, "Add the reason behind the request: a model that knows the purpose leaves out what does not serve it.")
	}
	tips = append(tips,
		"Ask for what is uncertain to be marked as such, and check those places first.",
		"Once the answer is nearly right, change one thing in the prompt at a time and compare.")
	first := int(h/3) % (len(tips) - 1)
	return tips[first : first+2]
}

// shorten is the first words of a text, on one line.
func shorten(text string, words int) string {
	fields := strings.Fields(text)
	if len(fields) <= words {
		return strings.Join(fields, " ")
	}
	return strings.Join(fields[:words], " ") + " …"
}

func plural(n int, noun string) string {
	if n == 1 {
		return "one " + noun
	}
	return fmt.Sprintf("%d %ss", n, noun)
}

// reasons says whether a model is of a family that thinks before it answers.
func reasons(model string) bool {
	for _, family := range []string{
		"gpt-5", "gpt-6", "gpt-oss", "o3", "o4", "opus", "gemini-2.5", "gemini-3", "grok-4",
		"reasoner", "deepseek-v4", "magistral", "qwen3", "thinking",
	} {
		if strings.Contains(model, family) {
			return true
		}
	}
	return false
}

// rhythm is how fast a model answers.
type rhythm struct{ first, word time.Duration }

func paceOf(model string) rhythm {
	h := hash(model)
	first := 120 + h%180
	for _, small := range []string{"mini", "nano", "flash", "haiku", "lite", "instant", "small", "luna", "fast"} {
		if strings.Contains(model, small) {
			first = 50 + h%70
		}
	}
	return rhythm{
		first: time.Duration(first) * time.Millisecond,
		word:  time.Duration(10+h%11) * time.Millisecond,
	}
}

func hash(parts ...string) uint32 {
	h := fnv.New32a()
	for _, part := range parts {
		_, _ = h.Write([]byte(part))
		_, _ = h.Write([]byte{0})
	}
	return h.Sum32()
}
