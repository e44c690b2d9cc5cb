package testnet

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"sync"
	"time"
)

// ErrAddrInUse is wrapped by the error of Listen when somebody already listens there.
var ErrAddrInUse = errors.New("address in use")

// Switch is a network in memory. Every IP address is a host with any number of ports; Links apply between hosts, in
// one direction each. All methods may be called concurrently.
type Switch struct {
	seed  uint64
	sched *scheduler

	mu        sync.Mutex
	endpoints map[netip.AddrPort]*Endpoint // guarded by mu
	fallback  Link                         // guarded by mu
	links     map[direction]Link           // guarded by mu; overrides fallback
	paths     map[direction]*path          // guarded by mu
	blocked   map[direction]struct{}       // guarded by mu
	side      map[netip.Addr]int           // guarded by mu; nil without a partition
	nextPort  uint16                       // guarded by mu
	closed    bool                         // guarded by mu
}

type direction struct{ from, to netip.Addr }

// NewSwitch makes a network without delay or loss. Close ends it.
func NewSwitch(seed uint64) *Switch {
	s := &Switch{
		seed:      seed,
		endpoints: make(map[netip.AddrPort]*Endpoint),
		links:     make(map[direction]Link),
		paths:     make(map[direction]*path),
		blocked:   make(map[direction]struct{}),
		nextPort:  49152,
	}
	s.sched = newScheduler(s.arrive)
	return s
}

// Listen joins the network at addr. Port 0 takes a free port. The error wraps ErrAddrInUse, or is net.ErrClosed.
func (s *Switch) Listen(addr netip.AddrPort) (*Endpoint, error) {
	addr = canonical(addr)
	if !addr.Addr().IsValid() || addr.Addr().IsUnspecified() {
		return nil, fmt.Errorf("testnet: listen %s: a host of a Switch needs an address of its own", addr)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return nil, net.ErrClosed
	}
	if addr.Port() == 0 {
		for range 16384 {
			try := netip.AddrPortFrom(addr.Addr(), s.nextPort)
			s.nextPort = max(s.nextPort+1, 49152)
			if _, taken := s.endpoints[try]; !taken {
				addr = try
				break
			}
		}
	}
	if _, taken := s.endpoints[addr]; taken || addr.Port() == 0 {
		return nil, fmt.Errorf("testnet: listen %s: %w", addr, ErrAddrInUse)
	}
	e := newEndpoint(s, addr)
	s.endpoints[addr] = e
	return e, nil
}

// SetDefault makes l the link between all hosts that have no link of their own.
func (s *Switch) SetDefault(l Link) error {
	if err := l.Validate(); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.fallback = l
	for d, p := range s.paths {
		if _, own := s.links[d]; !own {
			p.shaper.Set(l)
		}
	}
	return nil
}

// Set makes l the link from one host to another, in this direction only. Packets in flight keep their time.
func (s *Switch) Set(from, to netip.Addr, l Link) error {
	if err := l.Validate(); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	d := direction{from.Unmap(), to.Unmap()}
	s.links[d] = l
	if p, ok := s.paths[d]; ok {
		p.shaper.Set(l)
	}
	return nil
}

// SetPair is Set in both directions.
func (s *Switch) SetPair(a, b netip.Addr, l Link) error {
	if err := s.Set(a, b, l); err != nil {
		return err
	}
	return s.Set(b, a, l)
}

// Block drops all packets from one host to another, in this direction only, also those in flight.
func (s *Switch) Block(from, to netip.Addr) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.blocked[direction{from.Unmap(), to.Unmap()}] = struct{}{}
}

// Unblock ends Block.
func (s *Switch) Unblock(from, to netip.Addr) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.blocked, direction{from.Unmap(), to.Unmap()})
}

// Partition splits the network: packets, also those in flight, pass only between hosts of one group. Hosts named in
// no group form one more. It replaces an earlier Partition.
func (s *Switch) Partition(groups ...[]netip.Addr) {
	side := make(map[netip.Addr]int)
	for i, g := range groups {
		for _, a := range g {
			side[a.Unmap()] = i + 1
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.side = side
}

// Heal ends every Partition and Block.
func (s *Switch) Heal() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.side = nil
	clear(s.blocked)
}

// Stats counts packets sent so far over the whole network.
func (s *Switch) Stats() (sum Stats) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, p := range s.paths {
		sum = sum.Add(p.stats())
	}
	return sum
}

// LinkStats counts packets sent so far from one host to another, in this direction only.
func (s *Switch) LinkStats(from, to netip.Addr) Stats {
	s.mu.Lock()
	defer s.mu.Unlock()
	if p, ok := s.paths[direction{from.Unmap(), to.Unmap()}]; ok {
		return p.stats()
	}
	return Stats{}
}

// Wait is how long a packet sent now from one host to another would wait for Link.Rate before its own turn.
func (s *Switch) Wait(from, to netip.Addr) time.Duration {
	s.mu.Lock()
	defer s.mu.Unlock()
	if p, ok := s.paths[direction{from.Unmap(), to.Unmap()}]; ok {
		return p.shaper.Wait(time.Now())
	}
	return 0
}

// Close closes all endpoints and drops what is in flight. It is idempotent.
func (s *Switch) Close() error {
	s.mu.Lock()
	s.closed = true
	all := make([]*Endpoint, 0, len(s.endpoints))
	for _, e := range s.endpoints {
		all = append(all, e)
	}
	s.mu.Unlock()
	for _, e := range all {
		_ = e.Close() // never fails
	}
	s.sched.close()
	return nil
}

// send is called by endpoints. It copies b.
func (s *Switch) send(from *Endpoint, to netip.AddrPort, b []byte) {
	now := time.Now()
	s.mu.Lock()
	defer s.mu.Unlock()
	d := direction{from.addr.Addr(), to.Addr()}
	p := s.pathLocked(d)
	if s.cutLocked(d) {
		p.blocked.Add(1)
		return
	}
	due, v := p.shaper.Packet(now, len(b))
	if v != Pass {
		p.refuse(v)
		return
	}
	packet := newDatagram(p, b)
	packet.from, packet.to, packet.sender = from.addr, to, from.local
	// Under the lock, so that two writers of one direction enter in the order of their due times.
	if !s.sched.add(due, packet) {
		p.overflow.Add(1)
	}
}

func (s *Switch) arrive(d *datagram) {
	s.mu.Lock()
	cut := s.cutLocked(direction{d.from.Addr(), d.to.Addr()})
	e := s.endpoints[d.to]
	s.mu.Unlock()
	p := d.path
	switch {
	case cut:
		p.blocked.Add(1)
	case e == nil:
		p.unreachable.Add(1)
	case !e.push(d):
		p.overflow.Add(1)
	default:
		p.passed.Add(1)
		return
	}
	d.release()
}

func (s *Switch) pathLocked(d direction) *path {
	p, ok := s.paths[d]
	if !ok {
		l, own := s.links[d]
		if !own {
			l = s.fallback
		}
		p = &path{shaper: NewShaper(l, s.seed, hashPair(d.from, d.to))}
		s.paths[d] = p
	}
	return p
}

func (s *Switch) cutLocked(d direction) bool {
	if _, ok := s.blocked[d]; ok {
		return true
	}
	return s.side != nil && s.side[d.from] != s.side[d.to]
}

func (s *Switch) leave(e *Endpoint) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.endpoints[e.addr] == e {
		delete(s.endpoints, e.addr)
	}
}
