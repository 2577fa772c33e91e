package runbook

import (
	"bytes"
	"fmt"
	"net/url"
	"regexp"
	"strings"

	"github.com/yuin/goldmark"
	"github.com/yuin/goldmark/ast"
	"github.com/yuin/goldmark/extension"
	"github.com/yuin/goldmark/parser"
	"github.com/yuin/goldmark/renderer"
	"github.com/yuin/goldmark/text"
	"github.com/yuin/goldmark/util"
)

// Part is a piece of a procedure: HTML, or the place of a check. Put together in
// this order they are one document; a single one need not be well-formed.
type Part struct {
	HTML  string // nothing in it comes from the author as markup
	Check string // id of the check that stands here; "" for HTML
}

// Rendered is a procedure that can be shown.
type Rendered struct {
	Parts    []Part
	Checks   []string // ids in the text, each once
	Problems []string // links that lead nowhere and the like, in sentences
}

// Places says what a text may point at.
type Places struct {
	Page  func(path string) bool // is there a page of ours at this path?
	Check func(id string) bool   // is there such a check?
}

// checkLine is a line of its own that places a check.
var checkLine = regexp.MustCompile(`^\s*\{\{\s*check\s+"([a-z0-9-]{1,60})"\s*\}\}\s*$`)

// mark stands in the HTML where a check goes. No text holds a NUL: the parser
// replaces it.
const mark = "\x00"

// Render makes HTML of Markdown: with tables, without the author's own HTML, and
// with links only to where there is something.
func Render(markdown string, places Places) Rendered {
	if tooLarge(markdown) {
		return Rendered{Problems: []string{"The text is too large to be shown: at most 32 KB and 2,000 lines of 4,000 bytes."}}
	}
	md := goldmark.New(
		goldmark.WithExtensions(extension.NewTable(extension.WithTableCellAlignMethod(extension.TableCellAlignAttribute)), extension.Strikethrough),
		goldmark.WithParserOptions(parser.WithAutoHeadingID(), parser.WithBlockParsers(util.Prioritized(checkParser{}, 50))),
		goldmark.WithRendererOptions(renderer.WithNodeRenderers(util.Prioritized(nodes{}, 50))),
	)
	source := []byte(strings.ReplaceAll(markdown, mark, "\ufffd"))
	document := md.Parser().Parse(text.NewReader(source))
	var out Rendered
	out.settle(document, places)
	var html bytes.Buffer
	if err := md.Renderer().Render(&html, source, document); err != nil { // a buffer takes everything
		out.Problems = append(out.Problems, "The text could not be shown.")
		return out
	}
	for i, piece := range strings.Split(html.String(), mark) {
		if i%2 == 1 {
			out.Parts = append(out.Parts, Part{Check: piece})
		} else if piece != "" {
			out.Parts = append(out.Parts, Part{HTML: piece})
		}
	}
	return out
}

// settle goes through the text before it is written: it collects the checks and
// takes apart links that lead nowhere.
func (r *Rendered) settle(document ast.Node, places Places) {
	seen := map[string]bool{}
	var dead, images []ast.Node
	_ = ast.Walk(document, func(n ast.Node, entering bool) (ast.WalkStatus, error) {
		if !entering {
			return ast.WalkContinue, nil
		}
		switch n := n.(type) {
		case *checkNode:
			n.known = places.Check(n.id)
			if !n.known {
				r.problem("There is no check “%s”.", n.id)
			} else if !seen[n.id] {
				seen[n.id] = true
				r.Checks = append(r.Checks, n.id)
			}
		case *ast.Link:
			if problem := linkProblem(string(n.Destination), places); problem != "" {
				r.problem("The link “%s” %s.", n.Destination, problem)
				dead = append(dead, n)
			} else if !strings.HasPrefix(string(n.Destination), "/") && !strings.HasPrefix(string(n.Destination), "#") {
				n.SetAttributeString("rel", []byte("noopener noreferrer"))
			}
		case *ast.AutoLink:
			n.SetAttributeString("rel", []byte("noopener noreferrer"))
		case *ast.Image:
			r.problem("The picture “%s” is not shown: pages load nothing from elsewhere.", n.Destination)
			images = append(images, n)
		case *ast.RawHTML, *ast.HTMLBlock:
			r.problem("HTML is not shown: write Markdown.")
		}
		return ast.WalkContinue, nil
	})
	for _, n := range append(dead, images...) {
		unwrap(n)
	}
}

