package cascade

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/meridian-sfu/meridian/internal/meshnet"
	"github.com/meridian-sfu/meridian/internal/meshpb/cascadepb"
)

// dialLane keeps one lane connected while the link lives.
func (l *link) dialLane(index int) {
	backoff := time.Duration(0)
	for l.ctx.Err() == nil && l.wantsLane(index) {
		began := l.c.now()
		ln, err := l.connectLane(index)
		if err == nil {
			select {
			case <-ln.done:
			case <-l.ctx.Done():
				return
			}
			if l.c.now()-began >= linkProven {
				backoff = 0
			}
		} else if l.ctx.Err() == nil {
			l.c.log.Debug("lane not opened", "node", l.peer.id, "err", err)
		}
		backoff = min(max(retryMin, 2*backoff), retryMax)
		select {
		case <-time.After(backoff):
		case <-l.ctx.Done():
		}
	}
}

func (l *link) connectLane(index int) (*lane, error) {
	ctx, cancel := context.WithTimeout(l.ctx, l.c.cfg.OpenTimeout)
	defer cancel()
	addr, ok := l.c.deps.Resolve(l.peer.id)
	if !ok {
		return nil, errors.New("cascade: no address known")
	}
	conn, err := l.c.deps.Net.DialMedia(ctx, addr, l.peer.id)
	if err != nil {
		return nil, err
	}
	s, err := conn.OpenStream(ctx)
	if err == nil {
		_ = s.SetWriteDeadline(time.Now().Add(l.c.cfg.OpenTimeout)) // a stream without deadlines ends with its connection
		err = meshnet.WriteMessage(s, &cascadepb.LaneHello{
			Version: protocolVersion, Session: l.session, Index: uint32(index),
		})
		_ = s.Close() // what was written still arrives
	}
	if err != nil {
		_ = conn.Close(codeProtocol, "lane hello failed")
		return nil, err
	}
	if ln := l.attach(conn, index); ln != nil {
		return ln, nil
	}
	return nil, context.Cause(l.ctx)
}

// attach makes conn a lane of the link, in place of an older one of that index. It returns nil when the link has ended.
func (l *link) attach(conn MediaConn, index int) *lane {
	now := l.c.now()
	ln := newLane(index, conn, now)
	l.laneMu.Lock()
	defer l.laneMu.Unlock()
	if l.ended {
		_ = conn.Close(codeOK, "link closed")
		return nil
	}
	if old := l.attached[index]; old != nil {
		_ = old.conn.Close(codeOK, "lane replaced")
	}
	l.attached[index] = ln
	l.wg.Go(func() { l.serveLane(ln) })
	return ln
}

// serveLane serves a lane until its connection or the link ends.
func (l *link) serveLane(ln *lane) {
	defer close(ln.done)
	l.tx.attach(ln, l.c.now())
	l.probe(ln)
	if ln.direct != nil {
		l.serveDirect(ln)
	} else {
		l.serveLoops(ln)
	}
	_ = ln.conn.Close(codeOK, "lane closed")
	l.tx.detach(ln)
	l.laneMu.Lock()
	if l.attached[ln.index] == ln {
		delete(l.attached, ln.index)
	}
	l.laneMu.Unlock()
}

func (l *link) serveLoops(ln *lane) {
	var loops sync.WaitGroup
	loops.Go(func() {
		l.receiveLane(ln)
		_ = ln.conn.Close(codeOK, "lane closed") // ends a blocked SendDatagram
	})
	l.sendLane(ln)
	_ = ln.conn.Close(codeOK, "lane closed")
	loops.Wait()
}

func (l *link) sendLane(ln *lane) {
	buf := make([]byte, 0, 2048)
	inside := newInside(ln.conn)
	for {
		if !inside.wait(l, ln) {
			return
		}
		now := l.c.now()
		b, ok := l.tx.fill(ln, buf[:0], now)
		if !ok {
			select {
			case <-l.ctx.Done():
				return
			case <-ln.conn.Done():
				return
			case <-ln.wake:
			}
			continue
		}
		ln.blockedSince.Store(int64(now))
		err := ln.conn.SendDatagram(b)
		ln.blockedSince.Store(0)
		switch {
		case err == nil:
			inside.handed()
		case errors.Is(err, meshnet.ErrDatagramTooLarge):
			l.peer.stats.drop(dropTooLarge)
			l.tx.resize(ln, datagramBytes(ln.conn))
		default:
			return
		}
	}
}

