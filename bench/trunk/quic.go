package trunk

import (
	"context"
	"errors"
	"log/slog"
	"net/netip"
	"sync"

	"github.com/meridian-sfu/meridian/internal/meshnet"
)

// quicQueue is how many packets wait for the connection, the oldest giving way: SendDatagram blocks, and who produces
// media may not. quic-go itself queues 32 more; a longer queue here would only make more of them late.
const quicQueue = 64

// quicSending is one connection with a datagram per packet and a bounded queue in front, as anyone would write it.
type quicSending struct {
	net   background
	conn  *meshnet.Conn
	queue chan *[]byte
	pool  sync.Pool
	wg    sync.WaitGroup

	mu    sync.Mutex
	count counters // guarded by mu
}

func newQUICSending(ctx context.Context, j *job, w *wire, peer netip.AddrPort) (*quicSending, error) {
	nw, err := j.network(w, slog.New(slog.DiscardHandler))
	if err != nil {
		return nil, err
	}
	s := &quicSending{queue: make(chan *[]byte, quicQueue)}
	s.pool.New = func() any { b := make([]byte, 0, 2048); return &b }
	s.net.start(ctx, nw.Run)
	for {
		s.conn, err = nw.Dial(ctx, peer, receiverID, meshnet.ALPNMedia)
		if err == nil {
			break
		}
		if !errors.Is(err, meshnet.ErrTimeout) || ctx.Err() != nil { // a handshake may lose its packets
			s.net.stop()
			return nil, err
		}
	}
	s.wg.Go(s.run)
	return s, nil
}

func (s *quicSending) run() {
	for b := range s.queue {
		if err := s.conn.SendDatagram(*b); err == nil {
			s.mu.Lock()
			s.count.Packets++
			s.count.Bytes += uint64(len(*b))
			s.mu.Unlock()
		}
		s.pool.Put(b)
	}
}

func (s *quicSending) ready(context.Context) error { return nil }

func (s *quicSending) send(_ *event, raw []byte) {
	b := s.pool.Get().(*[]byte)
	*b = append((*b)[:0], raw...)
	for {
		select {
		case s.queue <- b:
			return
		default:
		}
		select {
		case oldest := <-s.queue:
			s.pool.Put(oldest)
		default:
		}
	}
}

func (s *quicSending) counters() counters {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.count
}

func (s *quicSending) close() {
	close(s.queue)
	_ = s.conn.Close(0, "done")
	s.wg.Wait()
	s.net.stop()
}

type quicReceiving struct {
	net background
	up  chan struct{} // closed with the first connection
}

func newQUICReceiving(ctx context.Context, j *job, w *wire, m *meter, c clock) (*quicReceiving, error) {
	nw, err := j.network(w, slog.New(slog.DiscardHandler))
	if err != nil {
		return nil, err
	}
	r := &quicReceiving{up: make(chan struct{})}
	var once sync.Once
	nw.Handle(meshnet.ALPNMedia, func(conn *meshnet.Conn) {
		once.Do(func() { close(r.up) })
		for {
			b, err := conn.ReceiveDatagram(ctx)
			if err != nil {
				return
			}
			m.packet(b, c.now())
		}
	})
	r.net.start(ctx, nw.Run)
	return r, nil
}

func (r *quicReceiving) ready(ctx context.Context) error {
	select {
	case <-r.up:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

func (r *quicReceiving) counters() counters { return counters{} }
func (r *quicReceiving) close()             { r.net.stop() }
