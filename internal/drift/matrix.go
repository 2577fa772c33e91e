package drift

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/promptcademy/promptops/internal/fault"
	"github.com/promptcademy/promptops/internal/postgres"
)

// Cell is one try: somebody does something to a row of Ann's.
type Cell struct {
	Table    string `json:"table"`
	Verb     string `json:"verb"`     // select, insert, update or delete
	Actor    string `json:"actor"`    // see Policies
	Expected string `json:"expected"` // allowed, empty or denied
	Got      string `json:"got"`      // the same, or what Postgres said instead
}

// Wrong says that somebody may do more or less than they should.
func (c Cell) Wrong() bool { return c.Got != c.Expected }

// Matrix is everything that was tried.
type Matrix struct {
	At       time.Time `json:"at"`
	Borrowed bool      `json:"borrowed"` // the learners are real ones: none could be made
	Cells    []Cell    `json:"cells"`
}

// Wrong are the cells that are not as they are expected.
func (m Matrix) Wrong() []Cell {
	wrong := []Cell{}
	for _, c := range m.Cells {
		if c.Wrong() {
			wrong = append(wrong, c)
		}
	}
	return wrong
}

// Actors are the columns of the matrix.
func Actors() []string {
	line, _, _ := strings.Cut(strings.TrimSpace(Policies), "\n")
	return strings.Fields(line)[2:]
}

// Try acts as two learners, their lead, a stranger and nobody, on every table and with
// every verb, in one transaction that is rolled back: nothing of it stays, and no other
// session sees any of it. An error means that it could not be tried.
//
// All tries are one statement, so that the transaction is short. Where the server lets
// us, the rows that are acted on are made without firing triggers; elsewhere a run that
// begins at that moment waits for the end of it, some tenths of a second.
func (s *Store) Try(ctx context.Context, now time.Time) (m Matrix, err error) {
	m.At = now
	tx, err := s.db.Begin(ctx)
	if err != nil {
		return m, postgres.Fault(err)
	}
	defer func() { _ = tx.Rollback(context.WithoutCancel(ctx)) }()
	if _, err := tx.Exec(ctx, `
		select set_config('statement_timeout', '20s', true),
		       set_config('lock_timeout', '2s', true),
		       set_config('idle_in_transaction_session_timeout', '20s', true),
		       set_config('search_path', 'pg_catalog', true)`); err != nil {
		return m, postgres.Fault(err)
	}
	words, err := s.makeWorld(ctx, tx, &m)
	if err != nil {
		return m, cannotTry(err)
	}
	tries, err := plan(ctx, tx, words, &m)
	if err != nil {
		return m, cannotTry(err)
	}
	got, err := act(ctx, tx, tries)
	if err != nil {
		return m, cannotTry(err)
	}
	if len(got) != len(m.Cells) {
		return m, fmt.Errorf("%d of %d tries came back", len(got), len(m.Cells))
	}
	for i := range m.Cells {
		m.Cells[i].Got = got[i]
	}
	return m, nil
}

func cannotTry(err error) error {
	if err = postgres.Fault(err); fault.KindOf(err) != fault.Internal {
		return err
	}
	return fault.New(fault.Conflict, "It could not be tried: the database did not take the rows that the test acts on. promptops rls check may tell why.").Because(err)
}

