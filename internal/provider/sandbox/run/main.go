// Command run serves the sandbox as a process of its own, for benchmarks and for
// trying other programs against it. It prints its address and runs until it is
// told to stop; providers are below that address (see package sandbox):
//
//	go run ./internal/provider/sandbox/run -listen 127.0.0.1:4010 -latency 60ms
package main

import (
	"context"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"

	"github.com/promptcademy/promptops/internal/provider/sandbox"
)

func main() {
	listen := flag.String("listen", "127.0.0.1:0", "address on the loopback interface; port 0 is any free one")
	latency := flag.Duration("latency", 0, "time to the first byte of every answer")
	flag.Parse()
	if flag.NArg() > 0 {
		flag.Usage()
		os.Exit(2)
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	err := serve(ctx, os.Stdout, *listen, sandbox.Latency(*latency), sandbox.Remember)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func serve(ctx context.Context, stdout io.Writer, listen string, options ...sandbox.Option) error {
	box, err := sandbox.Start(ctx, listen, options...)
	if err != nil {
		return err
	}
	fmt.Fprintln(stdout, box.URL)
	<-ctx.Done()
	return nil
}
