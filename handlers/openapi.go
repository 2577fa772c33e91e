package handlers

import (
	"bytes"
	"crypto/sha256"
	_ "embed"
	"fmt"
	"net/http"
	"time"

	"github.com/labstack/echo/v4"
)

// openAPIDocument describes the API, in OpenAPI 3.1. The tests check
// every answer of theirs by it.
//
//go:embed openapi.yaml
var openAPIDocument []byte

var openAPIETag = fmt.Sprintf(`"%x"`, sha256.Sum256(openAPIDocument))

// openAPI is GET /api/openapi.yaml.
func (s *Server) openAPI(c echo.Context) error {
	header := c.Response().Header()
	header.Set("Content-Type", "application/yaml")
	header.Set("Cache-Control", "public, max-age=300")
	header.Set("ETag", openAPIETag)
	http.ServeContent(c.Response(), c.Request(), "", time.Time{}, bytes.NewReader(openAPIDocument))
	return nil
}
