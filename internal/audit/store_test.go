package audit

import (
	"bytes"
	"context"
	"encoding/csv"
	"encoding/hex"
	"errors"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/promptcademy/promptops/internal/fault"
	"github.com/promptcademy/promptops/internal/postgres"
	"github.com/promptcademy/promptops/internal/postgres/pgtest"
)

func TestFilterByTimeAndNobody(t *testing.T) {
	tx := pgtest.Tx(t)
	ada := Operator(uuid.New(), "ada@example.org")
	for i := range 6 {
		e := Entry{At: noon.Add(time.Duration(i) * time.Hour), Actor: CommandLine, Action: "a"}
		if i%2 == 0 {
			e.Actor = ada
		}
		add(t, tx, e)
	}
	for _, test := range []struct {
		filter Filter
		want   []int64
	}{
		{Filter{NoOperator: true}, []int64{6, 4, 2}},
		{Filter{From: noon.Add(4 * time.Hour).Truncate(time.Microsecond)}, []int64{6, 5}},
		{Filter{To: noon.Add(time.Hour).Truncate(time.Microsecond)}, []int64{1}},
		{Filter{From: noon.Add(time.Minute), To: noon.Add(3*time.Hour + time.Minute), NoOperator: true}, []int64{4, 2}},
	} {
		found, err := NewStore(tx).List(t.Context(), test.filter, 10)
		if err != nil {
			t.Fatal(err)
		}
		var ids []int64
		for _, e := range found {
			ids = append(ids, e.ID)
		}
		if diff := cmp.Diff(test.want, ids); diff != "" {
			t.Errorf("%+v: %s", test.filter, diff)
		}
	}
}

