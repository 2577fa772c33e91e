package handlers

import (
	"net/http"
	"net/url"

	"github.com/labstack/echo/v4"

	"github.com/promptcademy/promptops/internal/fault"
)

const maxForm = 64 << 10

// formOf reads the form that was sent: what stands in the body, and not in the
// address. It is a fault when it is too large or cannot be read.
func formOf(c echo.Context) (url.Values, error) {
	c.Request().Body = http.MaxBytesReader(c.Response(), c.Request().Body, maxForm)
	if err := c.Request().ParseForm(); err != nil {
		if f := asFault(err); f.Kind == fault.TooLarge {
			return nil, f
		}
		return nil, fault.New(fault.Malformed, "The form could not be read.").Because(err)
	}
	return c.Request().PostForm, nil
}
