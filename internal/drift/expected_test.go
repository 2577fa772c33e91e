package drift

import (
	"context"
	"flag"
	"os"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/promptcademy/promptops/internal/postgres/pgtest"
)

var update = flag.Bool("update", false, "write expected.json anew, from the migrations")

// The snapshot in the program is what the migrations make.
func TestExpectedIsWhatTheMigrationsMake(t *testing.T) {
	got, err := NewStore(pgtest.Database(t)).Read(context.Background())
	must(t, err)
	text, err := got.encode()
	must(t, err)
	if *update {
		must(t, os.WriteFile("expected.json", text, 0o644))
		return
	}
	if diff := cmp.Diff(string(expected), string(text)); diff != "" {
		t.Errorf("the migrations have changed: run go test ./internal/drift -run TestExpected -update (-snapshot +migrations):\n%s", diff)
	}
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
