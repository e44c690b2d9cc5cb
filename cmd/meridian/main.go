// Command meridian runs a node of a Meridian mesh and the tools around it.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"syscall"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	err := newRootCommand().ExecuteContext(ctx)
	stop()
	if err == nil {
		return
	}
	fmt.Fprintf(os.Stderr, "meridian: %v\n", err)
	var exit *exitError
	if errors.As(err, &exit) {
		os.Exit(exit.code) //nolint:gocritic // stop was called above
	}
	os.Exit(1)
}
