package promptops_test

import (
	"go/parser"
	"go/token"
	"io/fs"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

const module = "github.com/promptcademy/promptops"

// mayImport is the architecture: every package, and which others of ours it may
// import. "all" is for the one place where everything is put together.
var mayImport = map[string]string{
	".":             "",
	"cmd/promptops": "all",
	"cmd/bench":     "internal/load internal/postgres/embedded handlers",
	"handlers":      ". views static internal/fault internal/account internal/learner internal/provider internal/price internal/key internal/run internal/usage internal/history internal/demo internal/telemetry internal/runbook internal/drift internal/incident internal/outreach internal/audit internal/notify internal/team internal/period internal/activity internal/eventlog internal/view internal/forecast",
	"views":         "",
	"static":        "",
	"migrations":    "",

	// The ground: these know nothing of what the product is about.
	"internal/fault":               "",
	"internal/network":             "",
	"internal/loop":                "",
	"internal/params":              "internal/fault",
	"internal/config":              "",
	"internal/period":              "internal/fault",
	"internal/sheet":               "",
	"internal/memo":                "",
	"internal/seal":                "",
	"internal/postgres":            "internal/fault internal/loop",
	"internal/postgres/embedded":   "",
	"internal/postgres/pgtest":     "internal/postgres internal/postgres/embedded migrations",
	"internal/postgres/pgtest/run": "internal/postgres/pgtest",
	"internal/load":                "",
	"internal/faults":              "",

	// The nouns. An arrow points one way only, from what happens to what it needs.
	"internal/audit":                "internal/postgres internal/fault internal/sheet internal/params",
	"internal/notify":               "internal/fault internal/postgres internal/seal internal/audit internal/network internal/loop",
	"internal/drift":                "internal/fault internal/postgres internal/loop",
	"internal/account":              "internal/fault internal/postgres internal/audit internal/loop",
	"internal/team":                 "internal/fault internal/postgres internal/audit",
	"internal/learner":              "internal/fault internal/postgres",
	"internal/provider":             "internal/fault internal/postgres internal/audit internal/network internal/loop",
	"internal/provider/sandbox":     "",
	"internal/provider/sandbox/run": "internal/provider/sandbox",
	"internal/price":                "internal/fault internal/postgres internal/provider internal/audit internal/sheet internal/loop internal/rollup",
	"internal/key":                  "internal/fault internal/postgres internal/seal internal/provider internal/price internal/audit internal/loop internal/rollup",
	"internal/run":                  "internal/fault internal/audit internal/postgres internal/provider internal/price internal/key internal/learner internal/loop",
	"internal/telemetry":            "internal/fault internal/provider internal/key internal/run",
	"internal/rollup":               "internal/fault internal/period internal/postgres internal/loop",
	"internal/forecast":             "internal/price",
	"internal/runbook":              "internal/fault internal/postgres internal/audit",
	"internal/probe":                "internal/fault internal/postgres internal/price internal/runbook",
	"internal/usage":                "internal/fault internal/postgres internal/price internal/period internal/rollup internal/memo internal/sheet internal/params",
	"internal/history":              "internal/fault internal/postgres internal/price internal/period internal/sheet internal/params internal/rollup",
	"internal/activity":             "internal/fault internal/postgres internal/price internal/period internal/sheet internal/params internal/loop internal/rollup internal/memo",
	"internal/incident":             "internal/fault internal/postgres internal/audit internal/price internal/sheet internal/params",
	"internal/outreach":             "internal/fault internal/postgres internal/price internal/audit internal/notify internal/sheet internal/loop internal/rollup",
	"internal/eventlog":             "internal/fault internal/postgres internal/period internal/sheet internal/params internal/loop",
	"internal/view":                 "internal/fault internal/postgres internal/audit",
	"internal/demo":                 "internal/fault internal/postgres internal/seal internal/provider internal/price internal/key internal/run",
}

// onlyIn keeps a dependency where it can be replaced: the beginning of its
// import path, and the packages that may import it.
var onlyIn = map[string]string{
	"github.com/labstack/echo/":  "handlers",
	"github.com/a-h/templ":       ". views handlers",
	"github.com/go-echarts/":     "views",
	"github.com/gorilla/":        "internal/account",
	"golang.org/x/crypto/argon2": "internal/account",
	"github.com/golang-jwt/":     "internal/learner",
	"github.com/MicahParks/":     "internal/learner",
	"github.com/caarlos0/env/":   "internal/config",
	"github.com/pressly/goose/":  "internal/postgres",
	"github.com/prometheus/":     "internal/telemetry",
	"go.opentelemetry.io/":       "internal/telemetry",
	"github.com/wneessen/":       "internal/notify",
	"github.com/yuin/goldmark":   "internal/runbook",
	"github.com/jackc/pgx/": "cmd/promptops cmd/bench internal/postgres internal/postgres/embedded internal/postgres/pgtest " +
		"internal/audit internal/notify internal/account internal/team internal/learner internal/provider internal/price internal/key internal/run " +
		"internal/rollup internal/usage internal/history internal/activity internal/outreach internal/incident internal/drift internal/runbook internal/probe internal/demo " +
		"internal/eventlog internal/view",
}

func TestImports(t *testing.T) {
	imports := packages(t)
	for name, imported := range imports {
		line, known := mayImport[name]
		if !known {
			t.Errorf("package %s is new: add it to mayImport in imports_test.go, with the packages it may import", name)
			continue
		}
		for _, path := range imported {
			ours, is := relative(path)
			if is && line != "all" && !allows(line, ours) {
				t.Errorf("%s imports %s, which it may not know. Hand in what it needs from cmd/promptops, or move the code to where it belongs. "+
					"If the architecture is to change: add %s to the line of %s in mayImport.", name, ours, ours, name)
			}
			for prefix, where := range onlyIn {
				if strings.HasPrefix(path, prefix) && !allows(where, name) {
					t.Errorf("%s imports %s, which belongs only into: %s. Use what those packages offer, or change onlyIn.", name, path, where)
				}
			}
		}
	}
	for name := range mayImport {
		if _, exists := imports[name]; !exists {
			t.Errorf("there is no package %s any more: remove its line from mayImport", name)
		}
	}
}

func allows(list, name string) bool { return slices.Contains(strings.Fields(list), name) }

// relative turns the import path of a package of ours into its folder.
func relative(path string) (folder string, ours bool) {
	if path == module {
		return ".", true
	}
	return strings.CutPrefix(path, module+"/")
}

// packages maps the folder of every package to what it imports, tests aside,
// on all platforms.
func packages(t *testing.T) map[string][]string {
	t.Helper()
	found := map[string][]string{}
	err := filepath.WalkDir(".", func(path string, entry fs.DirEntry, err error) error {
		name := entry.Name()
		if entry.IsDir() && path != "." && (strings.HasPrefix(name, ".") || slices.Contains([]string{"node_modules", "testdata", "bin", "data"}, name)) {
			return fs.SkipDir
		}
		if err != nil || entry.IsDir() || !strings.HasSuffix(name, ".go") || strings.HasSuffix(name, "_test.go") {
			return err
		}
		file, err := parser.ParseFile(token.NewFileSet(), path, nil, parser.ImportsOnly)
		if err != nil {
			return err
		}
		folder := filepath.ToSlash(filepath.Dir(path))
		imported := found[folder]
		for _, spec := range file.Imports {
			imported = append(imported, strings.Trim(spec.Path.Value, "`\""))
		}
		found[folder] = imported // also of a package that imports nothing
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return found
}
