// Package network says which addresses are nobody's to name: those of this machine,
// of private networks and of the services of clouds.
package network

import (
	"net/netip"
	"slices"
)

// closed are where nothing may lie that an operator names: this machine, private
// networks, link-local addresses with the metadata services of clouds, and what
// only translates into one of these.
var closed = []netip.Prefix{
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

// Closed says whether an address lies in a network that what operators name, an
// endpoint or a webhook, must not reach.
func Closed(address netip.Addr) bool {
	address = address.Unmap().WithZone("")
	return !address.IsValid() || slices.ContainsFunc(closed, func(n netip.Prefix) bool { return n.Contains(address) })
}
