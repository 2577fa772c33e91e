package handlers

import (
	"net/url"
	"strconv"
	"strings"

	"github.com/promptcademy/promptops/internal/key"
	"github.com/promptcademy/promptops/views"
)

const (
	flashKeyAdded    = "key-added"   // and how the test went: "?ms=312&class=invalid_key&provider=openai&odd=shape"
	flashKeyRotated  = "key-rotated" // as above
	flashKeyTested   = "key-tested"  // as above
	flashKeyChanged  = "key-changed"
	flashKeySame     = "key-same"
	flashKeysMoved   = "keys-moved"
	flashKeyKept     = "key-kept"
	flashKeyDisabled = "key-disabled"
	flashKeyEnabled  = "key-enabled"
	flashKeyDeleted  = "key-deleted"

	flashEndpointAdded   = "endpoint-added"
	flashEndpointChanged = "endpoint-changed"
	flashEndpointSame    = "endpoint-same"
	flashEndpointRemoved = "endpoint-removed"
)

// keyFlashes are what the pages of keys and providers say of a form.
var keyFlashes = map[string]views.Flash{
	flashKeyAdded:        {Kind: "success", Text: "The key is stored, sealed."},
	flashKeyRotated:      {Kind: "success", Text: "This key has taken the old one’s place."},
	flashKeyTested:       {Kind: "success"},
	flashKeyChanged:      {Kind: "success", Text: "Saved, for every run that starts from now on."},
	flashKeySame:         {Kind: "info", Text: "Nothing was changed: these settings hold already."},
	flashKeysMoved:       {Kind: "success", Text: "The order is saved, for every run that starts from now on."},
	flashKeyKept:         {Kind: "success", Text: "It stays in use, behind the key that took its place."},
	flashKeyDisabled:     {Kind: "success", Text: "The key is disabled: no run that starts from now on uses it."},
	flashKeyEnabled:      {Kind: "success", Text: "The key is in use again. Test it, to be sure that it works."},
	flashKeyDeleted:      {Kind: "success", Text: "The key is deleted. What runs have spent with it stays in the books."},
	flashEndpointAdded:   {Kind: "success", Text: "The endpoint is added. Test it, then add a fallback key for it: also of a server that needs none, any word will do."},
	flashEndpointChanged: {Kind: "success", Text: "Saved. Other nodes know it within half a minute."},
	flashEndpointSame:    {Kind: "info", Text: "Nothing was changed: that is how it is already."},
	flashEndpointRemoved: {Kind: "success", Text: "The endpoint is removed."},
}

// keyFlash is what to say, with how a test went; nil if the name is not one of
// these.
func keyFlash(name string, values url.Values) *views.Flash {
	flash, ok := keyFlashes[name]
	if !ok {
		return nil
	}
	if ms, err := strconv.ParseUint(values.Get("ms"), 10, 31); err == nil {
		took := views.Milliseconds(int64(ms))
		said := "The provider accepts it (" + took + ")."
		if hint, refused := views.ErrorHints()[values.Get("class")]; refused {
			flash.Kind = "warning"
			said = "It was not accepted (" + took + "): " + strings.ToLower(hint.Label) + ". The history below has what the provider said."
		}
		flash.Text = join(flash.Text, said)
	}
	for _, odd := range values["odd"] {
		if words := key.Oddity(odd).Words(values.Get("provider")); words != "" {
			flash.Kind, flash.Text = "warning", join(flash.Text, words)
		}
	}
	return &flash
}

func join(said, more string) string {
	if said == "" {
		return more
	}
	return said + " " + more
}
