package views

// settingsTab is one page of the settings.
type settingsTab struct {
	Label string
	Href  string
}

// settingsTabs are the pages of the settings in their order. A new one is a line
// here, and @settingsNav(p.Page) at the top of the page.
var settingsTabs = []settingsTab{
	{"Budgets", "/settings/budgets"},
	{"Prices", "/settings/prices"},
	{"Providers", "/settings/providers"},
	{"Channels", "/settings/channels"},
	{"Teams", "/settings/teams"},
	{"Operators", "/settings/operators"},
	{"Audit log", "/settings/audit"},
}
