package views

import (
	"net/url"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func channelsPage() ChannelsPage {
	at := MomentOf(time.Date(2026, 11, 24, 12, 0, 0, 0, time.UTC), time.UTC)
	mail := url.Values{"host": {"smtp.example.org"}, "port": {"587"}, "security": {"starttls"}, "username": {"ops"}, "password": {"••••••••"}, "from": {"ops@example.org"}, "to": {"a@example.org, b@example.org"}}
	return ChannelsPage{
		Page: page("Channels", "/settings/channels"),
		Channels: []ChannelCard{
			{ID: "email", Name: "E-mail", About: "Through your own mail server.", State: "On", Kind: "success", Ready: true, Enabled: true, Revision: "3",
				Failed: &at, Failure: "The mail server did not answer in time.", Resting: &at, Fields: ChannelFields("email", mail, nil), Changed: &Changed{By: "Lena Berg", At: at}},
			{ID: "slack", Name: "Slack", About: "Into one channel.", State: "Off", Kind: "warning", Ready: true, Sent: &at, Revision: "1",
				Fields: ChannelFields("slack", url.Values{"url": {"https://hooks.slack.com/services/T1/••••••••"}}, nil), Changed: &Changed{At: at}},
			{ID: "webhook", Name: "Webhook", About: "As signed JSON.", State: "Not set up", Revision: "0", Fields: ChannelFields("webhook", nil, nil)},
		},
		Filters: []DeliveryFilter{{Label: "All", Href: "/settings/channels#deliveries", Active: true}, {Label: "Queued", Href: "/settings/channels?state=queued#deliveries"}},
		Deliveries: []DeliveryRow{
			{ID: "d1", At: at, Channel: "E-mail", To: "zoe@example.org", Subject: "Your key", Purpose: "Nudge", State: "Queued", Kind: "info", Note: "after 1 attempt", Reason: "Busy."},
			{ID: "d2", At: at, Channel: "Slack", Subject: "<b>&", Purpose: "Key alert", State: "Failed", Kind: "error", Reason: "Revoked.", CanRetry: true},
			{ID: "d3", At: at, Channel: "Slack", Subject: "Test", Purpose: "Test", State: "Sent", Kind: "success"},
		},
		Older: "/settings/channels?before=d3#deliveries",
	}
}

func TestChannelFields(t *testing.T) {
	fields := ChannelFields("email", url.Values{"security": {"tls"}}, map[string]string{"port": "No.", "from": "No."})
	var selected, focused []string
	for _, f := range fields {
		for _, o := range f.Options {
			if o.Selected {
				selected = append(selected, o.Value)
			}
		}
		if f.focus {
			focused = append(focused, f.Name)
		}
	}
	if diff := cmp.Diff([][]string{{"tls"}, {"port"}}, [][]string{selected, focused}); diff != "" {
		t.Errorf("selected and focused (-want +got):\n%s", diff)
	}
	for _, f := range ChannelFields("email", nil, nil) {
		for _, o := range f.Options {
			if o.Selected {
				t.Error("a form changes the next one")
			}
		}
	}
}
