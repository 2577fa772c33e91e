// Package view keeps the filters of pages that operators saved under a name. What is
// saved is a page of the list below and a query as that page writes it, so that no
// view leads anywhere else.
package view

import (
	"slices"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/google/uuid"

	"github.com/promptcademy/promptops/internal/fault"
)

// Pages are those that have views.
var Pages = []string{"/usage", "/runs", "/activity"}

const (
	maxName   = 60   // characters
	maxQuery  = 4000 // bytes
	mostViews = 50   // of an operator on a page

	// Kept is how long a deleted view can be taken back.
	Kept = time.Hour
)

// View is a page with filters.
type View struct {
	ID      uuid.UUID
	Page    string
	Name    string
	Query   string // without the question mark
	Shared  bool   // with all admins
	Own     bool   // the one who asks saved it
	Owner   string // who saved it
	Default bool   // the page opens with it for the one who asks
}

// Href is where it leads.
func (v View) Href() string { return Href(v.Page, v.Query) }

// Href is a page with a query. A page that has no views is the first one that has.
func Href(page, query string) string {
	if !slices.Contains(Pages, page) {
		page = Pages[0]
	}
	if query == "" {
		return page + "?" + All
	}
	return page + "?" + query
}

// All is the query that shows a page without a view, also to who has one that it
// opens with.
const All = "view=all"

// Viewer is who asks.
type Viewer struct {
	OperatorID uuid.UUID
	Admin      bool // sees shared views, and may share
}

// New is a view to be saved.
type New struct {
	Page    string
	Name    string
	Query   string
	Shared  bool
	Default bool
}

// named checks a view's name.
func named(name string) (string, error) {
	name = strings.TrimSpace(name)
	problem := ""
	switch {
	case name == "":
		problem = "is needed"
	case utf8.RuneCountInString(name) > maxName:
		problem = "must have at most 60 characters"
	case !utf8.ValidString(name) || strings.ContainsFunc(name, unicode.IsControl):
		problem = "holds characters that cannot be shown"
	default:
		return name, nil
	}
	return "", fault.InvalidFields([]fault.Field{{Field: "name", Message: problem}})
}

var (
	errNone    = fault.New(fault.NotFound, "There is no such view among yours.")
	errTaken   = fault.New(fault.Conflict, "You have a view of that name for this page already.")
	errTooMany = fault.New(fault.Conflict, "You have 50 views of this page. Delete one to save another.")
)
