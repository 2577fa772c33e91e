package pgtest

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"sync"

	"github.com/jackc/pgx/v5"

	"github.com/promptcademy/promptops/internal/postgres"
	"github.com/promptcademy/promptops/migrations"
)

// template is the name of a database with all migrations applied. It is named
// for their content, made once per server, and closed to connections, as
// Postgres copies only what nobody uses.
var template = sync.OnceValues(func() (string, error) {
	hash, err := contentHash(migrations.FS)
	if err != nil {
		return "", err
	}
	name := "migrated_" + hash
	return name, onServer(func(ctx context.Context, conn *pgx.Conn) error {
		// Other test processes may want to make it right now.
		if _, err := conn.Exec(ctx, `select pg_advisory_lock(hashtext('pgtest template'))`); err != nil {
			return err
		}
		var complete bool
		err := conn.QueryRow(ctx, `select datistemplate from pg_database where datname = $1`, name).Scan(&complete)
		if complete {
			return nil
		}
		if err != nil && !errors.Is(err, pgx.ErrNoRows) {
			return err
		}
		return buildTemplate(ctx, conn, name)
	})
})

func buildTemplate(ctx context.Context, conn *pgx.Conn, name string) error {
	for _, sql := range []string{
		`drop database if exists ` + name + ` with (force)`, // one that was not finished
		`create database ` + name + ` template template0`,
	} {
		if _, err := conn.Exec(ctx, sql); err != nil {
			return err
		}
	}
	address, err := databaseURL(name)
	if err != nil {
		return err
	}
	pool, err := postgres.Open(ctx, address, postgres.Options{MaxConns: 4})
	if err != nil {
		return err
	}
	err = postgres.Migrate(ctx, pool, migrations.FS)
	pool.Close()
	if err != nil {
		return err
	}
	_, err = conn.Exec(ctx, `alter database `+name+` with is_template true allow_connections false`)
	return err
}

func contentHash(fsys fs.FS) (string, error) {
	hash := sha256.New()
	err := fs.WalkDir(fsys, ".", func(path string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		file, err := fsys.Open(path)
		if err != nil {
			return err
		}
		defer file.Close()
		fmt.Fprintln(hash, path)
		_, err = io.Copy(hash, file)
		return err
	})
	return fmt.Sprintf("%.8x", hash.Sum(nil)), err
}
