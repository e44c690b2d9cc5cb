package sfm

import (
	"sync"

	"github.com/pion/webrtc/v4"
)

// Labels of the channels a client and we know each other's by.
const (
	labelReliable = "_reliable"
	labelLossy    = "_lossy"
)

// Bounds of the data channels, for each channel.
const (
	maxMessageBytes   = 65535   // what clients are told they may send and get
	maxWaitingBytes   = 1 << 20 // of reliable messages before the channel is open
	maxWaiting        = 1024    // messages, the same
	maxReliableBuffer = 4 << 20 // bytes not yet taken by the client
	maxLossyBuffer    = 128 << 10
)

// dataWriter is what is used of a Pion data channel.
type dataWriter interface {
	Send([]byte) error
	BufferedAmount() uint64
}

// outChannel sends messages to the client. It is safe for concurrent use.
type outChannel struct {
	metrics  *metrics
	reliable bool

	mu      sync.Mutex // held while writing too: it is what keeps messages in order, and Pion only buffers
	dc      dataWriter // guarded by mu; nil until open
	waiting [][]byte   // guarded by mu
	bytes   int        // guarded by mu; of waiting
	closed  bool       // guarded by mu
}

func newOutChannel(m *metrics, reliable bool) *outChannel {
	return &outChannel{metrics: m, reliable: reliable}
}

func (c *outChannel) send(payload []byte) error {
	if len(payload) > maxMessageBytes {
		return ErrDataTooLarge
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case c.closed:
		return ErrClosed
	case !c.reliable && (c.dc == nil || c.dc.BufferedAmount() > maxLossyBuffer):
		c.metrics.drops[dropDataLossy].Inc()
		return nil
	case c.dc == nil:
		if len(c.waiting) >= maxWaiting || c.bytes+len(payload) > maxWaitingBytes {
			c.metrics.drops[dropDataFull].Inc()
			return ErrSlowReader
		}
		c.waiting = append(c.waiting, payload)
		c.bytes += len(payload)
		return nil
	case c.reliable && c.dc.BufferedAmount() > maxReliableBuffer:
		c.metrics.drops[dropDataFull].Inc()
		return ErrSlowReader
	}
	return c.write(payload)
}

// write is called with mu held.
func (c *outChannel) write(payload []byte) error {
	if err := c.dc.Send(payload); err != nil {
		return ErrClosed // the channel is going down with its connection
	}
	c.metrics.dataOut.Inc()
	return nil
}

// opened gives the channel what to write to, and writes what waited.
func (c *outChannel) opened(dc dataWriter) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return
	}
	c.dc = dc
	for _, m := range c.waiting {
		if c.write(m) != nil {
			break
		}
	}
	c.waiting, c.bytes = nil, 0
}

func (c *outChannel) close() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.closed, c.dc, c.waiting = true, nil, nil
}

// createChannels makes the channels to the client on the subscriber connection.
func (e *Endpoint) createChannels(c *connection) error {
	ordered, unordered, once := true, false, uint16(0)
	for _, x := range []struct {
		label string
		init  webrtc.DataChannelInit
	}{
		{labelReliable, webrtc.DataChannelInit{Ordered: &ordered}},
		{labelLossy, webrtc.DataChannelInit{Ordered: &unordered, MaxRetransmits: &once}},
	} {
		dc, err := c.pc.CreateDataChannel(x.label, &x.init)
		if err != nil {
			return err
		}
		e.useChannel(dc)
		e.receiveData(dc)
	}
	return nil
}

// useChannel sends on a channel of a known label once it is open. It is called on Pion's goroutines.
func (e *Endpoint) useChannel(dc *webrtc.DataChannel) {
	var c *outChannel
	switch dc.Label() {
	case labelReliable:
		c = e.reliable
	case labelLossy:
		c = e.lossy
	default:
		return
	}
	dc.OnOpen(func() { c.opened(dc) })
}

// receiveData hands the messages of a channel to the handler. A handler that does not keep up holds the client's sender
// back, not our memory.
func (e *Endpoint) receiveData(dc *webrtc.DataChannel) {
	label := dc.Label()
	dc.OnMessage(func(m webrtc.DataChannelMessage) {
		if len(m.Data) > maxMessageBytes {
			return
		}
		e.sfm.metrics.dataIn.Inc()
		e.post(func() { e.h.Data(label == labelReliable, label, m.Data) })
	})
}
