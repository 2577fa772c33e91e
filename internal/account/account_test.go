package account

import (
	"bytes"
	"context"
	"log/slog"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/promptcademy/promptops/internal/audit"
	"github.com/promptcademy/promptops/internal/fault"
	"github.com/promptcademy/promptops/internal/postgres"
)

// noon is when most tests happen.
var noon = time.Date(2026, 3, 14, 12, 0, 0, 0, time.UTC)

const goodPassword = "seven quiet lighthouses"

// newStore returns a Store and what it logs.
func newStore(db postgres.DB) (*Store, *bytes.Buffer) {
	var logged bytes.Buffer
	return NewStore(db, slog.New(slog.NewTextHandler(&logged, nil))), &logged
}

// makeAdmin creates an admin with goodPassword.
func makeAdmin(t *testing.T, s *Store, email string) Operator {
	t.Helper()
	operator, err := s.Create(context.Background(), audit.CommandLine, NewOperator{Email: email, Role: RoleAdmin, Password: goodPassword}, noon)
	if err != nil {
		t.Fatal(err)
	}
	return operator
}

func wantKind(t *testing.T, err error, kind fault.Kind) {
	t.Helper()
	if err == nil || fault.KindOf(err) != kind {
		t.Fatalf("error is %v, want one of kind %s", err, kind)
	}
}

func count(t *testing.T, db postgres.DB, table string) (n int) {
	t.Helper()
	if err := db.QueryRow(context.Background(), `select count(*) from `+table).Scan(&n); err != nil {
		t.Fatal(err)
	}
	return n
}

func ptr[T any](v T) *T { return &v }

var someLearner = uuid.MustParse("7a5c1d1e-0000-4000-8000-000000000001")
