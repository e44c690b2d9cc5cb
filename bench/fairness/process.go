package fairness

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os/exec"
	"syscall"
	"time"
)

// child is a TCP process as the bench sees it.
type child struct {
	cmd      *exec.Cmd
	in       io.WriteCloser
	messages chan tcpMessage // closed when the process closes its output
}

// startChild starts a process by a command that has its SysProcAttr, gives it its job and waits until it is ready.
func startChild(ctx context.Context, cmd *exec.Cmd, nice int, j *tcpJob) (*child, error) {
	c := &child{cmd: cmd, messages: make(chan tcpMessage, 4)}
	fail := func(err error) (*child, error) { return nil, fmt.Errorf("fairness: start TCP: %w", err) }
	var err error
	if c.in, err = cmd.StdinPipe(); err != nil {
		return fail(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		return fail(err)
	}
	if err := cmd.Start(); err != nil {
		return fail(err)
	}
	go func() {
		defer close(c.messages)
		for dec := json.NewDecoder(out); ; {
			var m tcpMessage
			if dec.Decode(&m) != nil {
				return
			}
			c.messages <- m
		}
	}()
	if nice != 0 {
		if err := syscall.Setpriority(syscall.PRIO_PGRP, cmd.Process.Pid, nice); err != nil {
			c.stop()
			return fail(err)
		}
	}
	if err := c.tell(j); err != nil {
		c.stop()
		return nil, err
	}
	if _, err := c.hear(ctx, 20*time.Second); err != nil {
		c.stop()
		return nil, err
	}
	return c, nil
}

func (c *child) tell(v any) error {
	if err := json.NewEncoder(c.in).Encode(v); err != nil {
		return fmt.Errorf("fairness: TCP: %w", err)
	}
	return nil
}

// hear waits for a message.
func (c *child) hear(ctx context.Context, patience time.Duration) (tcpMessage, error) {
	t := time.NewTimer(patience)
	defer t.Stop()
	select {
	case m, ok := <-c.messages:
		switch {
		case !ok:
			return m, errors.New("fairness: a TCP process ended by itself")
		case m.Error != "":
			return m, errors.New(m.Error)
		}
		return m, nil
	case <-ctx.Done():
		return tcpMessage{}, ctx.Err()
	case <-t.C:
		return tcpMessage{}, fmt.Errorf("fairness: a TCP process said nothing for %v", patience)
	}
}

// stop ends the process, by its own way if it takes it, and waits for it.
func (c *child) stop() {
	_ = c.in.Close()
	kill := time.AfterFunc(3*time.Second, func() { _ = c.cmd.Process.Kill() })
	defer kill.Stop()
	for range c.messages { // so that its last words do not block it
	}
	_ = c.cmd.Wait() // its report or its error was heard
}
