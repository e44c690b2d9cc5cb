package meshnet

import (
	"errors"
	"fmt"
)

// Send encrypts b into the current batch, which leaves when it is full, with Flush, or when the processor is free: often
// as soon as the sender pauses, so that a burst shares a batch. It copies b and never waits. Errors:
// ErrDatagramTooLarge beyond MaxDatagramBytes, ErrExhausted, or why the connection ended. What the socket does not
// take is lost and counted.
func (d *Direct) Send(b []byte) error {
	if err := d.Gather(b); err != nil {
		return err
	}
	select {
	case d.pause <- struct{}{}:
	default:
	}
	return nil
}

// Gather encrypts b into the current batch, which leaves when it is full or with Flush, which is up to the caller. The
// rest is as with Send.
func (d *Direct) Gather(b []byte) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.sealLocked(kindMedia, b)
}

// SendBatch encrypts all of bs and flushes. It stops at the first error, which is that of Send or of Flush.
func (d *Direct) SendBatch(bs [][]byte) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, b := range bs {
		if err := d.sealLocked(kindMedia, b); err != nil {
			_ = d.flushLocked() // what came before is not to blame
			return err
		}
	}
	return d.flushLocked()
}

// Flush sends what Send gathered. It returns an error if packets were lost because the socket did not take them.
func (d *Direct) Flush() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.flushLocked()
}

// flushPauses sends what Send left. It ends with the session.
func (d *Direct) flushPauses() {
	for {
		select {
		case <-d.pause:
			_ = d.Flush() // counted
		case <-d.queue.done:
			return
		}
	}
}

// sealLocked adds a packet to the batch.
func (d *Direct) sealLocked(k kind, b []byte) error {
	if d.ended {
		return d.closedErr()
	}
	if limit := d.maxBytes.Load(); int64(len(b)) > limit {
		return fmt.Errorf("meshnet: %w: %d bytes, at most %d", ErrDatagramTooLarge, len(b), limit)
	}
	if d.next > maxPacketNumber {
		return fmt.Errorf("meshnet: %w", ErrExhausted)
	}
	p := directPacket{kind: k, session: d.sendID, number: d.next}
	size := len(b) + p.header() + tagOf(p.session)
	if !d.batch.fits(size) {
		_ = d.flushLocked() // counted
	}
	c := d.keys.at(d.next, d.next)
	if c == nil {
		return errors.New("meshnet: no media key")
	}
	d.batch.room()
	d.batch.buf = c.seal(d.batch.buf, p, b)
	d.next++
	d.batch.grew(size)
	return nil
}

func (d *Direct) flushLocked() error {
	if d.batch.n == 0 || d.ended {
		return nil
	}
	n, bytes := d.batch.n, len(d.batch.buf)
	sent, err := d.socket.writeRuns(d.to, d.local, d.batch.buf, d.batch.runs)
	d.batch.reset()
	d.stats.packetsSent.Add(uint64(sent))
	d.stats.bytesSent.Add(uint64(bytes * sent / n)) // exact unless packets were lost
	if sent < n {
		d.stats.sendLost.Add(uint64(n - sent))
		reason := reasonOther
		if errors.Is(err, errSocketFull) {
			reason = reasonFull
		}
		d.metrics.unsent.WithLabelValues(reason).Add(float64(n - sent))
	}
	if err != nil {
		return fmt.Errorf("meshnet: send media to %s: %w", d.conn.peer, err)
	}
	return nil
}
