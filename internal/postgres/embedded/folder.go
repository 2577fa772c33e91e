package embedded

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/user"
	"path/filepath"
	"slices"
	"strconv"
	"syscall"
)

// openCluster chooses the folder and the server's user and makes the folder.
func openCluster(opts Options, log *slog.Logger) (*cluster, error) {
	dir, err := makeParents(opts.Dir)
	if err != nil {
		return nil, err
	}
	c := &cluster{dir: dir, fast: opts.Fast, log: log}
	if os.Geteuid() == 0 {
		// Postgres refuses to run as root.
		if err := c.becomeReachable(); err != nil {
			return nil, err
		}
	}
	if err := os.Mkdir(c.dir, 0o700); err != nil && !errors.Is(err, os.ErrExist) {
		return nil, err
	}
	entries, err := os.ReadDir(c.dir)
	if err != nil {
		return nil, c.foreign(err)
	}
	if _, err := os.Stat(c.path("lock")); err != nil && len(entries) > 0 {
		return nil, fmt.Errorf("%s is not empty and holds no database of ours: choose another PROMPTOPS_DATA_DIR", c.dir)
	}
	return c, c.give(c.dir)
}

// makeParents makes the folders above dir and returns dir as an absolute path
// without symbolic links.
func makeParents(dir string) (string, error) {
	dir, err := filepath.Abs(dir)
	if err != nil {
		return "", err
	}
	if err := os.MkdirAll(filepath.Dir(dir), 0o755); err != nil {
		return "", err
	}
	if resolved, err := filepath.EvalSymlinks(dir); err == nil {
		return resolved, nil
	}
	parent, err := filepath.EvalSymlinks(filepath.Dir(dir))
	return filepath.Join(parent, filepath.Base(dir)), err
}

// becomeReachable sets the server's user, and moves the cluster elsewhere if
// that user cannot enter the folder, as below a home folder that is closed. A
// cluster that exists is never left for an empty one.
func (c *cluster) becomeReachable() error {
	usual := c.dir
	elsewhere := fmt.Sprintf("/var/lib/promptops-%.6x", sha256.Sum256([]byte(usual)))
	c.user = serverUser(usual)
	blocked := blockedBy(usual, c.user)
	switch {
	case hasCluster(usual) && blocked != "":
		return fmt.Errorf("%s holds a database, but user %s, whom the server runs as, may not enter %s: run `chmod o+x %s`",
			usual, userName(c.user), blocked, blocked)
	case hasCluster(usual), blocked == "" && !hasCluster(elsewhere):
		return nil
	}
	c.dir, c.user = elsewhere, serverUser(elsewhere)
	c.log.Warn("the database is kept in another folder, because the usual one is closed to the server's user",
		"dir", elsewhere, "usual", usual, "user", userName(c.user))
	return nil
}

func hasCluster(dir string) bool {
	_, err := os.Stat(filepath.Join(dir, "data", "PG_VERSION"))
	return err == nil
}

// serverUser is whom root runs the server as: the owner of the cluster if
// there is one, else postgres, else nobody.
func serverUser(dir string) *syscall.Credential {
	if owner, err := os.Stat(filepath.Join(dir, "data")); err == nil {
		if stat := owner.Sys().(*syscall.Stat_t); stat.Uid != 0 {
			return &syscall.Credential{Uid: stat.Uid, Gid: stat.Gid}
		}
	}
	for _, name := range []string{"postgres", "nobody"} {
		if found, err := user.Lookup(name); err == nil {
			uid, uidErr := strconv.ParseUint(found.Uid, 10, 32)
			gid, gidErr := strconv.ParseUint(found.Gid, 10, 32)
			if uidErr == nil && gidErr == nil && uid != 0 {
				return &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}
			}
		}
	}
	return &syscall.Credential{Uid: 65534, Gid: 65534}
}

// withinReach returns dirs with those that npm made replaced by a copy in our
// folder if the server's user cannot enter them, as below a home folder that is
// closed. What the system has is within everybody's reach.
func (c *cluster) withinReach(dirs []string) ([]string, error) {
	reachable := slices.Clone(dirs)
	for i, bin := range dirs {
		native := filepath.Dir(bin)
		_, err := os.Stat(filepath.Join(native, "pg-symlinks.json"))
		if c.user == nil || err != nil || blockedBy(filepath.Join(bin, "postgres"), c.user) == "" {
			continue
		}
		name := fmt.Sprintf("npm-%.6x", sha256.Sum256([]byte(native)))
		if err := copyOnce(c.path(name), filepath.Dir(native)); err != nil {
			return nil, fmt.Errorf("copy %s: %w", native, err)
		}
		reachable[i] = filepath.Join(c.path(name), "native", "bin")
	}
	return reachable, nil
}

// copyOnce copies the npm package pkg to the folder copy, or does nothing when
// that already is one of the same version.
func copyOnce(copy, pkg string) error {
	want, err := os.ReadFile(filepath.Join(pkg, "package.json"))
	if err != nil {
		return err
	}
	if got, err := os.ReadFile(filepath.Join(copy, "package.json")); err == nil && bytes.Equal(got, want) {
		return nil
	}
	temporary := copy + ".tmp"
	for _, old := range []string{temporary, copy} {
		if err := os.RemoveAll(old); err != nil {
			return err
		}
	}
	if err := os.CopyFS(temporary, os.DirFS(pkg)); err != nil {
		return err
	}
	return os.Rename(temporary, copy)
}

func userName(c *syscall.Credential) string {
	uid := strconv.FormatUint(uint64(c.Uid), 10)
	if found, err := user.LookupId(uid); err == nil {
		return found.Username
	}
	return uid
}

// blockedBy returns the outermost folder above dir which who may not enter, ""
// if there is none.
func blockedBy(dir string, who *syscall.Credential) string {
	parent := filepath.Dir(dir)
	if parent == dir {
		return ""
	}
	if blocked := blockedBy(parent, who); blocked != "" {
		return blocked
	}
	info, err := os.Stat(parent)
	if err != nil {
		return "" // does not exist
	}
	enter := os.FileMode(0o001)
	switch stat := info.Sys().(*syscall.Stat_t); {
	case stat.Uid == who.Uid:
		enter = 0o100
	case stat.Gid == who.Gid:
		enter = 0o010
	}
	if info.Mode().Perm()&enter == 0 {
		return parent
	}
	return ""
}
