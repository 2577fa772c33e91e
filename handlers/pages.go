package handlers

import (
	"net/http"
	"strings"
)

// Page is an address at which an operator can look at something.
type Page struct {
	Path  string // as in the table of routes: parameters begin with a colon
	Leads bool   // team leads may, too
}

// Pages are those of the table, for whoever measures all of them. Files to download,
// what is followed live and single checks of the runbook are none.
func Pages() (pages []Page) {
	for _, r := range routes {
		switch r.access {
		case signedIn, lead, reader, admin:
		default:
			continue
		}
		if r.method == http.MethodGet && !takesLong(r.path) && !strings.HasSuffix(r.path, ".md") && r.path != runbookPath+"/checks/:id" {
			pages = append(pages, Page{r.path, r.access != admin})
		}
	}
	return pages
}
