package postgres

import (
	"encoding/binary"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5/pgtype"
)

// Array is a parameter that writes itself as an array in Postgres's binary format. Of
// other arrays the driver boxes every element and asks how to write it: for statements
// that take dozens of arrays that is most of the work. It is for connections whose
// statements are prepared, which is how parameters come to be binary.
type Array interface {
	AppendArray(to []byte) []byte
}

// AppendArrayHead begins an array of n elements, each of which is appended next.
func AppendArrayHead(to []byte, elementOID uint32, n int) []byte {
	dimensions := uint32(1)
	if n == 0 {
		dimensions = 0
	}
	to = binary.BigEndian.AppendUint32(to, dimensions)
	to = binary.BigEndian.AppendUint32(to, 1) // there may be nulls
	to = binary.BigEndian.AppendUint32(to, elementOID)
	if n > 0 {
		to = binary.BigEndian.AppendUint32(to, uint32(n))
		to = binary.BigEndian.AppendUint32(to, 1) // the first place
	}
	return to
}

// AppendNull appends null as an element of an array.
func AppendNull(to []byte) []byte { return append(to, 0xff, 0xff, 0xff, 0xff) }

// AppendText appends an element of a text[].
func AppendText(to []byte, text string) []byte {
	return append(binary.BigEndian.AppendUint32(to, uint32(len(text))), text...)
}

// AppendUUID appends an element of a uuid[].
func AppendUUID(to []byte, id uuid.UUID) []byte { return append(append(to, 0, 0, 0, 16), id[:]...) }

// AppendInt8 appends an element of an int8[].
func AppendInt8(to []byte, n int64) []byte {
	return binary.BigEndian.AppendUint64(append(to, 0, 0, 0, 8), uint64(n))
}

// AppendBool appends an element of a bool[].
func AppendBool(to []byte, yes bool) []byte {
	if yes {
		return append(to, 0, 0, 0, 1, 1)
	}
	return append(to, 0, 0, 0, 1, 0)
}

// Postgres counts from the beginning of the year 2000.
const microsecondsTo2000 = 946_684_800_000_000

// AppendTimestamptz appends an element of a timestamptz[], to the microsecond.
func AppendTimestamptz(to []byte, at time.Time) []byte {
	return AppendInt8(to, at.UnixMicro()-microsecondsTo2000)
}

func wrapArray(value any) (pgtype.WrappedEncodePlanNextSetter, any, bool) {
	if _, ok := value.(Array); !ok {
		return nil, nil, false
	}
	return &arrayPlan{}, pgtype.FlatArray[any]{}, true // the driver wants to know a way of its own, too
}

type arrayPlan struct{}

func (*arrayPlan) SetNext(pgtype.EncodePlan) {}

func (*arrayPlan) Encode(value any, buf []byte) ([]byte, error) {
	return value.(Array).AppendArray(buf), nil
}
