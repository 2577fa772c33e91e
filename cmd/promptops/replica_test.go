package main

import (
	"net/http"
	"strings"
	"testing"
)

// A replica that is away, or none, is said in the log and keeps nobody from anything.
func TestServeWithoutItsReplica(t *testing.T) {
	env := onDatabase(t)
	for reason, url := range map[string]string{
		"it is no streaming replica": env["DATABASE_URL"],
		"it does not answer":         "postgres://nobody:hunter2@127.0.0.1:1/nothing",
	} {
		t.Run(reason, func(t *testing.T) {
			env["DATABASE_REPLICA_URL"] = url
			s := serveWith(t, env).ready()
			s.says("replica_not_read")
			if !strings.Contains(s.stdout.String(), reason) || strings.Contains(s.stdout.String()+s.stderr.String(), "hunter2") {
				t.Errorf("it says\n%s", s.stdout.String())
			}
			if status := s.status("/sign-in"); status != http.StatusOK {
				t.Errorf("sign-in answers %d", status)
			}
		})
	}
}
