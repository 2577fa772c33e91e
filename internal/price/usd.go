package price

import (
	"database/sql/driver"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5/pgtype"
	"github.com/shopspring/decimal"
)

// USD is an exact amount of dollars; the zero value is zero dollars. It is
// never a float: sums of many small costs stay right to the last digit. In JSON
// it is a number with all its digits and no exponent (0.001934), in Postgres a
// numeric. An amount that is not known is a nil *USD, null in both.
type USD struct {
	amount decimal.Decimal
}

// NewUSD returns the amount as dollars.
func NewUSD(amount decimal.Decimal) USD { return USD{amount} }

// maxUSDDigits is more than any real amount has. Without a bound a few bytes
// ("1e999999") would grow to a megabyte of digits.
const maxUSDDigits = 100

// ParseUSD reads a decimal number of up to 100 digits, with an exponent or
// without.
func ParseUSD(s string) (USD, error) {
	if len(s) > maxUSDDigits {
		return USD{}, errors.New("an amount of dollars has too many digits")
	}
	amount, err := decimal.NewFromString(s)
	if err != nil {
		return USD{}, fmt.Errorf("%q is not an amount of dollars", s)
	}
	if exponent := amount.Exponent(); exponent > maxUSDDigits || exponent < -maxUSDDigits || len(amount.String()) > maxUSDDigits {
		return USD{}, fmt.Errorf("%q is too large or too small for an amount of dollars", s)
	}
	return USD{amount}, nil
}

// Decimal returns the amount, for rounding and drawing.
func (u USD) Decimal() decimal.Decimal { return u.amount }

// Add returns u + v.
func (u USD) Add(v USD) USD { return USD{u.amount.Add(v.amount)} }

// Sub returns u - v.
func (u USD) Sub(v USD) USD { return USD{u.amount.Sub(v.amount)} }

// Neg returns -u.
func (u USD) Neg() USD { return USD{u.amount.Neg()} }

// Cmp returns -1, 0 or +1 as u is less than, equal to or greater than v.
func (u USD) Cmp(v USD) int { return u.amount.Cmp(v.amount) }

// Equal reports whether both are the same amount: 1.5 equals 1.50.
func (u USD) Equal(v USD) bool { return u.amount.Equal(v.amount) }

// IsZero reports whether u is zero dollars.
func (u USD) IsZero() bool { return u.amount.IsZero() }

// String returns every digit, without trailing zeros, exponent or currency
// sign.
func (u USD) String() string { return u.amount.String() }

// MarshalJSON writes a JSON number.
func (u USD) MarshalJSON() ([]byte, error) { return []byte(u.String()), nil }

// UnmarshalJSON reads a JSON number; null leaves u as it is.
func (u *USD) UnmarshalJSON(data []byte) error {
	if string(data) == "null" {
		return nil
	}
	parsed, err := ParseUSD(string(data))
	if err != nil {
		return err
	}
	*u = parsed
	return nil
}

// ScanNumeric lets pgx read a numeric. NULL goes into a *USD only.
func (u *USD) ScanNumeric(n pgtype.Numeric) error {
	if !n.Valid || n.NaN || n.InfinityModifier != pgtype.Finite {
		return errors.New("NULL, NaN and infinity are not amounts of dollars")
	}
	u.amount = decimal.NewFromBigInt(n.Int, n.Exp)
	return nil
}

// NumericValue lets pgx write a numeric, without the trailing zeros that a
// calculation leaves, so that the row shows the same digits as the answer.
func (u USD) NumericValue() (pgtype.Numeric, error) {
	shortest, err := decimal.NewFromString(u.String())
	return pgtype.Numeric{Int: shortest.Coefficient(), Exp: shortest.Exponent(), Valid: err == nil}, err
}

// Value is for connections that send parameters as text, such as those through
// a transaction pooler.
func (u USD) Value() (driver.Value, error) { return u.String(), nil }
