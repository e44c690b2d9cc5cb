package directory

import (
	"context"
	"encoding/binary"
	"errors"
	"io"
	"math/rand/v2"
	"sync"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/meridian-sfu/meridian/internal/mesh"
	"github.com/meridian-sfu/meridian/internal/meshnet"
	pb "github.com/meridian-sfu/meridian/internal/meshpb/directorypb"
)

const (
	laneIdle    = time.Minute      // a lane no room needs is closed after this
	laneGiveUp  = 30 * time.Second // a lane that cannot connect is given up after this; the next frame tries anew
	lossyFrames = 256
	writeBatch  = 64 << 10
)

var errIdle = errors.New("directory: lane is idle")

// lane is one stream to a peer and the frames that wait for it. It connects when there is something to say, and again
// after a failure. What was lost then is repaired by snapshots: the directory tells every room once it is up again.
type lane struct {
	d       *Directory
	peer    mesh.NodeID
	service string
	lossy   bool
	wake    chan struct{}

	mu        sync.Mutex
	queue     [][]byte  // guarded by mu; encoded frames, oldest first
	bytes     int       // guarded by mu; in queue
	running   bool      // guarded by mu
	connected bool      // guarded by mu
	lost      bool      // guarded by mu; frames were lost since the last connection began
	touched   time.Time // guarded by mu; when a room last needed it
	abort     func()    // guarded by mu; ends the present connection
}

func encode(f *pb.Frame) ([]byte, error) {
	f.Version = wireVersion
	b, err := proto.MarshalOptions{}.MarshalAppend(make([]byte, 4, 256), f)
	if err != nil {
		return nil, err
	}
	if len(b)-4 > maxFrameBytes {
		return nil, meshnet.ErrMessageTooLarge
	}
	binary.BigEndian.PutUint32(b, uint32(len(b)-4))
	return b, nil
}

// send queues an encoded frame and never blocks. A full lossy lane drops its oldest frame; another lane drops all it
// has and repairs by snapshots. It reports whether the frame was queued.
func (l *lane) send(b []byte) bool {
	l.mu.Lock()
	if l.lossy && !l.connected && l.lost {
		l.mu.Unlock()
		l.d.metrics.dropped.WithLabelValues(dropLinkDown).Inc()
		l.touch()
		return false
	}
	dropped := 0
	switch {
	case l.lossy:
		for len(l.queue) >= lossyFrames || (len(l.queue) > 0 && l.bytes+len(b) > l.d.cfg.QueueBytes) {
			l.bytes -= len(l.queue[0])
			l.queue = l.queue[1:]
			dropped++
		}
	case len(l.queue) >= l.d.cfg.QueueFrames || l.bytes+len(b) > l.d.cfg.QueueBytes:
		dropped = len(l.queue)
		l.queue, l.bytes, l.lost = nil, 0, true
		if l.abort != nil {
			l.abort() // the peer reads too slowly: begin again with snapshots
		}
	}
	l.queue = append(l.queue, b)
	l.bytes += len(b)
	l.mu.Unlock()
	l.d.metrics.dropped.WithLabelValues(dropQueueFull).Add(float64(dropped))
	l.touch()
	select {
	case l.wake <- struct{}{}:
	default:
	}
	return true
}

// touch keeps the lane connected.
func (l *lane) touch() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.touched = time.Now()
	if !l.running {
		l.running = l.d.spawn(l.run)
	}
}

func (l *lane) up() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.connected
}

func (l *lane) run(ctx context.Context) {
	failing := time.Now()
	for pause := 50 * time.Millisecond; ; pause = min(2*pause, l.d.cfg.Retry) {
		s, err := l.connect(ctx)
		if err == nil {
			err = l.pump(ctx, s)
			failing, pause = time.Now(), 50*time.Millisecond
		}
		l.mu.Lock()
		l.connected, l.abort = false, nil
		idle := errors.Is(err, errIdle) && len(l.queue) == 0
		l.lost = l.lost || !idle
		if l.lossy {
			l.queue, l.bytes = nil, 0
		}
		if idle || ctx.Err() != nil || time.Since(failing) > laneGiveUp {
			l.running, l.queue, l.bytes = false, nil, 0
			l.mu.Unlock()
			return
		}
		l.mu.Unlock()
		wait(ctx, jitter(pause))
	}
}

