package signal

import (
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"time"

	"github.com/coder/websocket"
)

// touch says that the client gave a sign of life. It is called by the reader only.
func (c *Conn) touch() {
	_ = c.raw.SetReadDeadline(time.Now().Add(c.cfg.ReadTimeout)) // fails only on a closed socket, which the next read tells
}

// readLoop hands the client's messages to the session until the connection ends, which it then has been told to.
func (c *Conn) readLoop(s Session) {
	for !c.isClosing() {
		frame, text, err := c.readFrame()
		if err != nil {
			c.readFailed(err)
			return
		}
		if c.isClosing() {
			return // the session closed it meanwhile and wants to hear no more
		}
		c.text.Store(text)
		req, err := decodeRequest(frame, text)
		if err != nil {
			c.m.malformed.WithLabelValues(malformedDecode).Inc()
			c.closeBecause(CloseInvalidPayload, "message cannot be decoded", ErrMalformed)
			return
		}
		c.m.in[kindOf(req.ProtoReflect(), requestOneof)].Inc()
		leaves, err := dispatch(req, s, c, time.Now)
		if err != nil {
			c.m.malformed.WithLabelValues(malformedLimit).Inc()
			c.closeBecause(ClosePolicy, err.Error(), fmt.Errorf("%w: %w", ErrMalformed, err))
			return
		}
		if leaves {
			c.SendLeave(LeaveClientInitiated, ActionDisconnect)
			c.Close(CloseNormal, "")
			return
		}
	}
}

// errTooBig is readFrame's own limit: the library's would close the socket on unread data, and the client would see a reset
// instead of the reason.
var errTooBig = errors.New("signal: message is too large")

func (c *Conn) readFrame() (frame []byte, text bool, err error) {
	c.touch()
	typ, r, err := c.ws.Reader(c.ctx)
	if err != nil {
		return nil, false, err
	}
	c.touch()
	frame, err = io.ReadAll(io.LimitReader(r, c.cfg.MaxMessageBytes+1))
	if err != nil {
		return nil, false, err
	}
	if int64(len(frame)) > c.cfg.MaxMessageBytes {
		return nil, false, errTooBig
	}
	return frame, typ == websocket.MessageText, nil
}

func (c *Conn) readFailed(err error) {
	switch {
	case errors.Is(err, errTooBig):
		c.m.malformed.WithLabelValues(malformedSize).Inc()
		c.closeBecause(CloseTooBig, fmt.Sprintf("message is larger than %d bytes", c.cfg.MaxMessageBytes), fmt.Errorf("%w: %w", ErrMalformed, err))
	case c.isClosing():
		// Our own close, answered or cut short: the writer ends the rest.
	case errors.Is(err, os.ErrDeadlineExceeded):
		c.m.timeouts.Inc()
		c.abort(ErrReadTimeout)
	case errors.Is(err, net.ErrClosed):
		c.slow(closeWrite, err) // a write that timed out took the socket with it
	default:
		c.abort(fmt.Errorf("signal: read: %w", err))
	}
}
