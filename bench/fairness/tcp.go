package fairness

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"github.com/meridian-sfu/meridian/bench/trunk"
)

// tcpJob is the first thing a TCP process is told; the second is the start, nanoseconds by trunk.Now.
type tcpJob struct {
	Send    bool           `json:"send"`
	Addr    netip.AddrPort `json:"addr"` // of the receiver
	Control string         `json:"control"`
	Flows   int            `json:"flows"`
	Times   []trunk.Window `json:"times"` // when it sends, each time with new connections
	End     time.Duration  `json:"end"`
}

// tcpMessage is what a TCP process says: that it is ready, its report, or what went wrong.
type tcpMessage struct {
	Ready  bool       `json:"ready,omitzero"`
	Report *tcpReport `json:"report,omitempty"`
	Error  string     `json:"error,omitempty"`
}

// tcpReport is one side's account.
type tcpReport struct {
	Arrived []uint64    `json:"arrived,omitempty"` // receiver: payload bytes by moment, in steps of trunk.LiveStep
	Samples []tcpSample `json:"samples,omitempty"` // sender, about every trunk.LiveStep, of its first connection
}

// tcpSample is what the kernel says of a connection.
type tcpSample struct {
	At          time.Duration `json:"at"`
	RTT         time.Duration `json:"rtt"`
	Window      uint32        `json:"window"` // segments
	Retransmits uint32        `json:"retransmits"`
}

// Node is one end of the TCP connections, in a process of its own: it takes its orders from in and answers on out, a
// JSON object a line. It returns when in ends or ctx does.
func Node(ctx context.Context, in io.Reader, out io.Writer) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	lines := make(chan []byte, 2)
	go func() { // ends with in, which the parent closes, or with the process
		defer cancel()
		for sc := bufio.NewScanner(in); sc.Scan(); {
			select {
			case lines <- append([]byte(nil), sc.Bytes()...):
			case <-ctx.Done():
				return
			}
		}
	}()
	enc := json.NewEncoder(out)
	err := runTCP(ctx, lines, enc)
	if err != nil && ctx.Err() == nil {
		return errors.Join(err, enc.Encode(tcpMessage{Error: err.Error()}))
	}
	return nil
}

func runTCP(ctx context.Context, lines <-chan []byte, out *json.Encoder) error {
	read := func(into any) error {
		select {
		case line := <-lines:
			if err := json.Unmarshal(line, into); err != nil {
				return fmt.Errorf("fairness: order: %w", err)
			}
			return nil
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	var j tcpJob
	if err := read(&j); err != nil {
		return err
	}
	t := &tcpEnd{job: j}
	if !j.Send {
		ln, err := net.ListenTCP("tcp4", net.TCPAddrFromAddrPort(j.Addr))
		if err != nil {
			return fmt.Errorf("fairness: %w", err)
		}
		t.arrived = make([]atomic.Uint64, j.End/trunk.LiveStep+1)
		defer context.AfterFunc(ctx, func() { _ = ln.Close() })()
		t.wg.Go(func() { t.accept(ctx, ln) })
		defer t.wg.Wait()
		defer func() { _ = ln.Close() }()
	} else if err := canControl(j.Control); err != nil {
		return err
	}
	if err := out.Encode(tcpMessage{Ready: true}); err != nil {
		return err
	}
	if err := read(&t.start); err != nil {
		return err
	}
	t.started.Store(true)
	now, err := trunk.Now()
	if err != nil {
		return err
	}
	t.origin = time.Now().Add(time.Duration(t.start - now))
	r := new(tcpReport)
	if j.Send {
		if r.Samples, err = t.send(ctx); err != nil {
			return err
		}
	} else {
		if err := sleepUntil(ctx, t.origin.Add(j.End)); err != nil {
			return err
		}
		for i := range t.arrived {
			r.Arrived = append(r.Arrived, t.arrived[i].Load())
		}
	}
	if err := out.Encode(tcpMessage{Report: r}); err != nil {
		return err
	}
	<-ctx.Done()
	return nil
}

// tcpEnd is one end of all connections.
type tcpEnd struct {
	job     tcpJob
	start   int64
	origin  time.Time // the start; written before started
	started atomic.Bool
	arrived []atomic.Uint64
	wg      sync.WaitGroup
}

func (t *tcpEnd) accept(ctx context.Context, ln net.Listener) {
	for {
		c, err := ln.Accept()
		if err != nil {
			return
		}
		t.wg.Go(func() {
			defer func() { _ = c.Close() }()
			defer context.AfterFunc(ctx, func() { _ = c.Close() })()
			b := make([]byte, 64<<10)
			for {
				n, err := c.Read(b)
				if t.started.Load() {
					if step := int(time.Since(t.origin) / trunk.LiveStep); step >= 0 && step < len(t.arrived) {
						t.arrived[step].Add(uint64(n)) // #nosec G115 -- not negative
					}
				}
				if err != nil {
					return
				}
			}
		})
	}
}

// send sends as fast as TCP lets it, at its times.
func (t *tcpEnd) send(ctx context.Context) (samples []tcpSample, err error) {
	for _, w := range t.job.Times {
		if err := sleepUntil(ctx, t.origin.Add(w.From)); err != nil {
			return nil, err
		}
		if samples, err = t.sendFor(ctx, t.origin.Add(w.To), samples); err != nil {
			return nil, err
		}
	}
	return samples, nil
}

func (t *tcpEnd) sendFor(ctx context.Context, end time.Time, samples []tcpSample) ([]tcpSample, error) {
	ctx, cancel := context.WithDeadline(ctx, end)
	defer cancel()
	var conns []*net.TCPConn
	var wg sync.WaitGroup
	defer wg.Wait()
	defer func() {
		for _, c := range conns {
			_ = c.SetLinger(0) // what waits in the socket is of no use to anybody
			_ = c.Close()
		}
	}()
	for range t.job.Flows {
		c, err := dialTCP(ctx, t.job.Addr, t.job.Control)
		if err != nil {
			return nil, fmt.Errorf("fairness: TCP: %w", err)
		}
		conns = append(conns, c)
		wg.Go(func() {
			b := make([]byte, 64<<10)
			for {
				if _, err := c.Write(b); err != nil {
					return // closed at the end
				}
			}
		})
	}
	tick := time.NewTicker(trunk.LiveStep)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return samples, nil
		case <-tick.C:
			s, err := inspect(conns[0])
			if err != nil {
				return nil, err
			}
			s.At = time.Since(t.origin)
			samples = append(samples, s)
		}
	}
}

func sleepUntil(ctx context.Context, at time.Time) error {
	timer := time.NewTimer(time.Until(at))
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
