package rollup

import (
	"math/rand/v2"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/promptcademy/promptops/internal/postgres"
	"github.com/promptcademy/promptops/internal/postgres/pgtest"
)

// A version is the same until a row of what it stands for changes, and then never
// that one again.
func TestVersions(t *testing.T) {
	pool := pgtest.Database(t)
	months(t, pool)
	r := rand.New(rand.NewPCG(7, 7))
	now := time.Now()
	insert(t, pool, r, 500, now.AddDate(0, 0, -40), now)
	roller := newRoller(pool, time.UTC)
	roll(t, roller)

	bounds := boundaries(time.UTC, 30, now)
	whole := []time.Time{bounds[0], bounds[len(bounds)-1]}
	versions := func(kind Kind) (days, rows string) {
		t.Helper()
		parts := partsOf(t, pool, kind, whole)
		if last := parts[len(parts)-1]; last.Version != "" || last.RowsVersion != "" || len(last.Periods) > 0 {
			t.Errorf("of %q what may change at any moment has a version: %+v", kind, last)
		}
		return parts[0].Version, parts[0].RowsVersion
	}
	sums, none := versions(Model)
	if sums == "" || none != "" {
		t.Errorf("sums of days have version %q, and rows %q where there are none", sums, none)
	}
	none, rows := versions("")
	if rows == "" || none != "" {
		t.Errorf("rows of days have version %q, and sums %q where there are none", rows, none)
	}
	seen := []string{sums, rows}
	check := func(when string, changed bool) {
		t.Helper()
		sums, _ := versions(Model)
		_, rows := versions("")
		for i, version := range []string{sums, rows} {
			if same := version == seen[i]; same == changed {
				t.Errorf("%s: a version is the same: %v", when, same)
			}
		}
		if changed {
			seen = []string{sums, rows}
		}
	}
	insert(t, pool, r, 20, now.Add(-time.Minute), now)
	roll(t, roller)
	check("a row is new", false)
	insert(t, pool, r, 1, now.AddDate(0, 0, -9), now.AddDate(0, 0, -8))
	check("an old row is new", true)
	roll(t, roller)
	check("it is summed", true)
	exec(t, pool, `update public.prompt_attempts set model = model || 'x' where created_at between $1 and $2`, now.AddDate(0, 0, -12), now.AddDate(0, 0, -11))
	check("old rows have changed", true)
	roll(t, roller)
	check("they are summed", true)
	roll(t, roller)
	check("nothing has happened", false)
}

func partsOf(t *testing.T, pool *pgxpool.Pool, kind Kind, boundaries []time.Time) (parts []Part) {
	t.Helper()
	err := postgres.NewReader(pool).Read(within(t), func(tx pgx.Tx) error {
		known, err := Read(within(t), tx, time.UTC, boundaries[0], boundaries[len(boundaries)-1])
		parts = known.Parts(kind, boundaries)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return parts
}

// Spans of rows are cut where what is known of them ends.
func TestPartsOfRows(t *testing.T) {
	at := func(day, hour, minute int) time.Time { return time.Date(2026, 11, day, hour, minute, 0, 0, time.UTC) }
	k := Known{[]summed{
		{1, days4, at(1, 0, 0), at(5, 0, 0), at(20, 0, 0)},
		{2, day, at(1, 0, 0), at(2, 0, 0), at(20, 0, 0)},
		{3, day, at(2, 0, 0), at(3, 0, 0), at(20, 0, 0)},
		{4, day, at(6, 0, 0), at(7, 0, 0), at(20, 0, 0)},
		{5, hour, at(7, 0, 0), at(7, 1, 0), at(20, 0, 0)},
	}}
	write := func(parts []Part) (all []string) {
		for _, p := range parts {
			text := map[bool]string{true: "for ever", false: "open"}[p.RowsVersion != ""]
			for i := range p.From {
				text += p.From[i].Format(", 2 15:04") + p.To[i].Format("-2 15:04")
			}
			all = append(all, text)
		}
		return all
	}
	for _, tt := range []struct {
		from, to time.Time
		want     []string
	}{
		{at(1, 0, 0), at(5, 0, 0), []string{"for ever, 1 00:00-5 00:00"}},
		{at(1, 0, 0), at(3, 0, 0), []string{"for ever, 1 00:00-3 00:00"}},
		{at(1, 0, 0), at(8, 0, 0), []string{"for ever, 1 00:00-5 00:00, 6 00:00-7 00:00", "for ever, 7 00:00-7 01:00", "open, 5 00:00-6 00:00, 7 01:00-8 00:00"}},
		{at(6, 0, 0), at(6, 9, 50), []string{"for ever, 6 00:00-6 09:45", "open, 6 09:45-6 09:50"}},
		{at(6, 0, 0), at(6, 0, 5), []string{"open, 6 00:00-6 00:05"}},
		{at(3, 12, 0), at(4, 0, 0), []string{"for ever, 3 12:00-4 00:00"}},
		{at(8, 0, 0), at(9, 0, 0), []string{"open, 8 00:00-9 00:00"}},
	} {
		if diff := cmp.Diff(tt.want, write(k.Parts("", []time.Time{tt.from, tt.to}))); diff != "" {
			t.Errorf("%s to %s: %s", tt.from, tt.to, diff)
		}
	}
}
