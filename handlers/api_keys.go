package handlers

import (
	"cmp"
	"net/http"

	"github.com/google/uuid"
	"github.com/labstack/echo/v4"

	"github.com/promptcademy/promptops/internal/fault"
	"github.com/promptcademy/promptops/internal/key"
)

const keysPath = "/api/keys"

// ownKeys is the answer to GET /api/keys.
type ownKeys struct {
	Keys      []key.OwnKey      `json:"keys"`
	MaxKeys   int               `json:"maxKeys"`
	Providers []key.OwnProvider `json:"providers"`
}

// ownKeysAPI is GET /api/keys.
func (s *Server) ownKeysAPI(c echo.Context) error {
	keys, err := s.OwnKeys.List(c.Request().Context(), *callerOf(c).learnerID, s.Now())
	if err != nil {
		return err
	}
	return c.JSON(http.StatusOK, ownKeys{keys, key.MaxOwn, s.OwnKeys.ForProviders()})
}

// addOwnKeyAPI is POST /api/keys.
func (s *Server) addOwnKeyAPI(c echo.Context) error {
	body, err := readJSON(c)
	if err != nil {
		return err
	}
	n, err := key.ParseNewUser(body, *callerOf(c).learnerID)
	if err != nil {
		return err
	}
	added, err := s.OwnKeys.Add(c.Request().Context(), n, s.Now())
	if err != nil {
		return err
	}
	return c.JSON(http.StatusCreated, added)
}

// removeOwnKeyAPI is DELETE /api/keys/:id.
func (s *Server) removeOwnKeyAPI(c echo.Context) error {
	id, err := ownKeyID(c)
	if err != nil {
		return err
	}
	if err := s.OwnKeys.Remove(c.Request().Context(), *callerOf(c).learnerID, id, s.Now()); err != nil {
		return err
	}
	return c.NoContent(http.StatusNoContent)
}

// testedKey is the answer to POST /api/keys/:id/verify.
type testedKey struct {
	Key      key.OwnKey `json:"key"`
	Verified bool       `json:"verified"`
	Note     string     `json:"note"`
}

// testOwnKeyAPI is POST /api/keys/:id/verify.
func (s *Server) testOwnKeyAPI(c echo.Context) error {
	id, err := ownKeyID(c)
	if err != nil {
		return err
	}
	ctx, learnerID := c.Request().Context(), *callerOf(c).learnerID
	if err := s.OwnKeys.AskTest(ctx, learnerID, id, s.Now()); err != nil {
		return err
	}
	tested, err := s.TestKey(ctx, key.User, id, nil, s.Now())
	if err != nil {
		return err
	}
	k, err := s.OwnKeys.Find(ctx, learnerID, id, s.Now())
	if err != nil {
		return err
	}
	note := ""
	if !tested.OK {
		note = cmp.Or(tested.Message, tested.Reason)
	}
	return c.JSON(http.StatusOK, testedKey{k, tested.OK, note})
}

// ownKeyID is the id in the address. One that is none is nobody's.
func ownKeyID(c echo.Context) (uuid.UUID, error) {
	id, err := uuid.Parse(c.Param("id"))
	if err != nil || len(c.Param("id")) != 36 {
		return id, fault.New(fault.NotFound, "You have no key with this id.")
	}
	return id, nil
}

// admitAccount lets a learner through whose account may be used. No operator has
// a way to the keys of a learner.
func (s *Server) admitAccount(c echo.Context, x *exchange) error {
	if err := s.admitLearner(c, x); err != nil {
		return err
	}
	_, err := s.Learners.Find(c.Request().Context(), *x.caller.learnerID, s.Now())
	return err
}
