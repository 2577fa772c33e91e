package views

// ProvidersPage is the providers that prompts are sent to: those that are built
// in, and the endpoints that admins added.
type ProvidersPage struct {
	Page
	Problem string // why nothing was done; "" when nothing went wrong
	Known   []KnownProvider
	Added   []AddedEndpoint
	Form    EndpointForm
	Private bool // addresses in private networks are allowed
}

// KnownProvider is a provider that is built in.
type KnownProvider struct {
	ID, Name string
	BaseURL  string // in force
	Variable string // of the environment, which sets another
	Override bool   // it does
}

// AddedEndpoint is an OpenAI-compatible server that an admin added.
type AddedEndpoint struct {
	ID, Name string
	BaseURL  string
	Keys     string // "2 fallback keys, 1 learners’ key"
	KeysHref string
	Models   *EndpointModels // what a test has just brought; nil: there was none
}

func (e AddedEndpoint) href() string { return "/settings/providers/" + e.ID }

// EndpointModels is what came of asking an endpoint for its models.
type EndpointModels struct {
	Problem string // "" when it answered
	Took    string
	Names   []string
}

// EndpointForm adds or changes an endpoint.
type EndpointForm struct {
	ID, Name, BaseURL KeyField
	Revision          string // goes back with the form
}

// EndpointPage changes one endpoint.
type EndpointPage struct {
	Page
	ID      string
	Problem string
	Keys    string
	Form    EndpointForm
}

// EndpointFields is the form with these values, and what is wrong with each.
func EndpointFields(id, name, baseURL string, problems map[string]string) EndpointForm {
	return EndpointForm{
		ID: KeyField{
			Name: "id", Label: "Id", Kind: "text", Needed: true, Value: id, Problem: problems["id"], Prefix: "endpoint-",
			Hint: "Its models are called id/model. Small letters, digits and hyphens; it cannot be changed later.",
		},
		Name: KeyField{
			Name: "name", Label: "Name", Kind: "text", Needed: true, Value: name, Problem: problems["name"], Prefix: "endpoint-",
			Hint: "As people see it.",
		},
		BaseURL: KeyField{
			Name: "baseUrl", Label: "Base URL", Kind: "text", Needed: true, Value: baseURL, Problem: problems["baseUrl"], Prefix: "endpoint-",
			Hint: "Up to and with the version path, like https://llm.example.com/v1.",
		},
	}
}
