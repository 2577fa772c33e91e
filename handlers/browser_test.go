package handlers_test

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/cdproto/log"
	"github.com/chromedp/cdproto/network"
	"github.com/chromedp/cdproto/page"
	"github.com/chromedp/cdproto/runtime"
	"github.com/chromedp/chromedp"
	"github.com/chromedp/chromedp/kb"
)

// findBrowser is the Chromium to test with.
func findBrowser() (string, error) {
	if path := os.Getenv("CHROME"); path != "" {
		return exec.LookPath(path)
	}
	// Debian's wrapper in /usr/bin would leave processes behind.
	for _, name := range []string{"/usr/lib/chromium/chromium-headless-shell", "chromium", "chromium-browser", "google-chrome",
		"/Applications/Chromium.app/Contents/MacOS/Chromium", "/Applications/Google Chrome.app/Contents/MacOS/Google Chrome"} {
		if path, err := exec.LookPath(name); err == nil {
			return path, nil
		}
	}
	return "", fmt.Errorf("no browser was found: install Chromium, or set CHROME to its path")
}

// browser is the one of all tests: windows have nothing in common, and starting
// one takes a second.
var browser = sync.OnceValues(func() (context.Context, error) {
	path, err := findBrowser()
	if err != nil {
		return nil, err
	}
	ctx, stop := chromedp.NewExecAllocator(context.Background(), append(chromedp.DefaultExecAllocatorOptions[:],
		chromedp.ExecPath(path), chromedp.NoSandbox)...) // it sees nothing but our own pages
	browserStops = append(browserStops, stop)
	ctx, closeBrowser := chromedp.NewContext(ctx)
	browserStops = append(browserStops, closeBrowser)
	return ctx, chromedp.Do(ctx)
})

// browserStops end the browser, the last one first.
var browserStops []func()

func TestMain(m *testing.M) {
	code := m.Run()
	for _, stop := range slices.Backward(browserStops) {
		stop()
	}
	os.Exit(code)
}

func newBrowser(t *testing.T) context.Context {
	t.Helper()
	ctx, err := browser()
	must(t, err)
	return ctx
}

// patience is how long a browser may take on a busy machine.
const patience = time.Minute

// look is how a page is looked at.
type look struct {
	Theme string // light or dark
	Width int64
}

var (
	looks = []look{{"light", 1440}, {"dark", 1440}, {"light", 390}, {"dark", 390}}

	// tested are looks with every theme and every width: what is wrong with colours is
	// so at any width, and what is wrong with widths in any colours.
	tested = []look{{"light", 1440}, {"dark", 390}}
)

func (l look) String() string { return fmt.Sprintf("%s-%d", l.Theme, l.Width) }

// tab is a window of its own, with cookies of its own.
type tab struct {
	t    *testing.T
	ctx  context.Context
	site *site

	mu       sync.Mutex
	problems []string
	expected []string // parts of messages that are no problem
}

// newTab opens a window. Whatever its pages complain about fails the test when
// the window is closed.
func (s *site) newTab(t *testing.T, browser context.Context, cookies ...*http.Cookie) *tab {
	t.Helper()
	ctx, closeTab := chromedp.NewContext(browser, chromedp.WithNewBrowserContext())
	t.Cleanup(closeTab)
	b := &tab{t: t, ctx: ctx, site: s}
	must(t, chromedp.Listen(ctx, b.hear))
	do(b, log.Enable, cdp.Empty{})
	do(b, network.Enable, network.EnableParams{})
	do(b, emulation.SetFocusEmulationEnabled, emulation.SetFocusEmulationEnabledParams{Enabled: true}) // as if it were the only window
	do(b, page.AddScriptToEvaluateOnNewDocument, page.AddScriptToEvaluateOnNewDocumentParams{
		Source: `addEventListener("securitypolicyviolation", (e) => console.error("CSP: " + e.violatedDirective + " " + e.blockedURI))`,
	})
	for _, c := range cookies {
		do(b, network.SetCookie, network.SetCookieParams{Name: c.Name, Value: c.Value, URL: s.URL, HTTPOnly: new(true)})
	}
	t.Cleanup(func() {
		for _, problem := range b.complaints() {
			t.Error(problem)
		}
	})
	return b
}

