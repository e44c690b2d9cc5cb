package trunk

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strconv"
	"sync"
	"syscall"
	"time"
)

// process is a node process as the bench sees it.
type process struct {
	role     string
	cmd      *exec.Cmd
	in       io.WriteCloser
	messages chan message // closed when the process closes its output
	stderr   tail
	done     chan struct{} // closed when messages is
}

// start is how a process is started.
type start struct {
	command []string
	nice    int
	cpu     int      // it stays there; negative: anywhere
	pulse   *os.File // its descriptor pulseDescriptor, if it has one
}

// startProcess starts a node and gives it its job. Every node runs its goroutines on one thread at a time, like each of many on a
// machine, so that its processor time has no spinning of idle threads in it.
func startProcess(ctx context.Context, how start, j *job) (*process, error) {
	cmd := exec.CommandContext(ctx, how.command[0], how.command[1:]...) // #nosec G204 -- the program itself
	cmd.SysProcAttr = &syscall.SysProcAttr{}
	if j.Role != roleOcean {
		cmd.Env = append(os.Environ(), "GOMAXPROCS=1")
	}
	if how.pulse != nil {
		cmd.ExtraFiles = []*os.File{how.pulse}
	}
	return startCommand(cmd, how.nice, how.cpu, j)
}

// startCommand starts a node by a command that has its SysProcAttr, and gives it its job.
func startCommand(cmd *exec.Cmd, nice, cpu int, j *job) (*process, error) {
	p := &process{role: j.Role, cmd: cmd, messages: make(chan message, 4), done: make(chan struct{})}
	cmd.SysProcAttr.Setsid, cmd.SysProcAttr.Setpgid = true, false // Ctrl-C reaches us, and we end it
	cmd.Stderr = &p.stderr
	var err error
	if p.in, err = p.cmd.StdinPipe(); err != nil {
		return nil, fmt.Errorf("trunk: start %s: %w", p.role, err)
	}
	out, err := p.cmd.StdoutPipe()
	if err != nil {
		return nil, fmt.Errorf("trunk: start %s: %w", p.role, err)
	}
	if err := startOn(p.cmd, cpu); err != nil {
		return nil, fmt.Errorf("trunk: start %s: %w", p.role, err)
	}
	if nice != 0 {
		if err := setNice(p.cmd.Process.Pid, nice); err != nil {
			_ = p.cmd.Process.Kill()
			_ = p.cmd.Wait()
			return nil, fmt.Errorf("trunk: priority %d of %s: %w", nice, p.role, err)
		}
	}
	go func() {
		defer close(p.done)
		defer close(p.messages)
		for dec := json.NewDecoder(out); ; {
			var m message
			if dec.Decode(&m) != nil {
				return
			}
			p.messages <- m
		}
	}()
	return p, p.tell(j)
}

// setNice sets the priority of a process that leads its session: of all threads it has by now, which later ones inherit, and
// where Linux schedules sessions against each other (sched(7), autogroup) of its session.
func setNice(pid, nice int) error {
	if err := syscall.Setpriority(syscall.PRIO_PGRP, pid, nice); err != nil {
		return err
	}
	group := fmt.Sprintf("/proc/%d/autogroup", pid)
	if _, err := os.Stat(group); err != nil {
		return nil //nolint:nilerr // no such scheduling here
	}
	return os.WriteFile(group, []byte(strconv.Itoa(nice)), 0)
}

func (p *process) tell(v any) error {
	if err := json.NewEncoder(p.in).Encode(v); err != nil {
		return fmt.Errorf("trunk: %s: %w: %s", p.role, err, p.stderr.String())
	}
	return nil
}

// hear waits for a message.
func (p *process) hear(ctx context.Context, patience time.Duration) (message, error) {
	t := time.NewTimer(patience)
	defer t.Stop()
	select {
	case m, ok := <-p.messages:
		switch {
		case !ok:
			return m, fmt.Errorf("trunk: the %s ended by itself: %s", p.role, p.stderr.String())
		case m.Error != "":
			return m, errors.New(m.Error)
		}
		return m, nil
	case <-ctx.Done():
		return message{}, ctx.Err()
	case <-t.C:
		return message{}, fmt.Errorf("trunk: the %s said nothing for %v: %s", p.role, patience, p.stderr.String())
	}
}

// stop ends the process, by its own way if it takes it, and waits for it.
func (p *process) stop() {
	_ = p.in.Close()
	kill := time.AfterFunc(3*time.Second, func() { _ = p.cmd.Process.Kill() })
	defer kill.Stop()
	for range p.messages { // so that its last words do not block it
	}
	<-p.done
	_ = p.cmd.Wait() // its report or its error was heard
}

// tail keeps the last of what is written to it.
type tail struct {
	mu sync.Mutex
	b  []byte // guarded by mu
}

const tailBytes = 2048

func (t *tail) Write(b []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.b = append(t.b, b...)
	if over := len(t.b) - tailBytes; over > 0 {
		t.b = append(t.b[:0], t.b[over:]...)
	}
	return len(b), nil
}

func (t *tail) String() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return string(bytes.TrimSpace(t.b))
}
