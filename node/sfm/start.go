package sfm

import (
	"time"

	"github.com/meridian-sfu/meridian/internal/rtpstream"
)

// This file is how a client gets its first picture, or one it lost, without the publisher: from what came since the
// latest keyframe, which is sent at once and decoded in no time (rtpstream.Rewriter.Replay).

// replayBytes is the most that is sent at once: 1.8 s of 1.7 Mbit/s, all that is kept of slower encodings.
const replayBytes = 384 << 10

// What a client that tells of a lost picture gets, by the time since it last got one from the past.
const (
	replayFlight   = 500 * time.Millisecond // nothing: it asked before that had arrived
	replayPatience = 2 * time.Second        // the past again, at most replayTries times: it may have been lost as well
	replayTries    = 2
)

// A client has its wish for a keyframe taken for a lost picture after its first repairPatience, and once in that time:
// one that never gets whole what it is sent, or cannot decrypt it, is not to have thousands watch keyframes.
const repairPatience = 5 * time.Second

// starter is what a sender remembers of beginning. It is guarded by the sender's mutex.
type starter struct {
	bridge   int           // encoding to begin with until the target's keyframe comes, plus one; 0 is none
	lost     bool          // the client lost its picture
	replayed time.Duration // when the client last got the past; 0 is never
	tries    int           // how often it got the past, each within replayPatience of the one before
	patient  time.Duration // until when its wishes are those of one who begins
}

// noteReplay notes that the client gets the past.
func (x *starter) noteReplay(now time.Duration) {
	if x.replayed == 0 || now-x.replayed >= replayPatience {
		x.tries = 0
	}
	x.tries++
	x.replayed = now
}

// exhausted reports whether the past did not help.
func (x *starter) exhausted(now time.Duration) bool {
	return x.tries >= replayTries && now-x.replayed < replayPatience
}

// reason is what the client's wish for a keyframe counts as.
func (x *starter) reason(now time.Duration) rtpstream.KeyframeReason {
	if now < x.patient {
		return rtpstream.KeyframeForJoin
	}
	x.patient = now + repairPatience
	return rtpstream.KeyframeForRepair
}

// lost notes that the client lost its picture.
func (s *sender) lost(now time.Duration) {
	s.mu.Lock()
	encoding := s.rewriter.Current()
	early := s.start.replayed != 0 && now-s.start.replayed < replayFlight
	if encoding == noEncoding || early || s.rewriter.Target() == noEncoding {
		s.mu.Unlock()
		return
	}
	if !s.start.exhausted(now) && s.kept(encoding, now) != noEncoding {
		s.start.lost = true
		s.mu.Unlock()
		s.egress.wake()
		return
	}
	why := s.start.reason(now)
	s.mu.Unlock()
	s.sub.RequestKeyframe(uint8(encoding), why)
}

// kept is the best encoding up to e that a client can begin with at once, noEncoding if there is none.
func (s *sender) kept(e int, now time.Duration) int {
	for ; e >= 0; e-- {
		if s.media.Stream(uint8(e)).CanReplay(now, replayBytes) {
			return e
		}
	}
	return noEncoding
}

// catchUp sends what came since the latest keyframe when the client waits for one or lost its picture, and reports whether
// it did. Without anything of the wanted encoding, a client without a picture begins with a smaller one.
func (s *sender) catchUp(now time.Duration, waiting bool, buf *scratch) bool {
	s.mu.Lock()
	target, current, lost := s.rewriter.Target(), s.rewriter.Current(), s.start.lost
	s.start.lost = false
	s.mu.Unlock()
	switch {
	case waiting && s.replay(target, now, buf):
		return true
	case waiting && current == noEncoding:
		return s.replaySmaller(target, now, buf)
	case lost && current != noEncoding:
		return s.replay(current, now, buf) || s.replaySmaller(current, now, buf)
	}
	return false
}

// replaySmaller sends what is kept of the best encoding below e.
func (s *sender) replaySmaller(e int, now time.Duration, buf *scratch) bool {
	if e = s.kept(e-1, now); e == noEncoding {
		return false
	}
	s.bridge(e + 1)
	s.retarget(now) // what comes after the past is wanted too
	done := s.replay(e, now, buf)
	s.bridge(0)
	return done
}

func (s *sender) bridge(e int) {
	s.mu.Lock()
	s.start.bridge = e
	s.mu.Unlock()
}

// replay sends what came of an encoding since its latest keyframe, and goes on with it. It reports whether there was
// anything. The source knows already that the encoding is wanted.
func (s *sender) replay(encoding int, now time.Duration, buf *scratch) bool {
	if s.track.bound.Load() == nil {
		return false
	}
	packets := s.media.Stream(uint8(encoding)).Replay(now, replayBytes, nil)
	if len(packets) == 0 {
		return false
	}
	s.mu.Lock()
	s.rewriter.Replay(packets)
	s.gate.Open(s.layers)
	s.start.noteReplay(now)
	s.mu.Unlock()
	s.backlog.clear()
	s.backlog.packets = packets
	s.metrics.replays.Inc()
	if s.catch(catchFirst, now, buf) {
		s.egress.follow(s)
	}
	s.egress.wake() // the report that places the new timestamps in time
	return true
}

// The past is sent in small portions: at once it would be more than the socket of a client, or a queue on its way, holds.
// 10 packets in 5 ms are about 20 Mbit/s, and about as many frames as the milliseconds between their new timestamps.
const (
	catchFirst = 32 // packets at once
	catchStep  = 10 // packets each catchTick, and as many more as came meanwhile
	catchTick  = 5 * time.Millisecond
)

// backlog is what is still to be sent of the past, and what came behind it. The egress goroutine owns it.
type backlog struct {
	packets []*rtpstream.Packet // retained
	came    int                 // since the last portion
}

func (b *backlog) clear() {
	for _, p := range b.packets {
		p.Release()
	}
	*b = backlog{}
}

// queues reports whether a packet has to wait for the past of its encoding, and takes it, retained, when it has.
func (b *backlog) queues(p *rtpstream.Packet) bool {
	if len(b.packets) == 0 || b.packets[0].Stream != p.Stream {
		return false
	}
	b.packets = append(b.packets, p.Retain())
	b.came++
	return true
}

// catch sends a portion of the backlog, and reports whether there is more.
func (s *sender) catch(packets int, now time.Duration, buf *scratch) bool {
	b := &s.backlog
	for n := packets + b.came; n > 0 && len(b.packets) > 0; n-- {
		p := b.packets[0]
		b.packets[0], b.packets = nil, b.packets[1:]
		s.forward(p, now, buf) // may begin another past
		p.Release()
	}
	b.came = 0
	if len(b.packets) == 0 {
		b.packets = nil
	}
	return b.packets != nil
}