// do sends one command to the browser.
func do[P, R any](b *tab, command cdp.Command[P, R], params P) R {
	b.t.Helper()
	result, err := chromedp.Call(b.ctx, command, params)
	must(b.t, err)
	return result
}

// hear collects what is wrong: errors, and requests to any other host.
func (b *tab) hear(event any) {
	complain := func(format string, args ...any) {
		b.mu.Lock()
		defer b.mu.Unlock()
		b.problems = append(b.problems, fmt.Sprintf(format, args...))
	}
	switch e := event.(type) {
	case *runtime.EventConsoleAPICalled:
		if e.Type == "error" || e.Type == "warning" || e.Type == "assert" {
			var words []string
			for _, arg := range e.Args {
				words = append(words, string(arg.Value)+arg.Description)
			}
			complain("console: %s", strings.Join(words, " "))
		}
	case *runtime.EventExceptionThrown:
		complain("exception: %s", (&chromedp.ExceptionError{ExceptionDetails: e.ExceptionDetails}).Error())
	case *log.EventEntryAdded:
		if e.Entry.Level == "error" || e.Entry.Level == "warning" {
			complain("%s: %s %s", e.Entry.Source, e.Entry.Text, e.Entry.URL)
		}
	case *network.EventRequestWillBeSent:
		if !strings.HasPrefix(e.Request.URL, b.site.URL+"/") && !strings.HasPrefix(e.Request.URL, "data:") {
			complain("a request to another host: %s", e.Request.URL)
		}
	}
}

// expect says that a message with these words is no problem.
func (b *tab) expect(words string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.expected = append(b.expected, words)
}

// complaints returns the problems so far, and forgets them.
func (b *tab) complaints() []string {
	b.mu.Lock()
	defer b.mu.Unlock()
	unexpected := slices.DeleteFunc(b.problems, func(problem string) bool {
		return slices.ContainsFunc(b.expected, func(words string) bool { return strings.Contains(problem, words) })
	})
	b.problems = nil
	return unexpected
}

// set makes the window look as l says, without movement.
func (b *tab) set(l look) {
	b.t.Helper()
	height := int64(900)
	if l.Width < 500 {
		height = 844
	}
	do(b, emulation.SetDeviceMetricsOverride, emulation.SetDeviceMetricsOverrideParams{Width: l.Width, Height: height, DeviceScaleFactor: 1, Mobile: l.Width < 500})
	do(b, emulation.SetEmulatedMedia, emulation.SetEmulatedMediaParams{Features: []*emulation.MediaFeature{
		{Name: "prefers-color-scheme", Value: l.Theme}, {Name: "prefers-reduced-motion", Value: "reduce"},
	}})
}

// open goes to a page and waits until everything on it is there.
func (b *tab) open(path string) {
	b.t.Helper()
	must(b.t, b.try(chromedp.Navigate(b.site.URL+path)))
	b.settle()
}

// settle waits until everything is on the page, and the focus where the page puts
// it: keys that are pressed before go nowhere.
func (b *tab) settle() {
	b.t.Helper()
	b.until(`document.readyState === "complete" && document.fonts.status === "loaded" && !document.querySelector(".htmx-request") &&
		[...document.querySelectorAll("[data-chart]")].every((e) => e.querySelector("canvas")) &&
		(document.querySelector("[autofocus]") === null || document.activeElement !== document.body)`)
}

// arrives waits until the page with that heading is there as a whole.
func (b *tab) arrives(heading string) {
	b.t.Helper()
	b.shows("h1", heading)
	b.settle()
}

// try runs actions within a time in which they have to succeed.
func (b *tab) try(actions ...chromedp.Action[chromedp.Void]) error {
	ctx, cancel := context.WithTimeout(b.ctx, patience)
	defer cancel()
	return chromedp.Do(ctx, actions...)
}

// js evaluates an expression and waits for it if it is a promise.
func js[T any](b *tab, expression string) T {
	b.t.Helper()
	ctx, cancel := context.WithTimeout(b.ctx, patience)
	defer cancel()
	value, err := chromedp.Run(ctx, chromedp.Evaluate[T](expression, chromedp.EvalAwaitPromise))
	if err != nil {
		b.t.Fatalf("%s: %v", expression, err)
	}
	return value
}

