package load

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"time"
)

// answerTimeout is for one call: an answer that takes longer is none.
const answerTimeout = 30 * time.Second

// Request is a request, written once and sent many times, and what its answer
// has to look like.
type Request struct {
	addr string
	raw  []byte
	want []byte
}

// NewRequest prepares a request over plain HTTP. Its answer must have status 200
// and want in its body.
func NewRequest(r *http.Request, want string) (Request, error) {
	if r.URL.Scheme != "http" || r.URL.Port() == "" {
		return Request{}, fmt.Errorf("the address %s is not like http://host:port/path", r.URL)
	}
	var raw bytes.Buffer
	if err := r.Write(&raw); err != nil {
		return Request{}, err
	}
	return Request{r.URL.Host, raw.Bytes(), []byte(want)}, nil
}

// connection is one keep-alive connection to one server. A whole HTTP client per
// call would cost as much as what is measured.
type connection struct {
	conn   net.Conn
	reader *bufio.Reader
	body   bytes.Buffer
}

// Calls makes a Call for each of n connections, which are kept alive and opened
// again after a failure. All requests must be to one server. Each connection
// sends them in turn, the first one beginning with the first, the second with
// the second. closeAll ends the connections, after the load.
func Calls(n int, requests []Request) (calls []Call, closeAll func()) {
	connections := make([]connection, n)
	for i := range connections {
		turn := i
		calls = append(calls, func(ctx context.Context) (int, error) {
			request := requests[turn%len(requests)]
			turn++
			return connections[i].send(ctx, request)
		})
	}
	return calls, func() {
		for i := range connections {
			connections[i].close()
		}
	}
}

// send sends a request and checks the answer. Status is 0 if there was none.
func (c *connection) send(ctx context.Context, r Request) (status int, err error) {
	if c.conn == nil {
		conn, err := new(net.Dialer).DialContext(ctx, "tcp", r.addr)
		if err != nil {
			return 0, err
		}
		c.conn, c.reader = conn, bufio.NewReaderSize(conn, 8<<10)
	}
	status, again, err := c.exchange(r)
	if !again {
		c.close()
	}
	switch {
	case err != nil:
		return status, err
	case status != http.StatusOK:
		return status, fmt.Errorf("status %d: %s", status, excerpt(c.body.Bytes()))
	case !bytes.Contains(c.body.Bytes(), r.want):
		return status, fmt.Errorf("no %s in the answer: %s", r.want, excerpt(c.body.Bytes()))
	}
	return status, nil
}

// exchange leaves the answer in c.body; again means that the connection may be
// used again.
func (c *connection) exchange(r Request) (status int, again bool, err error) {
	if err := c.conn.SetDeadline(time.Now().Add(answerTimeout)); err != nil {
		return 0, false, err
	}
	if _, err := c.conn.Write(r.raw); err != nil {
		return 0, false, err
	}
	answer, err := http.ReadResponse(c.reader, nil)
	if err != nil {
		return 0, false, err
	}
	c.body.Reset()
	_, err = c.body.ReadFrom(answer.Body)
	err = errors.Join(err, answer.Body.Close())
	return answer.StatusCode, err == nil && !answer.Close, err
}

// close ends the connection; send opens another one.
func (c *connection) close() {
	if c.conn != nil {
		_ = c.conn.Close()
		c.conn = nil
	}
}

func excerpt(body []byte) []byte { return body[:min(len(body), 300)] }
