package main

import (
	"bufio"
	"context"
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/promptcademy/promptops/internal/provider/sandbox"
)

func TestServe(t *testing.T) {
	ctx, stop := context.WithCancel(t.Context())
	read, write := io.Pipe()
	served := make(chan error, 1)
	go func() { served <- serve(ctx, write, "127.0.0.1:0", sandbox.NoDelay) }()
	url, err := bufio.NewReader(read).ReadString('\n')
	if err != nil {
		t.Fatal(err)
	}
	answer, err := http.Get(strings.TrimSpace(url) + "/openai/v1/models")
	if err != nil {
		t.Fatal(err)
	}
	if err := answer.Body.Close(); err != nil || answer.StatusCode != http.StatusUnauthorized { // without a key
		t.Errorf("%s, %v", answer.Status, err)
	}
	stop()
	if err := <-served; err != nil {
		t.Error(err)
	}
	if err := serve(t.Context(), io.Discard, "0.0.0.0:0"); err == nil {
		t.Error("it listens on all interfaces")
	}
}
