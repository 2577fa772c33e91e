package rollup

import (
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/promptcademy/promptops/internal/postgres"
	"github.com/promptcademy/promptops/internal/postgres/pgtest"
)

// What is left to look through holds all there is, and little more than the days that
// hold it.
func TestAmong(t *testing.T) {
	pool := pgtest.Database(t)
	months(t, pool)
	r := rand.New(rand.NewPCG(7, 7))
	now := time.Now()
	insert(t, pool, r, 3000, now.AddDate(0, 0, -85), now)
	berlin := zone(t, "Europe/Berlin")
	rare := []int{3, 4, 40, 41, 77}
	for _, ago := range rare {
		exec(t, pool, `
			update public.prompt_attempts set provider = 'rare', model = 'rare/one', key_source = 'user', template_id = gen_random_uuid()
			where (run_id, ordinal) in (select run_id, ordinal from public.prompt_attempts where created_at < $1 order by created_at desc limit 1)`, now.AddDate(0, 0, -ago))
	}
	roll(t, newRoller(pool, berlin))
	sought := []Sought{{Model, `s.provider = @provider and s.key_source = 'user'`, pgx.NamedArgs{"provider": "rare"}}, {Key, `s.key_source = @key`, pgx.NamedArgs{"key": "user"}}}
	check := func(when string, zone *time.Location, from, to time.Time, sought []Sought) (left time.Duration) {
		t.Helper()
		err := postgres.NewReader(pool).Read(within(t), func(tx pgx.Tx) error {
			known, err := Read(within(t), tx, zone, from, to)
			if err != nil {
				return err
			}
			spans, err := known.Among(within(t), tx, sought, from, to)
			if err != nil {
				return err
			}
			var starts, ends []time.Time
			for i, s := range spans {
				if !s.From.Before(s.To) || s.From.Before(from) || s.To.After(to) || i > 0 && !spans[i-1].To.Before(s.From) {
					return fmt.Errorf("span %d of %v", i, spans)
				}
				left += s.To.Sub(s.From)
				starts, ends = append(starts, s.From), append(ends, s.To)
			}
			var missed int
			err = tx.QueryRow(within(t), `
				select count(*) from public.prompt_attempts
				where provider = 'rare' and created_at >= $1 and created_at < $2
				  and not exists (select from unnest($3::timestamptz[], $4::timestamptz[]) s (at, upto) where created_at >= at and created_at < upto)`,
				from, to, starts, ends).Scan(&missed)
			if missed > 0 && when != "of nobody" {
				t.Errorf("%s: %d are left out", when, missed)
			}
			return err
		})
		if err != nil {
			t.Fatalf("%s: %v", when, err)
		}
		return left
	}
	from := now.AddDate(0, 0, -90)
	if left := check("at first", berlin, from, now, sought); left > 12*24*time.Hour {
		t.Errorf("%v of five days are left", left)
	}
	nothing := []Sought{{Model, `s.provider = 'nobody'`, nil}, {Key, `true`, nil}}
	if left := check("of nobody", berlin, from, now, nothing); left > 5*24*time.Hour {
		t.Errorf("%v are left where there is nothing", left)
	}
	if left := check("everything", berlin, from, now, nil); left != now.Sub(from) {
		t.Errorf("%v are left of everything", left)
	}
	for range 20 {
		at := from.Add(time.Duration(r.Int64N(int64(80 * 24 * time.Hour))))
		check("a part", berlin, at, at.Add(time.Duration(r.Int64N(int64(10*24*time.Hour)))), sought)
	}
	check("a zone without sums", zone(t, "Asia/Kathmandu"), from, now, sought)

	// A row of a day that had none is found at once, before anything is summed anew.
	exec(t, pool, `
		update public.prompt_attempts set provider = 'rare', model = 'rare/one', key_source = 'user'
		where (run_id, ordinal) in (select run_id, ordinal from public.prompt_attempts where created_at < $1 order by created_at desc limit 1)`, now.AddDate(0, 0, -60))
	check("a change", berlin, from, now, sought)
}