func (l *link) receiveLane(ln *lane) {
	for {
		b, err := ln.conn.ReceiveDatagram(l.ctx)
		if err != nil {
			return
		}
		l.arrived(ln, b, l.c.now())
	}
}

// arrived takes the frames of one datagram apart. Those of a direct lane are dealt with on the spot.
func (l *link) arrived(ln *lane, b []byte, now time.Duration) {
	if t := int64(now); ln.heard.Load() != t { // the rest of what was read at once has the same time
		ln.heard.Store(t)
		l.heard.Store(t)
	}
	l.bytesIn.Add(uint32(len(b)))
	direct := ln.direct != nil
	turn := false // the receiver's turn mutex is held: once for all media of a datagram
	for len(b) > 0 {
		f, rest, err := nextFrame(b)
		b = rest
		media := err == nil && f.media()
		if media != turn && direct {
			if turn = media; turn {
				l.rx.turn.Lock()
			} else {
				l.rx.turn.Unlock()
			}
		}
		switch {
		case err != nil:
		case media:
			err = l.rx.take(f, now, direct)
		default:
			err = l.frame(ln, f, now)
		}
		if err != nil {
			if turn {
				l.rx.turn.Unlock()
			}
			l.senseless(dropGarbage)
			return
		}
	}
	if turn {
		l.rx.turn.Unlock()
	}
}

// frame deals with a frame that is no media.
func (l *link) frame(ln *lane, f frame, now time.Duration) error {
	switch f.kind {
	case frameNack:
		var entries [maxNackEntries]nackEntry
		n, err := parseNack(f.body, &entries)
		if err != nil {
			return err
		}
		if !l.tx.repeat(entries[:n], now, l.roundTrip()) {
			l.senseless(dropOverwork)
		}
	case frameProbe:
		p, err := parseProbe(f.body)
		if err != nil {
			return err
		}
		l.lossOut.Store(uint32(p.Loss))
		l.burstOut.Store(uint32(p.Burst))
		l.rx.announced(p.Highest, now)
		var buf [laneControlBytes]byte
		l.tx.control(ln, appendAnswer(buf[:0], p.Sent), now) // without room the peer asks again
	case frameReport:
		r, err := parseReport(f.body)
		if err != nil {
			return err
		}
		if l.knowsRate() {
			l.reported(r, now)
		}
	case framePadding: // it has done its work
	case frameAnswer:
		sent, err := parseAnswer(f.body)
		if err != nil {
			return err
		}
		if rtt := now - sent; rtt >= 0 && rtt < 10*time.Second {
			ln.measured(rtt)
			if least := l.quickest.Load(); least == 0 || int64(rtt) < least {
				l.quickest.Store(int64(max(rtt, 1))) // whoever comes at the same moment is as good
			}
			l.tx.lap(rtt, now)
			l.answered(now)
		}
	}
	return nil
}

// probe asks whether a lane is alive.
func (l *link) probe(ln *lane) {
	now := l.c.now()
	p := probe{Sent: now.Truncate(time.Microsecond), Highest: l.tx.highest(), Loss: uint16(l.lossSeen.Load())}
	if l.knowsFEC() {
		p.Burst = uint8(l.burstSeen.Load())
	}
	if ln.probed.Load() <= ln.heard.Load() {
		ln.probed.Store(int64(now))
	}
	var buf [laneControlBytes]byte
	l.tx.control(ln, appendProbe(buf[:0], p), now)
}

func (l *link) answered(now time.Duration) {
	l.liveMu.Lock()
	up, ask := l.live.answered(now, time.Duration(l.controlHeard.Load()))
	l.liveMu.Unlock()
	if ask {
		l.ping(now)
	}
	if up {
		l.wasUp.Store(true)
		if !l.up.Swap(true) {
			l.c.linkChanged(l.peer.id, true)
		}
	}
}
