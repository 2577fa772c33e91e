package views

import "github.com/a-h/templ"

// SavedViews are the views of a page, and what saves the present filters as one.
type SavedViews struct {
	Page       string // "/usage"
	Query      string // the present filters; goes back with every form
	All        string // address of the page without a view
	Now        string // name of the view that is shown; "" for none
	Views      []SavedView
	Deleted    []SavedView // that can be taken back
	MayShare   bool
	HasDefault bool // the page opens with one of them
}

// SavedView is one of them.
type SavedView struct {
	ID      string
	Name    string
	Href    string
	Own     bool
	Shared  bool
	Owner   string // who saved it
	Default bool   // the page opens with it
	Current bool   // it is what is shown
}

func (v SavedView) action(verb string) templ.SafeURL {
	if verb == "" {
		return templ.SafeURL("/views/" + v.ID)
	}
	return templ.SafeURL("/views/" + v.ID + "/" + verb)
}

// note says whose it is.
func (v SavedView) note() string {
	switch {
	case !v.Own:
		return "Shared by " + v.Owner
	case v.Shared:
		return "Shared with all admins"
	default:
		return ""
	}
}

// Unfiltered is a page without filters, also for whom it opens with a view.
func (p Page) Unfiltered(page string) string {
	if p.Saved != nil && p.Saved.HasDefault {
		return p.Saved.All
	}
	return page
}
