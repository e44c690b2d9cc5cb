//go:build !linux

package load

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"sync"
	"time"
)

// reader reads each subscriber's socket on a goroutine of its own.
type reader struct {
	now func() time.Duration
	wg  sync.WaitGroup
}

func newReader(now func() time.Duration) (*reader, error) { return &reader{now: now}, nil }

func (r *reader) open(local netip.Addr, media func([]byte, time.Duration) bool) (*socket, error) {
	c, err := net.ListenUDP("udp", net.UDPAddrFromAddrPort(netip.AddrPortFrom(local, 0)))
	if err != nil {
		return nil, fmt.Errorf("load: socket: %w", err)
	}
	addr, _ := c.LocalAddr().(*net.UDPAddr)
	s := newSocket(addr, media)
	s.send = func(b []byte, to netip.AddrPort) error {
		_, err := c.WriteToUDPAddrPort(b, to)
		return err
	}
	s.end = func() { _ = c.Close() }
	r.wg.Go(func() {
		b := make([]byte, 65536)
		for {
			n, from, err := c.ReadFromUDPAddrPort(b)
			if err != nil {
				return
			}
			s.deliver(b[:n], from, r.now())
		}
	})
	return s, nil
}

func (r *reader) run(ctx context.Context) {
	<-ctx.Done()
	r.wg.Wait()
}

// used is not known here.
func (r *reader) used() time.Duration { return 0 }

func (r *reader) close() {}
