package cascade

import (
	"slices"
	"time"

	"github.com/meridian-sfu/meridian/internal/rtpstream"
)

// Limits of the search for lost packets.
const (
	trackerSlots     = 4096
	maxMissing       = 1024
	maxNacks         = 12 // times one packet is asked for
	minReorderWindow = 5 * time.Millisecond
	maxReorderWindow = 50 * time.Millisecond
	minNackGap       = 20 * time.Millisecond
	fecWait          = 58 * time.Millisecond // a loss is asked for after this when parity has not made up for it
	nackAgain        = 2 * time.Millisecond  // where FEC runs a NACK is late already: it is said
	nackTimes        = 6                     // so often in a row
	staleGaps        = 32                    // missing packets that have come, beyond which the list is tidied up
	repairTick       = 5 * time.Millisecond  // how often missing packets are looked at while there are some
)

type slotState uint8

const (
	slotEmpty slotState = iota
	slotMissing
	slotReceived
	slotLost // given up
)

type trackerSlot struct {
	seq   uint64
	since time.Duration // missing since
	asked time.Duration // last NACK
	nacks uint8
	state slotState
	loss  bool // counted as lost before repair
	ask   bool // parity will not make up for it
	spare bool // … but will when others of its block have come
}

// tracker finds what is lost of a link's incoming packets. Lanes overtake each other, so a gap counts as loss only
// after a reorder window, learned from packets that came late by themselves. It has no lock and no clock.
type tracker struct {
	deadline time.Duration
	unwrap   rtpstream.Unwrapper[uint32]
	base     uint64 // extended number of link sequence 0, where every link begins
	highest  uint64
	slots    [trackerSlots]trackerSlot
	missing  []uint64 // ascending; may hold entries that came in since
	lateness time.Duration
	due      time.Duration // when to look again at what is missing

	missed   uint64 // packets that were lost on the way, before any repair
	bursts   uint64 // runs of these
	repaired uint64
	lost     uint64 // given up: loss after repair
}

func newTracker(deadline time.Duration) *tracker {
	t := &tracker{deadline: deadline, missing: make([]uint64, 0, maxMissing)}
	t.base = t.unwrap.Unwrap(0)
	t.highest = t.base
	return t
}

// expected is how many packets the peer has sent, as far as is known.
func (t *tracker) expected() uint64 { return t.highest - t.base }

// extend returns the extended number of a link sequence number.
func (t *tracker) extend(seq32 uint32) uint64 { return t.unwrap.Peek(seq32) }

// received notes a packet and reports its extended number and whether it is the first of its number.
func (t *tracker) received(seq32 uint32, retransmission bool, now time.Duration) (seq uint64, fresh bool) {
	seq = t.unwrap.Unwrap(seq32)
	if seq <= t.base {
		return seq, false
	}
	if seq > t.highest {
		t.gap(seq, now)
		t.highest = seq
		t.slots[seq%trackerSlots] = trackerSlot{seq: seq, state: slotReceived}
		if retransmission {
			t.markLost(seq)
		}
		return seq, true
	}
	slot := &t.slots[seq%trackerSlots]
	if slot.seq != seq || slot.state == slotReceived {
		if slot.seq == seq && slot.loss && !retransmission { // only overtaken by what made up for it
			t.unmarkLost(seq)
		}
		return seq, false
	}
	if slot.state == slotMissing {
		if late := now - slot.since; !retransmission && late < t.deadline {
			t.lateness = max(late, t.lateness-t.lateness/256)
		}
		if retransmission {
			t.markLost(seq)
		}
		if slot.nacks > 0 || retransmission {
			t.repaired++
		}
	}
	slot.state = slotReceived
	return seq, true
}

// has reports whether a packet has come.
func (t *tracker) has(seq uint64) bool {
	slot := &t.slots[seq%trackerSlots]
	return seq <= t.highest && slot.seq == seq && slot.state == slotReceived
}

// announced notes the highest number the peer says it has sent: what lies between is missing.
func (t *tracker) announced(seq32 uint32, now time.Duration) {
	if seq := t.unwrap.Peek(seq32); seq > t.highest {
		t.unwrap.Unwrap(seq32)
		t.gap(seq+1, now)
		t.highest = seq
	}
}

// ahead is how many packets a number would find missing.
func (t *tracker) ahead(seq32 uint32) int {
	seq := t.unwrap.Peek(seq32)
	if seq <= t.highest {
		return 0
	}
	return int(min(seq-t.highest-1, maxMissing/2))
}

// gap marks what lies between the highest number and seq as missing, the newest at least.
func (t *tracker) gap(seq uint64, now time.Duration) {
	first := t.highest + 1
	if seq-first > maxMissing/2 {
		t.lost += seq - first - maxMissing/2
		t.missed += seq - first - maxMissing/2
		first = seq - maxMissing/2
	}
	for s := first; s < seq; s++ {
		if len(t.missing) == cap(t.missing) {
			t.missed++
			t.lost++
			t.slots[s%trackerSlots] = trackerSlot{seq: s, state: slotLost}
			continue
		}
		t.slots[s%trackerSlots] = trackerSlot{seq: s, since: now, state: slotMissing}
		t.missing = append(t.missing, s)
	}
}