func TestChoices(t *testing.T) {
	tx := pgtest.Tx(t)
	if c, err := NewStore(tx).Choices(t.Context()); err != nil || len(c.Operators)+len(c.SubjectTypes)+len(c.Actions) != 0 {
		t.Fatalf("of nothing: %+v, %v", c, err)
	}
	person := func(email string) Actor {
		id := uuid.New()
		if _, err := tx.Exec(t.Context(), `insert into ops.operators (id, email, name, role) values ($1, $2, 'N', 'admin')`, id, email); err != nil {
			t.Fatal(err)
		}
		return Operator(id, email)
	}
	bea, ada := person("bea@example.org"), person("ada@example.org")
	person("idle@example.org")
	add(t, tx,
		Entry{At: noon, Actor: bea, Action: "team.create", SubjectType: "team"},
		Entry{At: noon, Actor: ada, Action: "team.create", SubjectType: "team"},
		Entry{At: noon, Actor: CommandLine, Action: "fallback_key.add", SubjectType: "fallback_key"},
		Entry{At: noon, Actor: Operator(uuid.New(), "gone@example.org"), Action: "backup.run"})
	c, err := NewStore(tx).Choices(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	want := Choices{
		Operators:    []Person{{*ada.OperatorID, "ada@example.org", "N"}, {*bea.OperatorID, "bea@example.org", "N"}},
		SubjectTypes: []string{"fallback_key", "team"},
		Actions:      []string{"backup.run", "fallback_key.add", "team.create"},
	}
	if diff := cmp.Diff(want, c); diff != "" {
		t.Error(diff)
	}
}

func TestParseQuery(t *testing.T) {
	berlin, err := time.LoadLocation("Europe/Berlin")
	if err != nil {
		t.Fatal(err)
	}
	for _, same := range []string{
		"", "who=nobody", "who=9b2e6f5c-0c0f-4a53-9a9e-6f1f2b1f7f11", "action=fallback_key.", "id=k1&subject=fallback_key",
		"from=2026-10-25", "to=2026-10-25", "from=2026-10-25&to=2026-10-25", "before=17",
	} {
		values, _ := url.ParseQuery(same)
		q, err := ParseQuery(values, berlin)
		if err != nil || q.Values().Encode() != same {
			t.Errorf("%s became %s, %v", same, q.Values().Encode(), err)
		}
		if q.Narrowed() != (same != "" && same != "before=17") {
			t.Errorf("%s is narrowed: %v", same, q.Narrowed())
		}
	}
	values, _ := url.ParseQuery("from=2026-10-25&to=2026-10-25") // 25 hours: the clocks go back
	q, _ := ParseQuery(values, berlin)
	if q.To.Sub(q.From) != 25*time.Hour {
		t.Errorf("from %v to %v", q.From, q.To)
	}
	for bad, fields := range map[string]string{
		"who=ada": "who", "from=yesterday": "from", "to=2026-02-30": "to", "from=2026-01-02&to=2026-01-01": "from", "from=0000-01-01": "from",
		"before=-1": "before", "before=x&action=%00": "action before", "subject=%ff": "subject", "id=" + strings.Repeat("x", 256): "id",
		"before=99999999999999999999": "before",
	} {
		values, _ := url.ParseQuery(bad)
		q, err := ParseQuery(values, berlin)
		f, ok := errors.AsType[*fault.Error](err)
		if !ok || f.Kind != fault.Invalid || q.Narrowed() {
			t.Errorf("%s: %v, %+v", bad, err, q)
			continue
		}
		var named []string
		for _, detail := range f.Details {
			named = append(named, detail.Field)
		}
		if strings.Join(named, " ") != fields {
			t.Errorf("%s: named %v, want %s", bad, named, fields)
		}
	}
}

// A log of more than one batch is verified and written out whole.
func TestALongLog(t *testing.T) {
	tx := pgtest.Tx(t)
	const entries = 2*batch + 3
	err := postgres.InTx(t.Context(), tx, func(tx pgx.Tx) error {
		for i := range entries {
			e := Entry{At: noon, Actor: CommandLine, Action: "a"}
			if i == 1 {
				e = Entry{At: noon, Actor: Actor{Name: "@sum"}, Action: "=1+1", SubjectType: "-x", SubjectID: "+1", SubjectLabel: "\tcmd", Details: map[string]any{"a": "=2"}}
			}
			if err := Add(t.Context(), tx, e); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	s := NewStore(tx)
	verify(t, tx, entries, 0)
	var file bytes.Buffer
	if err := s.WriteCSV(t.Context(), &file, Filter{}); err != nil {
		t.Fatal(err)
	}
	lines, err := csv.NewReader(&file).ReadAll()
	if err != nil || len(lines) != entries+1 {
		t.Fatalf("%d lines, %v", len(lines), err)
	}
	strange := lines[entries-1]
	if diff := cmp.Diff([]string{"2", "2026-11-25T12:00:00.123456Z", "'@sum", "", "'=1+1", "'-x", "'+1", "'\tcmd", `{"a":"=2"}`}, strange[:9]); diff != "" {
		t.Error(diff)
	}

	v, err := s.VerifyAs(t.Context(), CommandLine, noon)
	if err != nil || v.Entries != entries || v.Broken != 0 || v.Head != lines[1][9] {
		t.Errorf("verified: %+v, %v; the last hash of the file is %s", v, err, lines[1][9])
	}
	if _, err := tx.Exec(t.Context(), `update ops.audit_log set actor = 'x' where id = $1`, batch+1); err != nil {
		t.Fatal(err)
	}
	verify(t, tx, batch+1, batch+1)
}

func TestVerificationsAreRemembered(t *testing.T) {
	tx := pgtest.Tx(t)
	s := NewStore(tx)
	check := func(want *Verification, wantSince int64) {
		t.Helper()
		last, since, err := s.LastVerification(t.Context())
		if err != nil || since != wantSince {
			t.Errorf("%d since then, %v; want %d", since, err, wantSince)
		}
		if diff := cmp.Diff(want, last); diff != "" {
			t.Error(diff)
		}
	}
	check(nil, 0)
	add(t, tx, Entry{At: noon, Action: "a"}, Entry{At: noon, Action: "a"})
	check(nil, 2)
	ada := Operator(uuid.New(), "ada@example.org")
	first, err := s.VerifyAs(t.Context(), ada, noon)
	if err != nil || first.Entries != 2 || first.Broken != 0 {
		t.Fatalf("%+v, %v", first, err)
	}
	check(&first, 0)
	add(t, tx, Entry{At: noon, Action: "a"})
	check(&first, 1)
	if _, err := tx.Exec(t.Context(), `delete from ops.audit_log where id = 2`); err != nil {
		t.Fatal(err)
	}
	second, err := s.VerifyAs(t.Context(), CommandLine, noon.Add(time.Hour))
	if err != nil || second.Broken != 2 {
		t.Fatalf("%+v, %v", second, err)
	}
	check(&second, 0)
	// The hash that was remembered is still found, or no longer.
	entries, err := s.List(t.Context(), Filter{}, 10)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		if hex.EncodeToString(e.Hash) == first.Head {
			t.Error("the deleted entry is still there")
		}
	}
}

func TestVerifyingHasAnEnd(t *testing.T) {
	pool := pgtest.Database(t)
	add(t, pool, Entry{At: noon, Action: "a"})
	ctx, cancel := context.WithDeadline(t.Context(), time.Now().Add(-time.Second))
	defer cancel()
	if _, err := NewStore(pool).VerifyAs(ctx, CommandLine, noon); fault.KindOf(err) != fault.Unavailable || !strings.Contains(err.Error(), "promptops audit verify") {
		t.Errorf("got %v", err)
	}
	if _, since, err := NewStore(pool).LastVerification(t.Context()); since != 1 || err != nil {
		t.Errorf("%d entries, %v", since, err)
	}
}
