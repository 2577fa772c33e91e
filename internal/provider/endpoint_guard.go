package provider

import (
	"errors"
	"net/http"
	"net/netip"
	"syscall"

	"github.com/promptcademy/promptops/internal/network"
)

var errClosedNetwork = errors.New("the address lies in a private network")

// newGuardedHTTPClient is NewHTTPClient for endpoints that admins added. It looks
// at the address that it is about to connect to, after the name was resolved: a
// name that meant another address when the endpoint was saved gains nothing. It
// uses no proxy, which would resolve the name itself.
func newGuardedHTTPClient() *http.Client {
	dialer := newDialer()
	dialer.Control = func(_, address string, _ syscall.RawConn) error {
		at, err := netip.ParseAddrPort(address)
		if err != nil || network.Closed(at.Addr()) {
			return errClosedNetwork
		}
		return nil
	}
	client := NewHTTPClient()
	if transport, ok := client.Transport.(*http.Transport); ok {
		transport.Proxy, transport.DialContext = nil, dialer.DialContext
	}
	return client
}
