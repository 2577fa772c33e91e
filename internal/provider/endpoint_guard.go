package provider

import (
	"errors"
	"net/http"
	"net/netip"
	"slices"
	"syscall"
)

// closedNetworks are where no added endpoint may lie: this machine, private
// networks, link-local addresses with the metadata services of clouds, and what
// only translates into one of these.
var closedNetworks = []netip.Prefix{
	netip.MustParsePrefix("0.0.0.0/8"),
	netip.MustParsePrefix("10.0.0.0/8"),
	netip.MustParsePrefix("100.64.0.0/10"),
	netip.MustParsePrefix("127.0.0.0/8"),
	netip.MustParsePrefix("168.63.129.16/32"), // Azure's own services
	netip.MustParsePrefix("169.254.0.0/16"),
	netip.MustParsePrefix("172.16.0.0/12"),
	netip.MustParsePrefix("192.0.0.0/24"),
	netip.MustParsePrefix("192.168.0.0/16"),
	netip.MustParsePrefix("198.18.0.0/15"),
	netip.MustParsePrefix("224.0.0.0/4"),
	netip.MustParsePrefix("240.0.0.0/4"), // with 255.255.255.255
	netip.MustParsePrefix("::/96"),       // unspecified, loopback, IPv4 in old clothes
	netip.MustParsePrefix("64:ff9b::/96"),
	netip.MustParsePrefix("64:ff9b:1::/48"),
	netip.MustParsePrefix("2001::/32"), // Teredo
	netip.MustParsePrefix("2002::/16"), // 6to4
	netip.MustParsePrefix("fc00::/7"),
	netip.MustParsePrefix("fe80::/10"),
	netip.MustParsePrefix("fec0::/10"),
	netip.MustParsePrefix("ff00::/8"),
}

// isClosed says whether an address lies in a network that added endpoints must
// not reach.
func isClosed(address netip.Addr) bool {
	address = address.Unmap().WithZone("")
	return !address.IsValid() || slices.ContainsFunc(closedNetworks, func(n netip.Prefix) bool { return n.Contains(address) })
}

var errClosedNetwork = errors.New("the address lies in a private network")

// newGuardedHTTPClient is NewHTTPClient for endpoints that admins added. It looks
// at the address that it is about to connect to, after the name was resolved: a
// name that meant another address when the endpoint was saved gains nothing. It
// uses no proxy, which would resolve the name itself.
func newGuardedHTTPClient() *http.Client {
	dialer := newDialer()
	dialer.Control = func(_, address string, _ syscall.RawConn) error {
		at, err := netip.ParseAddrPort(address)
		if err != nil || isClosed(at.Addr()) {
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