// until waits until an expression is true. It may fail meanwhile: the page may
// be about to be replaced.
func (b *tab) until(expression string) {
	b.t.Helper()
	for deadline := time.Now().Add(patience); ; time.Sleep(10 * time.Millisecond) {
		ctx, cancel := context.WithTimeout(b.ctx, patience)
		ok, err := chromedp.Run(ctx, chromedp.Evaluate[bool](`Boolean(`+expression+`)`))
		cancel()
		if ok && err == nil {
			return
		}
		if time.Now().After(deadline) {
			b.t.Fatalf("%s does not become true (%v) on\n%.3000s", expression, err, js[string](b, `document.body.innerText`))
		}
	}
}

func quoted(s string) string {
	text, _ := json.Marshal(s) // strings always marshal
	return string(text)
}

// shows waits until an element has that text in it.
func (b *tab) shows(selector, text string) {
	b.t.Helper()
	b.until(fmt.Sprintf(`[...document.querySelectorAll(%s)].some((e) => e.innerText.includes(%s))`, quoted(selector), quoted(text)))
}

// press types keys where the focus is.
func (b *tab) press(keys string, modifiers ...chromedp.Modifier) {
	b.t.Helper()
	must(b.t, b.try(chromedp.KeyEvent(keys, chromedp.KeyModifiers(modifiers...))))
}

// tabTo presses Tab until an element has the focus, which has to be visible all
// the way.
func (b *tab) tabTo(selector string) {
	b.t.Helper()
	b.settle()
	for range 120 {
		if js[bool](b, `document.activeElement.matches(`+quoted(selector)+`)`) {
			return
		}
		b.press(kb.Tab)
		if hidden := js[string](b, focusProblem); hidden != "" {
			b.t.Errorf("the focus is on %s", hidden)
		}
	}
	b.t.Errorf("%s is not reached from the keyboard", selector)
}

// focusProblem is what is wrong with the focus: that it cannot be seen.
const focusProblem = `(() => {
	const e = document.activeElement
	if (e === document.body || e === document.documentElement) return ""
	const visible = e.checkVisibility({ opacityProperty: false, visibilityProperty: true }) && e.getClientRects().length > 0
	const ring = [e, e.closest("label"), e.parentElement].some((x) => {
		if (!x) return false
		const style = getComputedStyle(x)
		return style.outlineStyle !== "none" && style.outlineWidth !== "0px" || style.boxShadow !== "none"
	})
	return visible && ring ? "" : e.outerHTML.slice(0, 200) + (visible ? " without a ring" : ", which cannot be seen")
})()`

// overflow names the elements that make the page wider than the window.
const overflow = `(() => {
	const width = document.documentElement.clientWidth
	if (document.documentElement.scrollWidth <= width) return []
	return [...document.querySelectorAll("body *")].filter((e) => e.getBoundingClientRect().right > width + 1).slice(0, 8)
		.map((e) => e.tagName + "." + e.className + " ends at " + Math.round(e.getBoundingClientRect().right) + " of " + width)
})()`

// axe is the accessibility checker, with every rule it has.
var axe = sync.OnceValues(func() (string, error) {
	script, err := os.ReadFile("../static/node_modules/axe-core/axe.min.js")
	if err != nil {
		return "", fmt.Errorf("%w: run make assets", err)
	}
	return string(script), nil
})

// check looks at the page as it is for whatever no page should have.
func (b *tab) check() {
	b.t.Helper()
	b.settle()
	script, err := axe()
	must(b.t, err)
	js[any](b, script+`;0`)
	for _, violation := range js[[]string](b, `axe.run(document, { resultTypes: ["violations"] }).then(({ violations }) =>
		violations.map((v) => v.id + ": " + v.help + "\n" + v.nodes.map((n) => "  " + n.target + " " + n.failureSummary).join("\n")))`) {
		b.t.Errorf("axe: %s", violation)
	}
	for _, wide := range js[[]string](b, overflow) {
		b.t.Errorf("too wide: %s", wide)
	}
	for _, problem := range b.complaints() {
		b.t.Error(problem)
	}
}

// path is the address shown, without its origin.
func (b *tab) path() string {
	b.t.Helper()
	at, err := url.Parse(js[string](b, `location.href`))
	must(b.t, err)
	return at.RequestURI()
}
