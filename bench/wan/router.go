package wan

import (
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"github.com/meridian-sfu/meridian/internal/testnet"
)

// MaxInFlight is how many packets the router holds at most; more are dropped and counted as overflow.
const MaxInFlight = 1 << 17

const (
	maxPacket = 2000 // bytes of an IP packet
	batchSize = 64   // packets handled under one lock
	perPass   = 1024 // packets read from one host before the others have their turn
)

// packet is one IP packet on its way.
type packet struct {
	path *path
	to   int // host
	n    int
	buf  [maxPacket]byte
}

// path is one direction between two hosts.
type path struct {
	shaper  *testnet.Shaper // guarded by router.mu
	stats   testnet.Stats   // guarded by router.mu
	blocked bool            // guarded by router.mu
	cut     bool            // guarded by router.mu; by a partition
}

// router carries packets between devices. Its goroutine alone reads, writes and schedules.
type router struct {
	devices  []int // file descriptors, non-blocking, by host
	waiter   *waiter
	tick     time.Duration
	cpu      atomic.Int64 // nanoseconds
	unrouted atomic.Uint64
	done     chan struct{}

	mu    sync.Mutex
	paths []path // guarded by mu; from*len(devices)+to

	line  testnet.Timeline[*packet] // packets on their way
	free  []*packet
	batch []*packet
}

// newRouter owns devices from now on: they are closed with it, and when it fails.
func newRouter(devices []int, tick time.Duration, shaper func(from, to int) *testnet.Shaper) (*router, error) {
	w, err := newWaiter(devices)
	if err != nil {
		for _, fd := range devices {
			_ = closeDevice(fd)
		}
		return nil, err
	}
	n := len(devices)
	r := &router{devices: devices, waiter: w, tick: tick, done: make(chan struct{}), paths: make([]path, n*n)}
	r.each(func(from, to int, p *path) { p.shaper = shaper(from, to) })
	go r.run()
	return r, nil
}

func (r *router) path(from, to int) *path { return &r.paths[from*len(r.devices)+to] }

func (r *router) each(f func(from, to int, p *path)) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for i := range r.paths {
		f(i/len(r.devices), i%len(r.devices), &r.paths[i])
	}
}

// run makes at most one pass per tick: a packet alone is read at once, packets in a stream share the wake-up.
func (r *router) run() {
	defer close(r.done)
	// Its CPU time is the router's. Never unlocked: the thread ends with its priority.
	runtime.LockOSThread()
	prefer()
	before := threadCPU() // the thread may have served others
	for passes := 0; ; passes++ {
		wait := time.Duration(-1) // until a packet comes
		if next, ok := r.line.Next(); ok {
			wait = max(time.Until(next), 0)
		}
		if !r.waiter.packets(wait) {
			break
		}
		start := time.Now()
		more := false
		for host := range r.devices {
			if r.waiter.readable(host) {
				more = r.read(host) || more
			}
		}
		r.write(time.Now())
		if passes%16 == 0 {
			r.cpu.Store(int64(threadCPU() - before))
		}
		if rest := r.tick - time.Since(start); rest > 0 && !more && !r.waiter.sleep(rest) {
			break
		}
	}
	r.waiter.close()
	for _, fd := range r.devices {
		_ = closeDevice(fd)
	}
}

// read takes what a host has sent. It reports whether there may be more.
func (r *router) read(host int) bool {
	now := time.Now()
	for range perPass / batchSize {
		r.batch = r.batch[:0]
		for len(r.batch) < batchSize {
			p := r.get()
			p.n = readDevice(r.devices[host], p.buf[:])
			if p.n <= 0 {
				r.free = append(r.free, p)
				break
			}
			r.batch = append(r.batch, p)
		}
		r.accept(host, now)
		if len(r.batch) < batchSize {
			return false
		}
	}
	return true
}

// accept decides about the batch.
func (r *router) accept(host int, now time.Time) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, p := range r.batch {
		to, ok := destination(p.buf[:p.n])
		if !ok || to >= len(r.devices) {
			r.unrouted.Add(1)
			r.free = append(r.free, p)
			continue
		}
		p.to, p.path = to, r.path(host, to)
		if p.path.blocked || p.path.cut {
			p.path.stats.Blocked++
			r.free = append(r.free, p)
			continue
		}
		due, v := p.path.shaper.Packet(now, p.n)
		if v == testnet.Pass && r.line.Len() >= MaxInFlight {
			v = testnet.Overflow
		}
		switch v {
		case testnet.Lost:
			p.path.stats.Lost++
			r.free = append(r.free, p)
		case testnet.Overflow:
			p.path.stats.Overflow++
			r.free = append(r.free, p)
		default:
			r.line.Push(due, p)
		}
	}
}

// write delivers what is due.
func (r *router) write(now time.Time) {
	for {
		r.batch = r.batch[:0]
		r.mu.Lock()
		for len(r.batch) < batchSize {
			p, ok := r.line.PopDue(now)
			if !ok {
				break
			}
			if p.path.blocked || p.path.cut {
				p.path.stats.Blocked++
				r.free = append(r.free, p)
				continue
			}
			p.path.stats.Passed++
			r.batch = append(r.batch, p)
		}
		r.mu.Unlock()
		for _, p := range r.batch {
			if !writeDevice(r.devices[p.to], p.buf[:p.n]) {
				r.refused(p.path)
			}
		}
		r.free = append(r.free, r.batch...)
		if len(r.batch) < batchSize {
			return
		}
	}
}

func (r *router) refused(p *path) {
	r.mu.Lock()
	defer r.mu.Unlock()
	p.stats.Passed--
	p.stats.Unreachable++
}

func (r *router) get() *packet {
	n := len(r.free) - 1
	if n < 0 {
		return new(packet)
	}
	p := r.free[n]
	r.free = r.free[:n]
	return p
}

// destination returns the host an IPv4 packet goes to.
func destination(b []byte) (host int, ok bool) {
	if len(b) < 20 || b[0]>>4 != 4 {
		return 0, false
	}
	return hostAt([4]byte(b[16:20]))
}

// close ends the goroutine and waits for it.
func (r *router) close() {
	r.waiter.stop()
	<-r.done
}
