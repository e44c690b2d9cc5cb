package load

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"errors"
	"fmt"
	mrand "math/rand/v2"
	"net"
	"net/netip"
	"net/url"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/pion/webrtc/v4"
	"golang.org/x/sync/errgroup"
)

// load is one run of a scenario.
type load struct {
	sc     Scenario
	room   string
	start  time.Time
	ctx    context.Context // ends every client
	wg     sync.WaitGroup  // publishers' goroutines
	reader *reader

	publisherAPI *webrtc.API
	certificates []webrtc.Certificate
	progress     func(Progress)
	quiet        atomic.Int64 // until when publishers are muted, or were last; by now

	mu          sync.Mutex
	publishers  []*publisher
	subscribers []*subscriber // all there ever were
	failures    []error       // guarded by mu
	live        map[*subscriber]bool
}

// Progress is what a run is doing.
type Progress struct {
	Stage       string        // "publishing", "joining", "warming up", "measuring"
	Elapsed     time.Duration // since the run began
	Publishers  int
	Subscribers int // connected now
	Failed      int
	Packets     uint64 // received so far
	Left        time.Duration
}

// Run does what the scenario says and reports. progress is called about once a second and may be nil. When ctx ends
// early, what was measured until then is reported beside ctx's error.
func Run(ctx context.Context, sc Scenario, progress func(Progress)) (Result, error) {
	if err := sc.Validate(); err != nil {
		return Result{}, err
	}
	if sc.Joins > 0 {
		sc.Subscribers = 0
	}
	if runtime.GOMAXPROCS(0) < 2 {
		runtime.GOMAXPROCS(2) // the reader sits in the kernel; others shall run meanwhile, on the same core
	}
	l, cancel, err := newLoad(ctx, sc, progress)
	if err != nil {
		return Result{}, err
	}
	defer l.reader.close()
	readerCtx, stopReader := context.WithCancel(context.WithoutCancel(ctx))
	var reading sync.WaitGroup
	reading.Go(func() { l.reader.run(readerCtx) })
	r, err := l.run(ctx)
	l.closeAll()
	cancel()
	l.wg.Wait()
	stopReader()
	reading.Wait()
	return r, err
}

func newLoad(ctx context.Context, sc Scenario, progress func(Progress)) (*load, context.CancelFunc, error) {
	if progress == nil {
		progress = func(Progress) {}
	}
	l := &load{sc: sc, start: time.Now(), progress: progress, live: map[*subscriber]bool{}, room: fmt.Sprintf("load-%08x", mrand.Uint32())} // #nosec G404 -- a name
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, nil, fmt.Errorf("load: key: %w", err)
	}
	cert, err := webrtc.GenerateCertificate(key) // making one is the most of a client's own work
	if err != nil {
		return nil, nil, fmt.Errorf("load: certificate: %w", err)
	}
	l.certificates = []webrtc.Certificate{*cert}
	if l.publisherAPI, err = newAPI(nil); err != nil {
		return nil, nil, err
	}
	if l.reader, err = newReader(l.now); err != nil {
		return nil, nil, err
	}
	var cancel context.CancelFunc
	l.ctx, cancel = context.WithCancel(context.WithoutCancel(ctx)) // clients say goodbye after ctx ended
	return l, cancel, nil
}

// now is the clock of stamps and arrivals.
func (l *load) now() time.Duration { return time.Since(l.start) }

// sleepUntil waits for an instant and reports whether the load goes on.
func (l *load) sleepUntil(at time.Duration) bool {
	t := time.NewTimer(at - l.now())
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-l.ctx.Done():
		return false
	}
}

func sleep(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}

func (l *load) run(ctx context.Context) (Result, error) {
	empty := readProcesses(l.sc.ServerPIDs)
	if err := l.publishAll(ctx); err != nil {
		return Result{}, err
	}
	if l.sc.Joins > 0 {
		return l.runJoins(ctx)
	}
	published := readProcesses(l.sc.ServerPIDs)
	if err := l.subscribeAll(ctx); err != nil {
		return Result{}, err
	}
	l.wait(ctx, "warming up", l.sc.Warmup)
	before := l.mark()
	var side sync.WaitGroup
	sideCtx, stop := context.WithCancel(ctx)
	side.Go(func() { l.churn(sideCtx) })
	side.Go(func() { l.storm(sideCtx) })
	l.wait(ctx, "measuring", l.sc.Duration)
	after := l.snapshot()
	stop()
	side.Wait()
	r := l.result(before, after)
	r.setMemory(empty, published, after.processes, r.SubscribersConnected)
	return r, ctx.Err()
}

func (l *load) roomName(i int) string {
	if l.sc.Rooms == 1 {
		return l.room
	}
	return fmt.Sprintf("%s-%d", l.room, i%l.sc.Rooms)
}

// each calls f for 0 to n-1, Parallel at once.
func (l *load) each(ctx context.Context, n int, f func(ctx context.Context, i int) error) error {
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(l.sc.Parallel)
	for i := range n {
		g.Go(func() error { return f(ctx, i) })
	}
	return g.Wait()
}

func (l *load) publishAll(ctx context.Context) error {
	defer l.report(ctx, "publishing", 0)()
	return l.each(ctx, l.sc.Publishers, func(ctx context.Context, i int) error {
		p, err := l.publish(ctx, l.sc.URLs[i%len(l.sc.URLs)], l.roomName(i), fmt.Sprintf("publisher-%d", i))
		if err != nil {
			return err
		}
		l.mu.Lock()
		l.publishers = append(l.publishers, p)
		l.mu.Unlock()
		return nil
	})
}

