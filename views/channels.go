package views

import (
	"net/url"

	"github.com/a-h/templ"
)

// ChannelsPage is where notifications go, and what became of those that went.
type ChannelsPage struct {
	Page
	Channels   []ChannelCard
	Filters    []DeliveryFilter
	Deliveries []DeliveryRow
	Filtered   bool   // not all are listed
	Older      string // where the next ones are; "" for the last page
}

// ChannelCard is one channel and the form that sets it up.
type ChannelCard struct {
	ID       string // "email"
	Name     string
	About    string
	State    string // "On", "Off", "Not set up"
	Kind     string // the tone of that: "success", "warning"; "" for none
	Ready    bool   // it can be tested
	Sent     *Moment
	Failed   *Moment // the last trouble, unless something was sent since
	Failure  string  // what that was
	Resting  *Moment // nothing is sent before
	Enabled  bool
	Revision string // of the setup that the form was made from; goes back with it
	Fields   []ChannelField
	Problem  string // why nothing was saved; "" on a first look
	Changed  *Changed
}

// action is where the form is sent.
func (c ChannelCard) action() templ.SafeURL {
	return templ.SafeURL("/settings/channels/" + url.PathEscape(c.ID))
}

// ChannelField is one field of the form.
type ChannelField struct {
	Name    string
	Label   string
	Type    string // of the input: "text", "password", "email"; "select"
	Hint    string
	Value   string
	Example string   // shown where nothing is typed
	Options []Option // of a select
	Wide    bool     // takes the whole width
	Problem string
	id      string
	focus   bool
}

// attributes tie the field to what is said about it.
func (f ChannelField) attributes() templ.Attributes {
	attributes := templ.Attributes{}
	about := ""
	if f.Hint != "" {
		about = f.id + "-hint"
	}
	if f.Problem != "" {
		about = f.id + "-problem " + about
		attributes["aria-invalid"] = "true"
	}
	if about != "" {
		attributes["aria-describedby"] = about
	}
	return attributes
}

func (f ChannelField) class() string {
	if f.Wide {
		return "field channel-wide"
	}
	return "field"
}

// channelFields are the fields of each channel, in their order.
var channelFields = map[string][]ChannelField{
	"email": {
		{Name: "host", Label: "Mail server", Type: "text", Example: "smtp.example.com", Hint: "It may stand in your own network."},
		{Name: "port", Label: "Port", Type: "text", Hint: "Empty: the usual one, 587 with STARTTLS, 465 with TLS, 25 without."},
		{Name: "security", Label: "Encryption", Type: "select", Options: []Option{
			{Value: "starttls", Label: "STARTTLS, required"}, {Value: "tls", Label: "TLS from the first byte"}, {Value: "none", Label: "None"},
		}, Hint: "Without it no password is sent, except to this machine."},
		{Name: "username", Label: "User name", Type: "text"},
		{Name: "password", Label: "Password", Type: "password", Hint: "Stored sealed and never shown. To keep it, leave it as it is; another server needs it again."},
		{Name: "from", Label: "From", Type: "text", Example: "Promptcademy Ops <ops@example.com>"},
		{Name: "to", Label: "To", Type: "text", Example: "team@example.com, oncall@example.com", Wide: true, Hint: "Who gets what is for nobody in particular, like a warning. Nudges go to the learner."},
	},
	"slack": {
		{Name: "url", Label: "Incoming webhook", Type: "text", Example: "https://hooks.slack.com/services/…", Wide: true, Hint: "Slack makes one per channel: Apps → Incoming Webhooks. Whoever knows it can post, so it is stored sealed and shown only in part. To keep it, leave it as it is."},
	},
	"webhook": {
		{Name: "url", Label: "URL", Type: "text", Example: "https://hooks.example.com/…", Wide: true, Hint: "Gets each notification as JSON. Stored sealed; only the server is shown. To keep it, leave it as it is."},
		{Name: "key", Label: "Signing key", Type: "password", Wide: true, Hint: "Promptops-Signature is v1= and the HMAC-SHA256 of Promptops-Timestamp, a dot and the body, with this key. 16 characters or more: openssl rand -hex 32 makes one."},
	},
}

// ChannelFields is the form of a channel with these values. problems says of each
// field what is wrong with it.
func ChannelFields(channel string, values url.Values, problems map[string]string) []ChannelField {
	fields := make([]ChannelField, len(channelFields[channel]))
	focused := false
	for i, f := range channelFields[channel] {
		f.id = channel + "-" + f.Name
		f.Value, f.Problem = values.Get(f.Name), problems[f.Name]
		f.Options = append([]Option(nil), f.Options...)
		for j := range f.Options {
			f.Options[j].Selected = f.Options[j].Value == f.Value
		}
		f.focus = f.Problem != "" && !focused
		focused = focused || f.focus
		fields[i] = f
	}
	return fields
}

// DeliveryFilter leads to the deliveries in one state.
type DeliveryFilter struct {
	Label  string
	Href   string
	Active bool
}

// DeliveryRow is one line of the list.
type DeliveryRow struct {
	ID       string
	At       Moment
	Channel  string
	To       string // "" where the channel says it
	Subject  string
	Purpose  string
	State    string
	Kind     string // the tone of that
	Note     string // "3 attempts; next 25 Nov 2026, 13:05 CET"; "" for none
	Reason   string
	CanRetry bool
}

func (d DeliveryRow) again() templ.SafeURL {
	return templ.SafeURL("/settings/channels/deliveries/" + url.PathEscape(d.ID) + "/again")
}
