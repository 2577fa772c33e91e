package notify

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"os"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/promptcademy/promptops/internal/network"
)

const maxReply = 1 << 10 // bytes that are looked at

// errNotPublic is why no connection was made.
var errNotPublic = errors.New("it leads to an address that is not on the internet")

// webClient makes a client for one call. It follows no redirect. Where an admin
// may have typed any address, it connects to the internet only, unless more is
// allowed: the address is checked after it was looked up, at the moment of
// connecting, so that a name cannot lead elsewhere in between. A proxy would look
// names up by itself, so it is used for Slack only, whose name is known.
func webClient(channel string, opts Options) *http.Client {
	dialer := &net.Dialer{Timeout: 10 * time.Second}
	proxy := http.ProxyFromEnvironment
	if channel != Slack {
		proxy = nil
	}
	if channel != Slack && !opts.AllowPrivate {
		dialer.Control = func(_, address string, _ syscall.RawConn) error {
			to, err := netip.ParseAddrPort(address)
			if err != nil || network.Closed(to.Addr()) {
				return errNotPublic
			}
			return nil
		}
	}
	transport := &http.Transport{
		Proxy: proxy, DialContext: dialer.DialContext, TLSClientConfig: opts.TLS, ForceAttemptHTTP2: true, DisableKeepAlives: true,
		TLSHandshakeTimeout: 10 * time.Second, MaxResponseHeaderBytes: 64 << 10, DisableCompression: true,
	}
	return &http.Client{
		Transport:     transport,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
}

// post sends a JSON body and returns the status, the beginning of the answer and
// how long the other side asks to be left alone. name is who that is, in
// sentences.
func post(ctx context.Context, opts Options, name string, setup Setup, body []byte, header map[string]string) (status int, said string, after time.Duration, err error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, string(setup.Address), bytes.NewReader(body))
	if err != nil {
		return 0, "", 0, &Failure{Words: fmt.Sprintf("The address of %s cannot be used: type it again on Settings → Channels.", name), Permanent: true, Everybody: true}
	}
	request.Header.Set("Content-Type", "application/json")
	request.Header.Set("User-Agent", "Promptcademy-Ops")
	for field, value := range header {
		request.Header.Set(field, value)
	}
	response, err := webClient(setup.Channel, opts).Do(request)
	if err != nil {
		return 0, "", 0, webFailure(name, err, setup)
	}
	defer response.Body.Close()
	answer, err := io.ReadAll(io.LimitReader(response.Body, maxReply))
	if err != nil && response.StatusCode < 300 {
		return 0, "", 0, webFailure(name, err, setup)
	}
	return response.StatusCode, string(answer), retryAfter(response.Header.Get("Retry-After"), time.Now()), nil
}

// webFailure says in words why there was no answer.
func webFailure(name string, err error, setup Setup) *Failure {
	if wrapped, ok := errors.AsType[*url.Error](err); ok {
		err = wrapped.Err // around it is the address, which is a secret
	}
	var unknown x509Errors
	switch {
	case errors.Is(err, errNotPublic):
		return &Failure{Words: fmt.Sprintf("Nothing was sent to %s: %v.", name, errNotPublic), Permanent: true, Everybody: true}
	case unknown.in(err):
		return &Failure{Words: fmt.Sprintf("The certificate of %s is not to be trusted: %s.", name, quoted(err.Error(), setup.secrets()...)), Everybody: true}
	case isTimeout(err):
		return &Failure{Words: fmt.Sprintf("No answer from %s in time.", name), Everybody: true}
	}
	return &Failure{Words: fmt.Sprintf("No answer from %s: %s.", name, unreachable(err, setup)), Everybody: true}
}

// unreachable says why a server cannot be spoken to, the usual reasons in words.
func unreachable(err error, setup Setup) string {
	if lookup, ok := errors.AsType[*net.DNSError](err); ok && lookup.IsNotFound {
		return "its name is not known"
	}
	if errors.Is(err, syscall.ECONNREFUSED) {
		return "it refuses connections"
	}
	return quoted(err.Error(), setup.secrets()...)
}

// retryAfter reads the header, in seconds or as a date, RFC 9110 10.2.3; never
// more than a day.
func retryAfter(value string, now time.Time) time.Duration {
	if seconds, err := strconv.Atoi(strings.TrimSpace(value)); err == nil {
		return min(max(time.Duration(min(seconds, 1<<20))*time.Second, 0), giveUpAfter)
	}
	if at, err := http.ParseTime(value); err == nil {
		return min(max(at.Sub(now), 0), giveUpAfter)
	}
	return 0
}

func isTimeout(err error) bool {
	if errors.Is(err, context.DeadlineExceeded) || errors.Is(err, os.ErrDeadlineExceeded) {
		return true
	}
	network, ok := errors.AsType[net.Error](err)
	return ok && network.Timeout()
}

// x509Errors finds what is wrong with a certificate.
type x509Errors struct{}

func (x509Errors) in(err error) bool {
	_, is := errors.AsType[*tls.CertificateVerificationError](err)
	if _, authority := errors.AsType[x509.UnknownAuthorityError](err); authority {
		return true
	}
	return is
}
