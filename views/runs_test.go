package views

import "github.com/a-h/templ"

// searchedPages are lists of runs that were not looked through to their end, and a
// page whose figures are old.
func searchedPages() map[string]templ.Component {
	some := runsPage()
	some.Count, some.Older = "", ""
	some.Searched, some.Further = "back to 12 Oct 2026, 14:05 UTC", "/runs?before=4&range=7d"
	none := some
	none.Runs, none.Newest, none.Newer = nil, "", ""
	none.Page.Copy = &CopyNotice{Tag: "Not quite up to date", Text: "Figures are 12 seconds old: the replica that pages read from is behind."}
	return map[string]templ.Component{"runs-searched": RunsContent(some), "runs-none-so-far": Runs(none)}
}
