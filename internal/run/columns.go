package run

import (
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5/pgtype"

	"github.com/promptcademy/promptops/internal/postgres"
	"github.com/promptcademy/promptops/internal/price"
)

// Columns of what is written, as parameters of a statement. Most write themselves: see
// postgres.Array.
type (
	uuids      []uuid.UUID
	maybeUUIDs []*uuid.UUID
	texts      []string
	maybeTexts []*string
	ints       []int64
	maybeInts  []*int64
	bools      []bool
	times      []time.Time

	dates     = pgtype.FlatArray[pgtype.Date]
	usds      = pgtype.FlatArray[price.USD]
	maybeUSDs = pgtype.FlatArray[*price.USD]
)

func (c uuids) AppendArray(to []byte) []byte {
	return appendColumn(to, pgtype.UUIDOID, c, postgres.AppendUUID)
}

func (c maybeUUIDs) AppendArray(to []byte) []byte {
	return appendMaybe(to, pgtype.UUIDOID, c, postgres.AppendUUID)
}

func (c texts) AppendArray(to []byte) []byte {
	return appendColumn(to, pgtype.TextOID, c, postgres.AppendText)
}

func (c maybeTexts) AppendArray(to []byte) []byte {
	return appendMaybe(to, pgtype.TextOID, c, postgres.AppendText)
}

func (c ints) AppendArray(to []byte) []byte {
	return appendColumn(to, pgtype.Int8OID, c, postgres.AppendInt8)
}

func (c maybeInts) AppendArray(to []byte) []byte {
	return appendMaybe(to, pgtype.Int8OID, c, postgres.AppendInt8)
}

func (c bools) AppendArray(to []byte) []byte {
	return appendColumn(to, pgtype.BoolOID, c, postgres.AppendBool)
}

func (c times) AppendArray(to []byte) []byte {
	return appendColumn(to, pgtype.TimestamptzOID, c, postgres.AppendTimestamptz)
}

func appendColumn[T any](to []byte, oid uint32, column []T, element func([]byte, T) []byte) []byte {
	to = postgres.AppendArrayHead(to, oid, len(column))
	for _, value := range column {
		to = element(to, value)
	}
	return to
}

func appendMaybe[T any](to []byte, oid uint32, column []*T, element func([]byte, T) []byte) []byte {
	to = postgres.AppendArrayHead(to, oid, len(column))
	for _, value := range column {
		if value == nil {
			to = postgres.AppendNull(to)
		} else {
			to = element(to, *value)
		}
	}
	return to
}
