// Command promptops is the whole product in one binary: "serve" runs the
// dashboard and the run endpoint, the other commands help to operate it.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"slices"
	"strings"
	"syscall"
	"text/tabwriter"
	_ "time/tzdata" // the container has no zone files

	"github.com/promptcademy/promptops/internal/fault"
)

// version is set by the build.
var version = "dev"

// command is one subcommand: a file of its own beside this one.
type command struct {
	name    string
	usage   string // what follows the name
	summary string
	run     func(ctx context.Context, p *program, args []string) error
}

// commands in the order of the help text.
var commands = []command{
	{"serve", "[--demo]", "run the dashboard and the run endpoint", serve},
	{"migrate", "[status|down]", "bring the database up to date, show its state, or take one step back", migrate},
	{"config", "[--show-database-url] [--json]", "print the effective configuration, secrets redacted", showConfig},
	{"operator", "add|list|disable|enable|reset", "manage who signs in to the dashboard", operators},
	{"audit", "verify|list", "verify the log of what operators did, or print it", auditLog},
	{"key", "add|list|test|edit|order|rotate|disable|enable|delete", "manage fallback keys; the secret is read from standard input", keys},
	{"price", "list|set|recompute", "manage what models cost, and recompute what attempts did", prices},
	{"token", "--learner EMAIL", "print a learner's access token, for trying the endpoint with curl", token},
	{"demo", "load|clear [--attempts N]", "fill in demo data, or remove exactly that", demoData},
	{"rewrap", "[--dry-run] [--json]", "seal stored provider keys anew under the first master key", rewrap},
	{"usage", "rebuild", "make the sums behind AI Usage anew from the attempts", usageSums},
	{"rls", "check|test", "say whether row-level security is what the migrations make", rls},
	{"recover", "[--json]", "close runs as interrupted that no living node runs", recoverRuns},
	{"version", "", "print the version", showVersion},
}

// program is the outside world as commands see it.
type program struct {
	environ []string
	stdin   io.Reader
	stdout  io.Writer
	stderr  io.Writer
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	context.AfterFunc(ctx, stop) // a second signal ends the program at once
	p := &program{os.Environ(), os.Stdin, os.Stdout, os.Stderr}
	os.Exit(p.main(ctx, os.Args[1:]))
}

// errUsage marks an error that the command's help would have prevented.
var errUsage = errors.New("see --help")

// main runs one command and returns the exit code: 0 only when it did what it
// says.
func (p *program) main(ctx context.Context, args []string) int {
	if len(args) == 0 || args[0] == "help" || args[0] == "--help" || args[0] == "-h" {
		p.help()
		if len(args) == 0 {
			return 2
		}
		return 0
	}
	for _, c := range commands {
		if c.name != args[0] {
			continue
		}
		err := c.run(ctx, p, args[1:])
		switch {
		case err == nil || errors.Is(err, flag.ErrHelp):
			return 0
		case errors.Is(err, errUsage):
			fmt.Fprintf(p.stderr, "promptops %s: %v\n", c.name, err)
			return 2
		case errors.Is(err, errUnchecked):
			fmt.Fprintf(p.stderr, "promptops %s: %v: %s\n", c.name, errUnchecked, strings.TrimPrefix(explain(err), errUnchecked.Error()+"\n"))
			return 2
		default:
			fmt.Fprintf(p.stderr, "promptops %s: %s\n", c.name, explain(err))
			return 1
		}
	}
	fmt.Fprintf(p.stderr, "promptops: there is no command %q\n\n", args[0])
	p.help()
	return 2
}

func (p *program) help() {
	fmt.Fprintln(p.stderr, "Promptcademy Ops: the operations dashboard and the run endpoint.\n\nUsage: promptops COMMAND [flags]; promptops COMMAND --help says more.")
	w := tabwriter.NewWriter(p.stderr, 0, 4, 2, ' ', 0)
	for _, c := range commands {
		fmt.Fprintf(w, "  %s %s\t%s\n", c.name, c.usage, c.summary)
	}
	_ = w.Flush() // to a terminal
}

// explain words an error for a terminal: a fault's message and details, and the
// cause where one is known.
func explain(err error) string {
	f, ok := errors.AsType[*fault.Error](err)
	if !ok {
		return err.Error()
	}
	text := f.Message
	for _, detail := range f.Details {
		text += fmt.Sprintf("\n  %s: %s", detail.Field, detail.Message)
	}
	if f.Cause != nil {
		text += fmt.Sprintf("\n  (%v)", f.Cause)
	}
	return text
}

// flags makes a flag set whose help begins with what the command is for.
func (p *program) flags(name, usage, about string) *flag.FlagSet {
	set := flag.NewFlagSet(name, flag.ContinueOnError)
	set.SetOutput(p.stderr)
	set.Usage = func() {
		fmt.Fprintf(p.stderr, "Usage: promptops %s %s\n\n%s\n", name, usage, about)
		some := false
		set.VisitAll(func(*flag.Flag) { some = true })
		if some {
			fmt.Fprintln(p.stderr, "\nFlags:")
			set.PrintDefaults()
		}
	}
	return set
}

// parse reads flags, which may stand before and after the command's word, and
// returns that word: one of words, or "" when none was given. A wrong flag has
// been explained already.
func parse(set *flag.FlagSet, args []string, words ...string) (word string, err error) {
	for {
		if err := set.Parse(args); err != nil {
			if errors.Is(err, flag.ErrHelp) {
				return "", err
			}
			return "", errUsage
		}
		if set.NArg() == 0 {
			return word, nil
		}
		if word != "" || !slices.Contains(words, set.Arg(0)) {
			return "", fmt.Errorf("%w: %q is not understood", errUsage, set.Arg(0))
		}
		word, args = set.Arg(0), set.Args()[1:]
	}
}

func showVersion(_ context.Context, p *program, args []string) error {
	set := p.flags("version", "", "Prints the version.")
	if _, err := parse(set, args); err != nil {
		return err
	}
	fmt.Fprintln(p.stdout, version)
	return nil
}