// subscribeAll has all subscribers come. Some may fail; all is an error.
func (l *load) subscribeAll(ctx context.Context) error {
	defer l.report(ctx, "joining", 0)()
	if err := l.each(ctx, l.sc.Subscribers, func(ctx context.Context, i int) error {
		l.join(ctx, i, fmt.Sprintf("subscriber-%d", i))
		return ctx.Err()
	}); err != nil {
		return err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.live) == 0 {
		return fmt.Errorf("load: no subscriber got media: %w", errors.Join(l.failures[:min(len(l.failures), 3)]...))
	}
	return nil
}

// join has a subscriber come, or notes why it could not.
func (l *load) join(ctx context.Context, i int, name string) *subscriber {
	s, err := l.subscribe(ctx, l.sc.URLs[i%len(l.sc.URLs)], l.roomName(i), name)
	l.mu.Lock()
	defer l.mu.Unlock()
	if err != nil {
		if ctx.Err() == nil {
			l.failures = append(l.failures, err)
		}
		return nil
	}
	l.subscribers = append(l.subscribers, s)
	l.live[s] = true
	return s
}

func (l *load) leave(s *subscriber) {
	l.mu.Lock()
	delete(l.live, s)
	l.mu.Unlock()
	s.close()
}

// churn replaces subscribers until ctx ends.
func (l *load) churn(ctx context.Context) {
	if l.sc.Churn == 0 {
		return
	}
	every := time.Duration(float64(time.Second) / l.sc.Churn)
	var wg sync.WaitGroup
	defer wg.Wait()
	for i := 0; sleep(ctx, every); i++ {
		l.mu.Lock()
		var s *subscriber
		for s = range l.live { // any
			break
		}
		l.mu.Unlock()
		if s == nil {
			continue
		}
		wg.Go(func() {
			l.leave(s)
			l.join(ctx, i, fmt.Sprintf("%s-again-%d", s.name, i))
		})
	}
}

// storm mutes and unmutes all publishers at once until ctx ends.
func (l *load) storm(ctx context.Context) {
	for l.sc.MuteStorm > 0 && sleep(ctx, l.sc.MuteStorm-muteTime) {
		l.quiet.Store(int64(l.now() + muteTime + muteTime/2)) // until pictures come again
		l.muteAll(ctx, true)
		sleep(ctx, muteTime)
		l.muteAll(l.ctx, false)
	}
}

func (l *load) muteAll(ctx context.Context, on bool) {
	for _, p := range l.publishers {
		p.mute(ctx, on)
	}
}

// runJoins has subscribers come one after the other and leave again.
func (l *load) runJoins(ctx context.Context) (Result, error) {
	before := l.mark()
	stop := l.report(ctx, "joining", l.sc.JoinWindow+l.sc.Stay)
	began := l.now()
	var wg sync.WaitGroup
	for i := range l.sc.Joins {
		due := began + l.sc.JoinWindow*time.Duration(i)/time.Duration(l.sc.Joins)
		if !sleep(ctx, due-l.now()) {
			break
		}
		wg.Go(func() {
			if s := l.join(ctx, i, fmt.Sprintf("joiner-%d", i)); s != nil {
				sleep(ctx, l.sc.Stay-(l.now()-s.began))
				l.leave(s)
			}
		})
	}
	wg.Wait()
	stop()
	return l.result(before, l.snapshot()), ctx.Err()
}

// wait lets time pass and tells progress.
func (l *load) wait(ctx context.Context, stage string, d time.Duration) {
	defer l.report(ctx, stage, d)()
	sleep(ctx, d)
}

// report tells progress every second until the returned func is called.
func (l *load) report(ctx context.Context, stage string, expected time.Duration) (stop func()) {
	ctx, cancel := context.WithCancel(ctx)
	var wg sync.WaitGroup
	began := l.now()
	wg.Go(func() {
		for sleep(ctx, time.Second) {
			p := Progress{Stage: stage, Elapsed: l.now(), Packets: l.totals().received}
			if expected > 0 {
				p.Left = max(expected-(l.now()-began), 0)
			}
			l.mu.Lock()
			p.Publishers, p.Subscribers, p.Failed = len(l.publishers), len(l.live), len(l.failures)
			l.mu.Unlock()
			l.progress(p)
		}
	})
	return func() {
		cancel()
		wg.Wait()
	}
}

// all returns the subscribers there ever were.
func (l *load) all() []*subscriber {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.Clone(l.subscribers)
}

// closeAll has everybody leave.
func (l *load) closeAll() {
	l.mu.Lock()
	var subs []*subscriber
	for s := range l.live {
		subs = append(subs, s)
	}
	pubs := l.publishers
	l.mu.Unlock()
	_ = l.each(context.Background(), len(subs), func(_ context.Context, i int) error {
		l.leave(subs[i])
		return nil
	})
	for _, p := range pubs {
		p.close()
	}
}

// localAddr is the address this machine reaches a server from.
func localAddr(server string) (netip.Addr, error) {
	u, err := url.Parse(server)
	if err != nil {
		return netip.Addr{}, fmt.Errorf("load: URL: %w", err)
	}
	port := u.Port()
	if port == "" {
		port = "443"
	}
	c, err := net.Dial("udp", net.JoinHostPort(u.Hostname(), port)) //nolint:noctx // sends nothing and does not wait
	if err != nil {
		return netip.Addr{}, fmt.Errorf("load: reach %s: %w", u.Host, err)
	}
	defer func() { _ = c.Close() }()
	a, ok := c.LocalAddr().(*net.UDPAddr)
	if !ok {
		return netip.Addr{}, fmt.Errorf("load: reach %s: no address of our own", u.Host)
	}
	return a.AddrPort().Addr().Unmap(), nil
}