// makeWorld makes people and what they have, and returns their ids.
func (s *Store) makeWorld(ctx context.Context, tx pgx.Tx, m *Matrix) (*strings.Replacer, error) {
	at, err := monthThatIsThere(ctx, tx, m.At)
	if err != nil {
		return nil, err
	}
	// Only some roles may; the others fire the triggers.
	silent := savepoint(ctx, tx, func(tx pgx.Tx) error {
		_, err := tx.Exec(ctx, `set local session_replication_role = replica`)
		return err
	}) == nil
	people := []uuid.UUID{uuid.New(), uuid.New(), uuid.New(), uuid.New()}
	err = savepoint(ctx, tx, func(tx pgx.Tx) error {
		_, err := tx.Exec(ctx, `
			insert into auth.users (id, email)
			select id, 'rls-test-' || id || '@invalid' from unnest($1::uuid[]) id`, people)
		return err
	})
	if err != nil {
		// The table belongs to the authentication server. Learners in no team do as well:
		// all that is acted on is made here.
		if people, err = borrow(ctx, tx); err != nil {
			return nil, err
		}
		m.Borrowed = true
	}
	words := []string{"{ann}", people[0].String(), "{tom}", people[1].String(), "{lea}", people[2].String(), "{bob}", people[3].String(),
		"{at}", at.Format(time.RFC3339)}
	for _, word := range []string{"{red}", "{blue}", "{key}", "{private}", "{shared}", "{platform}", "{lesson}", "{lesson2}", "{run}"} {
		words = append(words, word, uuid.NewString())
	}
	replacer := strings.NewReplacer(words...)
	if _, err := tx.Exec(ctx, replacer.Replace(world)); err != nil {
		return nil, err
	}
	if silent {
		if _, err := tx.Exec(ctx, `set local session_replication_role = origin`); err != nil {
			return nil, err
		}
	}
	return replacer, nil
}

func savepoint(ctx context.Context, tx pgx.Tx, fn func(tx pgx.Tx) error) error {
	return postgres.InTx(ctx, tx, fn)
}

// monthThatIsThere is a moment for which runs have a partition: now where there is one.
func monthThatIsThere(ctx context.Context, tx pgx.Tx, now time.Time) (time.Time, error) {
	rows, err := tx.Query(ctx, `
		select right(inhrelid::regclass::text, 7)
		from pg_inherits
		where inhparent = 'public.prompt_runs'::regclass
		order by 1 desc`)
	if err != nil {
		return now, err
	}
	months, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		return now, err
	}
	if slices.Contains(months, now.UTC().Format("2006_01")) {
		return now.UTC(), nil
	}
	for _, month := range months {
		if at, err := time.Parse("2006_01", month); err == nil {
			return at, nil
		}
	}
	return now, fault.New(fault.Conflict, "It could not be tried: there is no month for runs yet. promptops serve makes it.")
}

func borrow(ctx context.Context, tx pgx.Tx) ([]uuid.UUID, error) {
	rows, err := tx.Query(ctx, `
		select id
		from auth.users u
		where deleted_at is null and not exists (select from public.team_members m where m.user_id = u.id)
		order by created_at desc nulls last
		limit 4`)
	if err != nil {
		return nil, err
	}
	people, err := pgx.CollectRows(rows, pgx.RowTo[uuid.UUID])
	if err == nil && len(people) < 4 {
		err = fault.New(fault.Conflict, "It could not be tried: this role may not add accounts for the test, and there are fewer than four learners without a team to act as.")
	}
	return people, err
}

// try is one statement as somebody.
type try struct {
	Role   string `json:"role"`
	Claims string `json:"claims"`
	Sub    string `json:"sub"`
	SQL    string `json:"sql"`
}

