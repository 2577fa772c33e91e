package main

import (
	"context"
	"crypto/rand"
	"encoding/base64"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/promptcademy/promptops/internal/config"
	"github.com/promptcademy/promptops/internal/drift"
	"github.com/promptcademy/promptops/internal/postgres"
	"github.com/promptcademy/promptops/internal/postgres/embedded"
	"github.com/promptcademy/promptops/internal/seal"
	"github.com/promptcademy/promptops/migrations"
)

// foundation is what nearly every command stands on: the configuration, the
// database and the secrets that belong to it.
type foundation struct {
	config    config.Config
	server    *embedded.Server // nil with DATABASE_URL
	url       string           // of the database; holds the password
	pool      *pgxpool.Pool
	ring      *seal.Ring
	jwtSecret string         // HS256; empty when only a JWKS verifies
	denials   *drift.Denials // statements that the database refuses
}

// open loads the configuration, starts or joins the embedded Postgres when no
// other is configured, and connects.
func (p *program) open(ctx context.Context, log *slog.Logger) (f *foundation, err error) {
	f = &foundation{denials: drift.NewDenials()}
	defer func() {
		if err != nil {
			err = errors.Join(err, f.close())
		}
	}()
	if f.config, err = config.Load(p.environ); err != nil {
		return f, fmt.Errorf("the configuration is not usable:\n%w", err)
	}
	masterKeys := f.config.MasterKeys
	f.url, f.jwtSecret = f.config.DatabaseURL, f.config.SupabaseJWTSecret
	if f.config.Embedded() {
		if f.server, err = embedded.Start(ctx, embedded.Options{Dir: f.config.PostgresDir(), Log: log}); err != nil {
			return f, err
		}
		f.url = f.server.URL()
		if masterKeys == "" {
			if masterKeys, err = keep(f.config.DataDir, "master-keys", seal.NewRing); err != nil {
				return f, err
			}
		}
		if f.jwtSecret == "" && f.config.SupabaseURL == "" {
			if f.jwtSecret, err = keep(f.config.DataDir, "jwt-secret", newSecret); err != nil {
				return f, err
			}
		}
	}
	if f.ring, err = seal.ParseRing(masterKeys); err != nil {
		return f, fmt.Errorf("PROMPTOPS_MASTER_KEYS: %w", err)
	}
	f.pool, err = postgres.Open(ctx, f.url, postgres.Options{Denied: f.denials.Note})
	return f, err
}

// openMigrated is open with the database brought up to date.
func (p *program) openMigrated(ctx context.Context, log *slog.Logger) (*foundation, error) {
	f, err := p.open(ctx, log)
	if err != nil {
		return f, err
	}
	if err := postgres.Migrate(ctx, f.pool, migrations.FS); err != nil {
		return f, errors.Join(err, f.close())
	}
	return f, nil
}

// alone says whether this process has brought up the database itself, so that no
// other can have been connected to it before.
func (f *foundation) alone() bool { return f.server != nil && f.server.Owned() }

// ready says whether the database answers and is migrated.
func (f *foundation) ready(ctx context.Context) error {
	steps, err := postgres.Status(ctx, f.pool, migrations.FS)
	if err != nil {
		return err
	}
	for _, step := range steps {
		if step.AppliedAt.IsZero() {
			return fmt.Errorf("migration %s is missing", step.Name)
		}
	}
	return nil
}

// close lets go of the database, and stops the server if this program started
// it.
func (f *foundation) close() error {
	if f.pool != nil {
		f.pool.Close()
	}
	if f.server != nil {
		return f.server.Stop()
	}
	return nil
}

// keep reads a secret from a file of the data folder, mode 0600, and makes it
// the first time. Of two programs that start at once, one makes it.
func keep(dir, name string, make func() (string, error)) (string, error) {
	path := filepath.Join(dir, name)
	if kept, err := os.ReadFile(path); err == nil {
		return strings.TrimSpace(string(kept)), nil
	} else if !errors.Is(err, fs.ErrNotExist) {
		return "", err
	}
	secret, err := make()
	if err != nil {
		return "", err
	}
	draft, err := os.CreateTemp(dir, name+".*") // CreateTemp makes it 0600
	if err != nil {
		return "", err
	}
	defer func() { _ = os.Remove(draft.Name()) }()
	_, err = draft.WriteString(secret + "\n")
	if err = errors.Join(err, draft.Sync(), draft.Close()); err != nil {
		return "", err
	}
	if err := os.Link(draft.Name(), path); err != nil && !errors.Is(err, fs.ErrExist) {
		return "", err
	}
	kept, err := os.ReadFile(path)
	return strings.TrimSpace(string(kept)), err
}

func newSecret() (string, error) {
	var bits [32]byte
	if _, err := rand.Read(bits[:]); err != nil {
		return "", err
	}
	return base64.RawURLEncoding.EncodeToString(bits[:]), nil
}

// quiet is the log of commands other than serve: warnings, on standard error.
func (p *program) quiet() *slog.Logger {
	return slog.New(slog.NewTextHandler(p.stderr, &slog.HandlerOptions{Level: slog.LevelWarn}))
}