// window is how long a gap may close by itself.
func (t *tracker) window() time.Duration {
	return min(max(minReorderWindow, t.lateness+t.lateness/2), maxReorderWindow)
}

// holdWindow is how long a packet may wait for one that was sent before it.
func (t *tracker) holdWindow() time.Duration {
	return min(max(minHold, t.lateness+t.lateness/4), maxHold)
}

// youngGap reports when the youngest gap below seq was noticed, or false when nothing below it may still be on its way:
// what was asked for once is lost, not late.
func (t *tracker) youngGap(seq uint64) (since time.Duration, young bool) {
	below, _ := slices.BinarySearch(t.missing, seq)
	for i, tidied := below-1, false; i >= 0; i-- {
		slot := &t.slots[t.missing[i]%trackerSlots]
		if slot.seq == t.missing[i] && slot.state == slotMissing {
			return slot.since, slot.nacks == 0
		}
		if below-i == staleGaps && !tidied {
			t.tidy()
			below, _ = slices.BinarySearch(t.missing, seq)
			i, tidied = below, true
		}
	}
	return 0, false
}

// tidy forgets what is listed as missing and is not any more.
func (t *tracker) tidy() {
	t.missing = slices.DeleteFunc(t.missing, func(seq uint64) bool {
		slot := &t.slots[seq%trackerSlots]
		return slot.seq == seq && slot.state != slotMissing
	})
}

// pending reports whether something is missing and still hoped for.
func (t *tracker) pending() bool { return len(t.missing) > 0 }

// markLost counts one packet as lost before repair.
func (t *tracker) markLost(seq uint64) {
	slot := &t.slots[seq%trackerSlots]
	if slot.loss {
		return
	}
	slot.loss = true
	t.missed++
	t.bursts += t.runs(seq)
}

// unmarkLost takes that back.
func (t *tracker) unmarkLost(seq uint64) {
	t.slots[seq%trackerSlots].loss = false
	t.missed--
	t.bursts -= t.runs(seq)
}

// runs is how many more runs of lost packets there are with one packet than without it, modulo 2⁶⁴.
func (t *tracker) runs(seq uint64) uint64 {
	before, after := &t.slots[(seq-1)%trackerSlots], &t.slots[(seq+1)%trackerSlots]
	switch a, b := before.seq == seq-1 && before.loss, after.seq == seq+1 && after.loss; {
	case a && b:
		return ^uint64(0)
	case !a && !b:
		return 1
	default:
		return 0
	}
}

// hopeless notes that parity does not make up for a missing packet. With ask set it is to be asked for at once, without
// it others of its block are. It reports whether that is news.
func (t *tracker) hopeless(seq uint64, ask bool) bool {
	slot := &t.slots[seq%trackerSlots]
	if slot.seq != seq || slot.state != slotMissing || (slot.nacks > 0 && !slot.spare) || slot.ask {
		return false
	}
	if ask {
		slot.nacks, slot.spare = 0, false
	} else {
		slot.spare = true
	}
	slot.ask = ask
	return true
}

// asks reports whether a missing packet is being asked for.
func (t *tracker) asks(seq uint64) bool {
	slot := &t.slots[seq%trackerSlots]
	return slot.seq == seq && slot.ask
}

// collect appends to out what has to be asked for now, ascending, and gives up what is too old. What is
// missing may come from parity for some time, 0 when there is none.
func (t *tracker) collect(now, rtt, parity time.Duration, out []uint64) []uint64 {
	wait := t.window()
	fec := parity > 0
	if fec {
		wait = max(wait, parity)
	}
	gap := max(minNackGap, rtt+rtt/4)
	keep := t.missing[:0]
	t.due = never
	for _, seq := range t.missing {
		slot := &t.slots[seq%trackerSlots]
		if slot.seq != seq { // overrun: a thousand newer packets are here, the sender has forgotten it as well
			t.lost++
			continue
		}
		if slot.state != slotMissing {
			continue
		}
		switch {
		case now-slot.since > t.deadline:
			slot.state = slotLost
			t.lost++
			t.markLost(seq)
			continue
		case slot.nacks == 0 && slot.spare: // for now
			t.markLost(seq)
			slot.nacks, slot.asked = nackTimes, now
		case slot.nacks == 0 && (slot.ask && now-slot.since >= t.lateness || now-slot.since >= wait):
			t.markLost(seq)
			fallthrough
		case fec && slot.nacks > 0 && slot.nacks < nackTimes && now-slot.asked >= nackAgain:
			fallthrough
		case slot.nacks > 0 && slot.nacks < maxNacks && now-slot.asked >= gap:
			slot.nacks++
			slot.asked = now
			out = append(out, seq)
		}
		switch {
		case slot.nacks == 0 && !slot.ask:
			t.due = min(t.due, slot.since+wait)
		case slot.nacks == 0:
			t.due = min(t.due, slot.since+t.lateness)
		case fec && slot.nacks < nackTimes:
			t.due = min(t.due, slot.asked+nackAgain)
		default:
			t.due = min(t.due, now+repairTick)
		}
		keep = append(keep, seq)
	}
	t.missing = keep
	return out
}

// decay forgets lateness slowly; called once a second.
func (t *tracker) decay() { t.lateness -= t.lateness / 10 }
