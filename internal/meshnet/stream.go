package meshnet

import (
	"errors"
	"io"
	"net"
	"sync"
	"time"

	"github.com/quic-go/quic-go"

	"github.com/meridian-sfu/meridian/internal/mesh"
)

// Stream is one reliable, ordered byte stream with another node. Reads and writes may run at the same time, each from
// one goroutine; the other methods may be called from any. The peer sees a stream when its first bytes arrive, not
// when it is opened (OpenService sends its header at once).
type Stream struct {
	qs   *quic.Stream
	conn *Conn
	once sync.Once
	wmu  sync.Mutex // serialises Write and the end of writing: quic-go forbids Close during Write
}

var _ net.Conn = (*Stream)(nil)

// Peer returns the node at the other end.
func (s *Stream) Peer() mesh.NodeID { return s.conn.peer }

// Read implements net.Conn. It returns io.EOF after the peer's CloseWrite or Close, a *ResetError after a reset
// (errors.Is ErrUnknownService if the peer has no such service), or why the connection ended.
func (s *Stream) Read(b []byte) (int, error) {
	n, err := s.qs.Read(b)
	if err != nil && !errors.Is(err, io.EOF) {
		err = streamError(err)
	}
	return n, err
}

// Write implements net.Conn. It blocks while the peer's window is full.
func (s *Stream) Write(b []byte) (int, error) {
	s.wmu.Lock()
	defer s.wmu.Unlock()
	n, err := s.qs.Write(b)
	if err != nil {
		err = streamError(err)
	}
	return n, err
}

// CloseWrite ends the writing side: the peer reads io.EOF after what was written. Reading goes on.
func (s *Stream) CloseWrite() error {
	s.wmu.Lock()
	defer s.wmu.Unlock()
	return s.qs.Close()
}

// Close ends both sides: what was written still arrives, what the peer sends is dropped. A Write that blocks is
// aborted. It is idempotent, does not wait and returns nil.
func (s *Stream) Close() error {
	s.once.Do(func() {
		s.qs.CancelRead(CodeOK)
		if s.wmu.TryLock() {
			defer s.wmu.Unlock()
			_ = s.qs.Close() // an error means it ended already
			return
		}
		s.qs.CancelWrite(CodeOK) // somebody is blocked in Write: there is no orderly end
	})
	return nil
}

// Reset aborts both sides with a code the peer sees in its ResetError. Data on its way may be lost.
func (s *Stream) Reset(code uint64) {
	s.once.Do(func() {})
	s.qs.CancelRead(quic.StreamErrorCode(code))
	s.qs.CancelWrite(quic.StreamErrorCode(code))
}

// LocalAddr returns this node's UDP address.
func (s *Stream) LocalAddr() net.Addr { return s.conn.qc.LocalAddr() }

// RemoteAddr returns the peer's UDP address.
func (s *Stream) RemoteAddr() net.Addr { return s.conn.qc.RemoteAddr() }

// SetDeadline implements net.Conn.
func (s *Stream) SetDeadline(t time.Time) error { return s.qs.SetDeadline(t) }

// SetReadDeadline implements net.Conn.
func (s *Stream) SetReadDeadline(t time.Time) error { return s.qs.SetReadDeadline(t) }

// SetWriteDeadline implements net.Conn.
func (s *Stream) SetWriteDeadline(t time.Time) error { return s.qs.SetWriteDeadline(t) }