func (r *Rendered) problem(format string, args ...any) {
	problem := fmt.Sprintf(format, args...)
	for _, p := range r.Problems {
		if p == problem {
			return
		}
	}
	r.Problems = append(r.Problems, problem)
}

// linkProblem says why a link may not or need not be followed.
func linkProblem(destination string, places Places) string {
	to, err := url.Parse(destination)
	if err != nil {
		return "cannot be read"
	}
	switch {
	case to.Scheme == "https" || to.Scheme == "http":
		if to.Host == "" {
			return "names no host"
		}
		return ""
	case to.Scheme == "mailto":
		return ""
	case to.Scheme != "":
		return "is neither of the web nor an e-mail address"
	case to.Host != "" || strings.HasPrefix(destination, "//") || strings.Contains(destination, "\\"):
		return "must begin with https:// or with a single slash"
	case to.Path == "":
		return ""
	case !strings.HasPrefix(to.Path, "/"):
		return "must begin with a slash, like /usage"
	case !places.Page(to.Path):
		return "leads to no page of this dashboard"
	}
	return ""
}

// unwrap leaves what a link says in the place of the link.
func unwrap(n ast.Node) {
	parent := n.Parent()
	for child := n.FirstChild(); child != nil; child = n.FirstChild() {
		parent.InsertBefore(parent, n, child)
	}
	parent.RemoveChild(parent, n)
}

// checkNode is the place of a check.
type checkNode struct {
	ast.BaseBlock
	id    string
	known bool
}

var checkKind = ast.NewNodeKind("Check")

func (*checkNode) Kind() ast.NodeKind              { return checkKind }
func (n *checkNode) Dump(source []byte, level int) { ast.DumpHelper(n, source, level, nil, nil) }

// checkParser reads {{check "id"}}.
type checkParser struct{}

func (checkParser) Trigger() []byte { return []byte{'{'} }

func (checkParser) Open(_ ast.Node, reader text.Reader, _ parser.Context) (ast.Node, parser.State) {
	line, segment := reader.PeekLine()
	found := checkLine.FindSubmatch(line)
	if found == nil {
		return nil, parser.NoChildren
	}
	reader.Advance(segment.Len() - 1)
	return &checkNode{id: string(found[1])}, parser.NoChildren
}

func (checkParser) Continue(ast.Node, text.Reader, parser.Context) parser.State { return parser.Close }
func (checkParser) Close(ast.Node, text.Reader, parser.Context)                 {}
func (checkParser) CanInterruptParagraph() bool                                 { return true }
func (checkParser) CanAcceptIndentedLine() bool                                 { return false }

// nodes writes what the usual renderer does not, or does otherwise.
type nodes struct{}

func (nodes) RegisterFuncs(r renderer.NodeRendererFuncRegisterer) {
	r.Register(checkKind, func(w util.BufWriter, _ []byte, n ast.Node, entering bool) (ast.WalkStatus, error) {
		if check := n.(*checkNode); entering && check.known {
			_, _ = w.WriteString(mark + check.id + mark)
		} else if entering {
			_, _ = w.WriteString(`<p class="muted">There is no check “` + string(util.EscapeHTML([]byte(check.id))) + "”.</p>\n")
		}
		return ast.WalkContinue, nil
	})
	nothing := func(_ util.BufWriter, _ []byte, _ ast.Node, _ bool) (ast.WalkStatus, error) {
		return ast.WalkSkipChildren, nil
	}
	r.Register(ast.KindHTMLBlock, nothing)
	r.Register(ast.KindRawHTML, nothing)
	// Lines of a command are scrolled, not wrapped, and reached by keyboard.
	r.Register(ast.KindFencedCodeBlock, writeCode)
	r.Register(ast.KindCodeBlock, writeCode)
}

func writeCode(w util.BufWriter, source []byte, n ast.Node, entering bool) (ast.WalkStatus, error) {
	if !entering {
		return ast.WalkContinue, nil
	}
	_, _ = w.WriteString(`<pre tabindex="0" role="group" aria-label="Commands"><code>`)
	for i := range n.Lines().Len() {
		line := n.Lines().At(i)
		_, _ = w.Write(util.EscapeHTML(line.Value(source)))
	}
	_, _ = w.WriteString("</code></pre>\n")
	return ast.WalkSkipChildren, nil
}
