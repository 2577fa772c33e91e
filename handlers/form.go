package handlers

import (
	"net/http"
	"net/url"

	"github.com/google/uuid"
	"github.com/labstack/echo/v4"

	"github.com/promptcademy/promptops/internal/audit"
	"github.com/promptcademy/promptops/internal/fault"
)

const maxForm = 64 << 10

// formOf reads the form that was sent. It is fault.TooLarge or fault.Malformed for
// what no page of ours sends.
func formOf(c echo.Context) (url.Values, error) { return formUpTo(c, maxForm) }

// formUpTo is formOf for a form of more bytes.
func formUpTo(c echo.Context, limit int64) (url.Values, error) {
	c.Request().Body = http.MaxBytesReader(c.Response(), c.Request().Body, limit)
	form, err := c.FormParams()
	if err != nil {
		if f := asFault(err); f.Kind == fault.TooLarge {
			return nil, f
		}
		return nil, fault.New(fault.Malformed, "The form could not be read.").Because(err)
	}
	return form, nil
}

// idParam is an id in the address; what is none is fault.NotFound, as nothing has
// such an id.
func idParam(c echo.Context, name string) (uuid.UUID, error) {
	id, err := uuid.Parse(c.Param(name))
	if err != nil {
		return uuid.Nil, fault.New(fault.NotFound, "There is nothing at this address.").Because(err)
	}
	return id, nil
}

// actorOf is the operator who asks, for the audit log.
func actorOf(c echo.Context) audit.Actor {
	operator := callerOf(c).operator
	return audit.Operator(operator.ID, operator.Email)
}
