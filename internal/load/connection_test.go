package load

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
)

func request(t *testing.T, url, body, want string) Request {
	t.Helper()
	r, err := NewRequest(httptest.NewRequestWithContext(t.Context(), http.MethodPost, url, strings.NewReader(body)), want)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func TestSend(t *testing.T) {
	var sent atomic.Int64
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if body, err := io.ReadAll(r.Body); err != nil || string(body) != "ping" {
			t.Errorf("got %q, %v", body, err)
		}
		if sent.Add(1)%3 == 0 {
			w.Header().Set("Connection", "close")
		}
		switch r.URL.Path {
		case "/long":
			fmt.Fprint(w, strings.Repeat("long ", 10_000), "pong")
		case "/refused":
			http.Error(w, "no pong", http.StatusTeapot)
		case "/cut":
			w.Header().Set("Content-Length", "100")
			fmt.Fprint(w, "pong")
		default:
			fmt.Fprint(w, "pong")
		}
	}))
	defer server.Close()
	var c connection
	defer c.close()
	for _, test := range []struct {
		path, want string
		status     int
		problem    string
	}{
		{"/", "pong", 200, ""},
		{"/long", "pong", 200, ""},
		{"/", "pong", 200, ""},
		{"/", "ping", 200, "no ping in the answer: pong"},
		{"/refused", "pong", 418, "status 418: no pong"},
		{"/cut", "pong", 200, "unexpected EOF"},
		{"/", "pong", 200, ""}, // on another connection
	} {
		status, err := c.send(t.Context(), request(t, server.URL+test.path, "ping", test.want))
		if status != test.status || (err == nil) != (test.problem == "") || err != nil && !strings.Contains(err.Error(), test.problem) {
			t.Errorf("%s: %d, %v; want %d, %s", test.path, status, err, test.status, test.problem)
		}
	}
}

func TestNobodyThere(t *testing.T) {
	var c connection
	server := httptest.NewServer(http.NotFoundHandler())
	server.Close()
	if status, err := c.send(t.Context(), request(t, server.URL, "ping", "")); err == nil || status != 0 {
		t.Errorf("%d, %v", status, err)
	}
}

func TestCallsTakeTurns(t *testing.T) {
	var seen []string
	server := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { seen = append(seen, r.URL.Path) }))
	defer server.Close()
	calls, closeAll := Calls(2, []Request{request(t, server.URL+"/a", "", ""), request(t, server.URL+"/b", "", ""), request(t, server.URL+"/c", "", "")})
	defer closeAll()
	for _, i := range []int{0, 0, 1, 1, 1} {
		if _, err := calls[i](t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	if got := strings.Join(seen, " "); got != "/a /b /b /c /a" {
		t.Errorf("sent %s", got)
	}
}

func TestAddressMustBePlain(t *testing.T) {
	for _, url := range []string{"https://127.0.0.1:1/", "http://example.com/"} {
		if _, err := NewRequest(httptest.NewRequestWithContext(t.Context(), http.MethodGet, url, nil), ""); err == nil {
			t.Errorf("%s is taken", url)
		}
	}
}