// connect opens the stream and exchanges hellos.
func (l *lane) connect(ctx context.Context) (io.ReadWriteCloser, error) {
	ctx, cancel := context.WithTimeout(ctx, l.d.cfg.CallTimeout)
	defer cancel()
	s, err := l.d.deps.Net.OpenService(ctx, l.peer, l.service)
	if err != nil {
		return nil, err
	}
	stop := context.AfterFunc(ctx, func() { _ = s.Close() })
	incarnation, err := greet(s, l.d.incarnation)
	if !stop() && err == nil {
		err = ctx.Err()
	}
	if err != nil {
		_ = s.Close()
		return nil, err
	}
	l.d.met(l.peer, incarnation)
	return s, nil
}

// pump writes until the stream or the lane ends.
func (l *lane) pump(ctx context.Context, s io.ReadWriteCloser) error {
	ctx, cancel := context.WithCancel(ctx)
	var reader sync.WaitGroup
	defer reader.Wait()
	defer func() { _ = s.Close() }()
	defer cancel()
	stop := context.AfterFunc(ctx, func() { _ = s.Close() }) // also frees a Write that blocks
	defer stop()
	reader.Go(func() { // the peer says no more: the end of its side is the end of the stream
		_, _ = io.Copy(io.Discard, s)
		cancel()
	})
	l.mu.Lock()
	repair := l.lost && !l.lossy
	l.connected, l.lost, l.abort = true, false, cancel
	l.mu.Unlock()
	if repair {
		l.d.reconnected(l.peer)
	}
	idle := time.NewTicker(laneIdle)
	defer idle.Stop()
	for {
		for b := l.next(); b != nil; b = l.next() {
			if _, err := s.Write(b); err != nil {
				return err
			}
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-l.wake:
		case now := <-idle.C:
			l.mu.Lock()
			unused := now.Sub(l.touched) > laneIdle && len(l.queue) == 0
			l.mu.Unlock()
			if unused {
				return errIdle
			}
		}
	}
}

// next takes a batch of frames off the queue.
func (l *lane) next() []byte {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.queue) == 0 {
		return nil
	}
	b := l.queue[0]
	l.bytes -= len(b)
	n := 1
	if len(l.queue) > 1 && len(b) < writeBatch {
		b = append(make([]byte, 0, writeBatch), b...) // the frame may wait in other lanes too
		for ; n < len(l.queue) && len(b)+len(l.queue[n]) <= writeBatch; n++ {
			b = append(b, l.queue[n]...)
			l.bytes -= len(l.queue[n])
		}
	}
	l.queue = l.queue[n:]
	return b
}

// greet sends our hello and reads the peer's. It returns the peer's incarnation.
func greet(s io.ReadWriter, own uint64) (uint64, error) {
	if err := sayHello(s, own); err != nil {
		return 0, err
	}
	return hearHello(s)
}

func sayHello(s io.Writer, own uint64) error {
	return meshnet.WriteMessage(s, &pb.Frame{Version: wireVersion, Body: &pb.Frame_Hello{Hello: &pb.Hello{Incarnation: own}}})
}

func hearHello(s io.Reader) (uint64, error) {
	var f pb.Frame
	if err := meshnet.ReadMessage(s, 1024, &f); err != nil {
		return 0, err
	}
	if f.GetVersion() < wireVersion || f.GetHello() == nil {
		return 0, errFrame
	}
	return f.GetHello().GetIncarnation(), nil
}

// jitter returns 50 to 100 % of d.
func jitter(d time.Duration) time.Duration { return d/2 + rand.N(d/2+1) }

func wait(ctx context.Context, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
	case <-t.C:
	}
}
