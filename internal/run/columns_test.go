package run

import (
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/promptcademy/promptops/internal/postgres/pgtest"
)

// Columns that write themselves arrive as what they are.
func TestColumnsArrive(t *testing.T) {
	conn, err := pgtest.EmptyDatabase(t).Acquire(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Release()
	if _, err := conn.Exec(t.Context(), `set time zone 'UTC'`); err != nil {
		t.Fatal(err)
	}
	id, text, number := uuid.MustParse("01a2156c-68c5-72e0-8765-686c8b64cf0a"), "naïve \"text\", {with} all\nkinds of \\ and 日本語", int64(-1)<<62
	for _, test := range []struct {
		kind   string
		column any
		want   string
		empty  any
	}{
		{"uuid[]", uuids{id, uuid.Nil}, `{01a2156c-68c5-72e0-8765-686c8b64cf0a,00000000-0000-0000-0000-000000000000}`, uuids{}},
		{"uuid[]", maybeUUIDs{nil, &id}, `{NULL,01a2156c-68c5-72e0-8765-686c8b64cf0a}`, maybeUUIDs{}},
		{"text[]", texts{"", "null", text}, `{"","null","naïve \"text\", {with} all` + "\n" + `kinds of \\ and 日本語"}`, texts{}},
		{"text[]", maybeTexts{nil, new("")}, `{NULL,""}`, maybeTexts{}},
		{"int8[]", ints{0, number, 7}, `{0,-4611686018427387904,7}`, ints{}},
		{"int8[]", maybeInts{nil, &number, nil}, `{NULL,-4611686018427387904,NULL}`, maybeInts{}},
		{"bool[]", bools{true, false}, `{t,f}`, bools{}},
		{"timestamptz[]", times{time.Date(1999, 12, 31, 23, 59, 59, 999999000, time.UTC), time.Date(2026, 11, 26, 1, 0, 0, 123456789, time.FixedZone("", 3600)), time.Date(1, 1, 1, 0, 0, 0, 0, time.UTC)},
			`{"1999-12-31 23:59:59.999999+00","2026-11-26 00:00:00.123456+00","0001-01-01 00:00:00+00"}`, times{}},
	} {
		var got string
		var places int
		err := conn.QueryRow(t.Context(), `select $1::`+test.kind+`::text, cardinality($2::`+test.kind+`)`, test.column, test.empty).Scan(&got, &places)
		if err != nil || got != test.want || places != 0 {
			t.Errorf("%T arrives as %s, its empty one with %d places, error %v; want %s", test.column, got, places, err, test.want)
		}
	}
}
