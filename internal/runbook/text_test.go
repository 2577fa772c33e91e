package runbook

import (
	"io/fs"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func TestBuiltIn(t *testing.T) {
	files, err := fs.Glob(pages, "pages/*.md")
	if err != nil {
		t.Fatal(err)
	}
	var named []string
	for _, p := range BuiltIn() {
		named = append(named, "pages/"+p.Slug+".md")
		text, _, problems := clean(p.Markdown, "")
		if p.Title() == "" || p.Summary() == "" || text != p.Markdown || problems != nil || checkSlug(p.Slug) != nil {
			t.Errorf("%s: title %q, summary %q, problems %v, clean %v", p.Slug, p.Title(), p.Summary(), problems, text == p.Markdown)
		}
		if !strings.Contains(p.Markdown, "\n1. ") || !strings.Contains(p.Markdown, "{{check ") || !strings.Contains(p.Markdown, "\n## When it is over\n") {
			t.Errorf("%s has no steps, no check, or does not say when it is over", p.Slug)
		}
	}
	slices.Sort(named)
	if diff := cmp.Diff(files, named); diff != "" {
		t.Errorf("files and order (-files +order):\n%s", diff)
	}
}

func TestMerge(t *testing.T) {
	const base = "# T\n\none\n\ntwo\n\nthree\n"
	for name, test := range map[string]struct{ mine, theirs, want string }{
		"mine only":       {"# T\n\nONE\n\ntwo\n\nthree\n", base, "# T\n\nONE\n\ntwo\n\nthree\n"},
		"theirs only":     {base, "# T\n\none\n\ntwo\n", "# T\n\none\n\ntwo\n"},
		"both apart":      {"# T\n\nONE\n\ntwo\n\nthree\n", "# T\n\none\n\ntwo\n\nTHREE\n", "# T\n\nONE\n\ntwo\n\nTHREE\n"},
		"both the same":   {"# T\n\nONE\n\ntwo\n\nthree\n", "# T\n\nONE\n\ntwo\n\nthree\n", "# T\n\nONE\n\ntwo\n\nthree\n"},
		"same and apart":  {"# T\n\nONE\n\ntwo\n\nthree\nfour\n", "# T\n\nONE\n\ntwo\n\nthree\n", "# T\n\nONE\n\ntwo\n\nthree\nfour\n"},
		"the same line":   {"# T\n\nONE\n\ntwo\n\nthree\n", "# T\n\nEins\n\ntwo\n\nthree\n", ""},
		"one deletes":     {"# T\n\ntwo\n\nthree\n", "# T\n\none more\n\ntwo\n\nthree\n", ""},
		"both add there":  {base + "mine\n", base + "theirs\n", ""},
		"begin and end":   {"# U\n\none\n\ntwo\n\nthree\n", base + "end\n", "# U\n\none\n\ntwo\n\nthree\nend\n"},
		"everything anew": {"# X\nx\n", "# Y\ny\n", ""},
	} {
		got, ok := Merge(base, test.mine, test.theirs)
		if ok != (test.want != "") || ok && got != test.want {
			t.Errorf("%s: %v\n%s", name, ok, cmp.Diff(test.want, got))
		}
	}
}

// Whatever was typed: a merge holds every line that either side added, and a
// comparison gives back both texts.
func TestNobodysWordsAreLost(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	text := func(alphabet string) string {
		var b strings.Builder
		for range random.IntN(12) {
			b.WriteByte(alphabet[random.IntN(len(alphabet))])
			b.WriteByte('\n')
		}
		return b.String()
	}
	edit := func(base, mark string) string {
		lines := linesOf(base)
		at := 0
		if len(lines) > 0 {
			at = random.IntN(len(lines))
		}
		return strings.Join(slices.Insert(slices.Clone(lines), at, mark), "\n") + "\n"
	}
	merges := 0
	for range 3000 {
		a, b := text("abc"), text("abc")
		var before, after []string
		for _, line := range Diff(a, b) {
			if line.Kind != '+' {
				before = append(before, line.Text)
			}
			if line.Kind != '-' {
				after = append(after, line.Text)
			}
		}
		if !slices.Equal(before, linesOf(a)) || !slices.Equal(after, linesOf(b)) {
			t.Fatalf("comparing %q with %q gives %q and %q", a, b, before, after)
		}
		base := text("abcdefgh")
		mine, theirs := edit(base, "MINE"), edit(base, "THEIRS")
		merged, ok := Merge(base, mine, theirs)
		if !ok {
			continue
		}
		merges++
		lines := linesOf(merged)
		if !slices.Contains(lines, "MINE") || !slices.Contains(lines, "THEIRS") || len(lines) != len(linesOf(base))+2 {
			t.Fatalf("merging %q and %q, made of %q, gives %q", mine, theirs, base, merged)
		}
		if other, ok := Merge(base, theirs, mine); !ok || other != merged {
			t.Fatalf("the other way round it gives %q, not %q", other, merged)
		}
	}
	if merges < 500 {
		t.Errorf("only %d merged", merges)
	}
}

func somewhere(path string) bool { return path == "/usage" || path == "/runbook/slow-runs" }

func html(r Rendered) string {
	var b strings.Builder
	for _, p := range r.Parts {
		if p.Check != "" {
			b.WriteString("[" + p.Check + "]")
		}
		b.WriteString(p.HTML)
	}
	return b.String()
}

func TestRender(t *testing.T) {
	places := Places{Page: somewhere, Check: func(id string) bool { return id == "database" || id == "clock" }}
	for name, test := range map[string]struct {
		markdown string
		has      []string
		hasNot   []string
		checks   []string
		problems int
	}{
		"check in a step":  {"1. Look.\n\n   {{check \"database\"}}\n\n   Then act.\n2. Next.\n", []string{"<li>\n<p>Look.</p>\n[database]<p>Then act.</p>"}, []string{"{{"}, []string{"database"}, 0},
		"check after text": {"Look:\n{{ check \"clock\" }}\nand on\n", []string{"<p>Look:</p>\n[clock]<p>and on</p>"}, nil, []string{"clock"}, 0},
		"check in a line":  {"Look {{check \"clock\"}} here\n", []string{"{{check &quot;clock&quot;}}"}, []string{"[clock]"}, nil, 0},
		"check in code":    {"```\n{{check \"clock\"}}\n```\n", []string{"{{check &quot;clock&quot;}}"}, []string{"[clock]"}, nil, 0},
		"check twice":      {"{{check \"clock\"}}\n\n{{check \"clock\"}}\n", []string{"[clock][clock]"}, nil, []string{"clock"}, 0},
		"unknown check":    {"{{check \"nothing\"}}\n", []string{"There is no check “nothing”"}, []string{"[nothing]"}, nil, 1},
		"forged check":     {"a\x00clock\x00b\n", []string{"a\ufffdclock\ufffdb"}, []string{"[clock]"}, nil, 0},
		"script":           {"<script>alert(1)</script>\n\n<img src=x onerror=alert(1)> a <b onclick=x>b</b>\n", nil, []string{"<script", "<img", "<b", "onerror"}, nil, 1},
		"script in code":   {"`<script>`\n\n    <script>\n\n```x<y\n<script>\n```\n", []string{"&lt;script&gt;"}, []string{"<script"}, nil, 0},
		"scripts linked":   {"[a](javascript:alert(1)) [b](JaVaScRiPt:x) [c](data:text/html,x) [d](vbscript:x) <javascript:x>\n", []string{"a b c d"}, []string{"href=\"j", "href=\"J", "data:"}, nil, 4},
		"other sites":      {"[a](//evil.example) [b](/\\evil.example) [c](https:evil)\n", []string{"a b c"}, []string{"href"}, nil, 3},
		"links":            {"[u](/usage?x=1) [s](/runbook/slow-runs#a) [w](https://status.openai.com) [m](mailto:a@b.example) [h](#top)\n", []string{`<a href="/usage?x=1">u</a>`, `<a href="https://status.openai.com" rel="noopener noreferrer">w</a>`, `href="mailto:`, `href="#top"`}, nil, nil, 0},
		"dead links":       {"See [**Fallback** Keys](/keys/fallback) now and [x](usage).\n", []string{"See <strong>Fallback</strong> Keys now and x."}, []string{"<a"}, nil, 2},
		"reference":        {"[a][1]\n\n[1]: javascript:alert(1)\n", []string{"<p>a</p>"}, []string{"href"}, nil, 1},
		"picture":          {"![a **b**](https://x.example/a.png)\n", []string{"a <strong>b</strong>"}, []string{"<img"}, nil, 1},
		"table":            {"| a | b |\n| --- | ---: |\n| 1 | 2 |\n", []string{"<table>", `<th align="right">`}, []string{"style="}, nil, 0},
		"attribute":        {"[a](/usage \"x\\\" onclick=\\\"y\")\n", []string{"title="}, []string{`" onclick`}, nil, 0},
		"heading":          {"## A <b>x</b> \"y\"\n", []string{"<h2 id="}, []string{"<b>"}, nil, 1},
	} {
		r := Render(test.markdown, places)
		got := html(r)
		for _, piece := range test.has {
			if !strings.Contains(got, piece) {
				t.Errorf("%s lacks %q:\n%s", name, piece, got)
			}
		}
		for _, piece := range test.hasNot {
			if strings.Contains(got, piece) {
				t.Errorf("%s has %q:\n%s", name, piece, got)
			}
		}
		if diff := cmp.Diff(test.checks, r.Checks); diff != "" || len(r.Problems) != test.problems {
			t.Errorf("%s: problems %q, checks (-want +got):\n%s", name, r.Problems, diff)
		}
	}
}

// What takes a parser long is refused before it is read.
func TestRenderInTime(t *testing.T) {
	places := Places{Page: somewhere, Check: func(string) bool { return true }}
	for _, piece := range []string{"[", "![", "*a ", "`", "> ", "1. ", "- ", "[a](", "~~a", "<", "{{check \"clock\"}}\n", "[a]: b\n", "| a |\n| - |\n"} {
		for _, text := range []string{strings.Repeat(piece, MaxBytes/len(piece)), strings.Repeat(strings.Repeat(piece, 1000/len(piece))+"\n", MaxBytes/1001)} {
			began := time.Now()
			Render(text, places)
			if took := time.Since(began); took > 20*time.Second {
				t.Errorf("%q many times takes %s", piece, took)
			}
		}
	}
	if r := Render(strings.Repeat("> ", 20_000), places); len(r.Problems) != 1 || r.Parts != nil {
		t.Errorf("%+v", r.Problems)
	}
}

func FuzzRender(f *testing.F) {
	for _, p := range BuiltIn() {
		f.Add(p.Markdown)
	}
	f.Add("{{check \"clock\"}}\x00clock\x00 <script> [a](javascript:x)")
	f.Fuzz(func(t *testing.T, markdown string) {
		r := Render(markdown, Places{Page: somewhere, Check: func(id string) bool { return id == "clock" }})
		got := strings.ToLower(html(r))
		for _, bad := range []string{"<script", "<img", "<iframe", `href="javascript:`, " style="} {
			if strings.Contains(got, bad) && !strings.Contains(got, "<code>") {
				t.Errorf("%q became %q", markdown, got)
			}
		}
		for _, p := range r.Parts {
			if p.Check != "" && p.Check != "clock" {
				t.Errorf("%q places a check %q", markdown, p.Check)
			}
		}
	})
}

func TestSearch(t *testing.T) {
	procedures := BuiltIn()
	slugs := func(hits []Hit) (slugs []string) {
		for _, h := range hits {
			slugs = append(slugs, h.Slug)
		}
		return slugs
	}
	for query, first := range map[string]string{"leaked": "leaked-key", "PITR": "truncated-tables", "42501 policy": "rls-permission-errors", "outage PROVIDER": "provider-outage"} {
		hits := Search(procedures, query)
		if len(hits) == 0 || hits[0].Slug != first {
			t.Errorf("%q finds %v", query, slugs(hits))
		}
		for _, h := range hits {
			if len(h.Passages) > maxPassages || len(h.Passages) == 0 && !h.InTitle {
				t.Errorf("%q: %s has passages %q", query, h.Slug, h.Passages)
			}
		}
	}
	if hits := Search(procedures, "zebra"); hits != nil {
		t.Errorf("zebra finds %v", slugs(hits))
	}
	if hits := Search(procedures, "  "); hits != nil {
		t.Error("nothing finds something")
	}
}