// plan lists what is tried: every cell of Policies, and that schema ops is closed.
func plan(ctx context.Context, tx pgx.Tx, words *strings.Replacer, m *Matrix) (tries []try, err error) {
	actors := Actors()
	for line := range strings.Lines(strings.TrimSpace(Policies)) {
		cells := strings.Fields(line)
		if len(cells) == 0 || cells[0] == "table" {
			continue
		}
		for i, want := range cells[2:] {
			tries = append(tries, as(actors[i], words, statement(cells[0], cells[1], words)))
			m.Cells = append(m.Cells, Cell{Table: "public." + cells[0], Verb: cells[1], Actor: actors[i], Expected: want})
		}
	}
	rows, err := tx.Query(ctx, `
		select format('ops.%I', c.relname), (
		  select quote_ident(attname) from pg_attribute a
		  where attrelid = c.oid and attnum > 0 and not attisdropped and attgenerated = '' and attidentity = '' order by attnum limit 1)
		from pg_class c
		where relnamespace = 'ops'::regnamespace and relkind in ('r', 'p') and not relispartition
		order by 1`)
	if err != nil {
		return nil, err
	}
	var table string
	var column *string
	_, err = pgx.ForEachRow(rows, []any{&table, &column}, func() error {
		if column == nil {
			return nil
		}
		for _, c := range []struct{ verb, sql string }{
			{"select", `select from ` + table + ` where false`},
			{"insert", `insert into ` + table + ` (` + *column + `) select ` + *column + ` from ` + table + ` where false`},
			{"update", `update ` + table + ` set ` + *column + ` = null where false`},
			{"delete", `delete from ` + table + ` where false`},
		} {
			for _, actor := range []string{"owner", "anon"} {
				tries = append(tries, as(actor, words, c.sql))
				m.Cells = append(m.Cells, Cell{Table: table, Verb: c.verb, Actor: actor, Expected: "denied"})
			}
		}
		return nil
	})
	return tries, err
}

func statement(table, verb string, words *strings.Replacer) string {
	row, sql := annsRows[table], ""
	switch verb {
	case "select":
		sql = `select 1 from public.` + table + ` where ` + row.where
	case "insert":
		sql = `insert into public.` + table + ` ` + row.insert
	case "update":
		sql = `update public.` + table + ` set ` + row.set + ` where ` + row.where
	case "delete":
		sql = `delete from public.` + table + ` where ` + row.where
	}
	return words.Replace(sql)
}

func as(actor string, words *strings.Replacer, sql string) try {
	people := map[string]string{"owner": "{ann}", "mate": "{tom}", "lead": "{lea}", "stranger": "{bob}"}
	switch actor {
	case "anon":
		return try{"anon", `{"role": "anon"}`, "", sql}
	case "nosub":
		return try{"authenticated", `{"role": "authenticated", "aud": "authenticated"}`, "", sql}
	}
	sub := words.Replace(people[actor])
	return try{"authenticated", fmt.Sprintf(`{"sub": %q, "role": "authenticated", "aud": "authenticated"}`, sub), sub, sql}
}

// act tries everything, each try in a savepoint that is rolled back.
func act(ctx context.Context, tx pgx.Tx, tries []try) (got []string, err error) {
	text, err := json.Marshal(tries)
	if err != nil {
		return nil, err
	}
	if _, err := tx.Exec(ctx, `select set_config('promptops.tries', $1, true)`, string(text)); err != nil {
		return nil, err
	}
	if _, err := tx.Exec(ctx, `
		do $do$
		declare
		  try   jsonb;
		  got   jsonb := '[]';
		  met   bigint;
		  state text;
		  said  text;
		begin
		  for try in select value from jsonb_array_elements(current_setting('promptops.tries')::jsonb) loop
		    begin
		      perform set_config('request.jwt.claims', try ->> 'claims', true), set_config('request.jwt.claim.sub', try ->> 'sub', true),
		              set_config('role', try ->> 'role', true);
		      execute try ->> 'sql';
		      get diagnostics met = row_count;
		      raise exception using errcode = 'PT001'; -- it worked: undo it
		    exception when others then
		      get stacked diagnostics state = returned_sqlstate, said = message_text;
		    end;
		    got := got || to_jsonb(case
		      when state = 'PT001' and met > 0 then 'allowed'
		      when state = 'PT001' then 'empty'
		      when state = '42501' then 'denied'
		      else state || ' ' || said end);
		  end loop;
		  perform set_config('promptops.got', got::text, true);
		end
		$do$`); err != nil {
		return nil, err
	}
	var answer string
	if err := tx.QueryRow(ctx, `select current_setting('promptops.got')`).Scan(&answer); err != nil {
		return nil, err
	}
	return got, json.Unmarshal([]byte(answer), &got)
}
