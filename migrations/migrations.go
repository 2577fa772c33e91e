// Package migrations holds the database's history, one file per step, in
// goose's format. internal/postgres applies them.
package migrations

import "embed"

// FS holds every migration at its root.
//
//go:embed *.sql
var FS embed.FS
