package rtpstream

import (
	"math/bits"
	"time"
)

// RewriterConfig is what a Rewriter must know of its outgoing stream.
type RewriterConfig struct {
	Audio     bool   // a stream may start at any packet; video starts and switches at keyframes only
	VP8       bool   // rewrite VP8 picture IDs, TL0PICIDX and KEYIDX (RFC 7741)
	ClockRate uint32 // Hz
	History   int    // packets that can be sent again, a power of two

	FirstSequenceNumber uint16 // of the first packet sent; random by RFC 3550 §5.1
	FirstTimestamp      uint32 // of the first packet sent; random by RFC 3550 §5.1
}

// maxRuns is how many changes of offset are remembered for packets that come late: about a second of 30 frames per
// second of which every second one is left out.
const maxRuns = 32

// NoEncoding as a target sends nothing.
const NoEncoding = -1

// Rewriter maps the packets of one encoding of a source after the other to one outgoing stream without seams: a
// receiver sees one encoder.
//
//	encoding q  …41 42 43│44 45      in
//	encoding f      70 71│72K 73 75  in, 72 starts a keyframe, 74 was lost on the way here
//	out         … 9 10 11│12K 13 15  the loss stays a gap, so that the receiver asks for it
//
// Sequence numbers stay contiguous over switches and over packets left out on purpose. Timestamps go on by the senders'
// own clocks, or by arrival when these are not known. VP8 counters go on as if nothing had happened, always in the
// 15-bit form. A switch happens only at a keyframe of the target encoding.
//
// It is pure: no clock, no lock. One goroutine at a time may use it. No method allocates.
type Rewriter struct {
	cfg     RewriterConfig
	target  int // encoding wanted, NoEncoding for none
	current int // encoding being sent, NoEncoding before the first keyframe

	runs    [maxRuns]run // ring; the offsets of the current encoding, by where they began
	newest  int          // index into runs
	numRuns int

	started   bool
	highestIn uint64 // ExtSeq of the newest packet of the current encoding
	last      sent   // newest packet sent, of whatever encoding
	replay    replay

	history []sentEntry // ring by outgoing sequence number
}

// mapping is what is added to the counters of an incoming packet. All of it wraps.
type mapping struct {
	encoding uint8
	tl0, key uint8
	pid      uint16
	ts       uint32
	seq      uint64
}

// run is a mapping and the first packet it holds for.
type run struct {
	from uint64 // ExtSeq
	m    mapping
}

// sent is the state of the outgoing stream after its newest packet.
type sent struct {
	stream   *Stream
	extSeq   uint64
	ts       uint32
	tsOffset uint32
	arrival  time.Duration
	inPID    uint16 // incoming picture ID, extended to 15 bits
	pid      uint16
	tl0, key uint8
	seenPID  uint16 // incoming picture ID of the newest frame sent or left out
}

// replay is a start from the past under way, see Rewriter.Replay.
type replay struct {
	until  uint64 // ExtSeq of the last packet of it; what is not newer is never sent again. 0 is none
	in     uint32 // timestamp of the frame under way, as received
	out    uint32 // and as sent
	step   uint32 // between two frames
	offset uint32 // of timestamps after the replay
	active bool
}

type sentEntry struct {
	outSeq uint64 // 0 marks an empty entry
	inSeq  uint64
	inPID  uint16 // reference to extend a 7-bit picture ID
	m      mapping
}

// Rewritten is what changes in a packet on its way out. The other header fields stay or belong to the connection.
type Rewritten struct {
	ExtSeq    uint64 // its low 16 bits are the sequence number
	Timestamp uint32
	m         mapping
	inPID     uint16
	vp8       bool
}

// SequenceNumber is the outgoing sequence number.
func (w Rewritten) SequenceNumber() uint16 { return uint16(w.ExtSeq) }

// NewRewriter returns a rewriter that sends nothing until SetTarget. A History that is not a power of two panics: it
// is our own mistake.
func NewRewriter(cfg RewriterConfig) *Rewriter {
	if cfg.History <= 0 || bits.OnesCount(uint(cfg.History)) != 1 {
		panic("rtpstream: rewriter history is not a power of two")
	}
	return &Rewriter{
		cfg: cfg, target: NoEncoding, current: NoEncoding, history: make([]sentEntry, cfg.History),
	}
}

// SetTarget says which encoding shall be sent. The switch happens at its next keyframe; until then the current one goes
// on. NoEncoding stops at once.
func (r *Rewriter) SetTarget(encoding int) {
	r.target = encoding
	if encoding == NoEncoding {
		r.current = NoEncoding
	}
}

// Target is the encoding wanted, or NoEncoding.
func (r *Rewriter) Target() int { return r.target }

// Current is the encoding being sent, or NoEncoding before the first keyframe and while stopped.
func (r *Rewriter) Current() int { return r.current }

// TimestampOffset is what is added to the timestamps of the current encoding. It is meaningless before the first packet.
func (r *Rewriter) TimestampOffset() uint32 { return r.last.tsOffset }

// Rewrite maps p. It reports false when p must not be sent: of another encoding, or from before the switch.
func (r *Rewriter) Rewrite(p *Packet) (Rewritten, bool) {
	encoding := int(p.Stream.Encoding)
	if r.target == NoEncoding {
		return Rewritten{}, false
	}
	if encoding == r.target && encoding != r.current && (p.Keyframe || r.cfg.Audio) {
		return r.switchTo(p), true
	}
	if encoding != r.current {
		return Rewritten{}, false
	}
	if p.ExtSeq <= r.highestIn {
		if p.ExtSeq <= r.replay.until {
			return Rewritten{}, false // it was part of the replay
		}
		return r.late(p)
	}
	return r.advance(p), true
}

// Replay begins an encoding in the past: packets are a keyframe and all that came since, from Stream.Replay, and are to
// be given to Rewrite or Skip next, in order. The receiver's picture goes from what it saw last, if anything, through
// the frames of the past to the present. Their timestamps are as close together as they arrive, so that the newest
// stands where it would stand had the encoding been sent all along, and no receiver takes the past for a delay.
//
//	captured   0K 33 66 … 3000 │ 3033 3066    ms
//	out         0  1  2 …   90 │  123  156    the first packets ever: replayed │ live
func (r *Rewriter) Replay(packets []*Packet) {
	first, newest := packets[0], packets[len(packets)-1]
	frames := uint32(0)
	for i, p := range packets {
		if i > 0 && p.Timestamp != packets[i-1].Timestamp {
			frames++
		}
	}
	step := r.cfg.ClockRate / 1000
	begin := r.cfg.FirstTimestamp
	end := begin + frames*step
	if r.started {
		if end = newest.Timestamp + r.last.tsOffset; int(newest.Stream.Encoding) != r.current {
			end = r.continueTimestamp(newest)
		}
		if space := int32(end - r.last.ts); space <= int32(frames) {
			end = r.last.ts + frames + 1
		}
		step = min(step, (end-r.last.ts-1)/max(frames, 1))
		begin = end - frames*step
	}
	r.begin(first, begin)
	r.replay = replay{
		until: newest.ExtSeq, in: first.Timestamp, out: begin, step: step, offset: end - newest.Timestamp, active: true,
	}
	r.last.tsOffset = r.replay.offset
}

// place sets the offset of timestamps for p while a replay is under way, and after its end.
func (r *Rewriter) place(p *Packet) {
	m := &r.runs[r.newest].m
	if p.ExtSeq > r.replay.until {
		m.ts, r.replay.active = r.replay.offset, false
		return
	}
	if p.Timestamp != r.replay.in {
		r.replay.in = p.Timestamp
		r.replay.out += r.replay.step
	}
	m.ts = r.replay.out - p.Timestamp
}

// Skip leaves p out on purpose: the receiver sees no gap in sequence numbers nor picture IDs. A packet that comes late
// leaves its gap: what came after it was numbered already.
func (r *Rewriter) Skip(p *Packet) {
	if int(p.Stream.Encoding) != r.current || p.ExtSeq <= r.highestIn {
		return
	}
	r.passOver(p)
	r.fillGap(p.ExtSeq)
	m := r.runs[r.newest].m
	m.seq--
	if r.cfg.VP8 {
		if d, err := ParseVP8(p.Payload()); err == nil && d.HasPictureID {
			pid := extendPictureID(d, r.last.inPID)
			if pid != r.last.seenPID {
				m.pid--
			}
			r.last.seenPID = pid
		}
	}
	r.highestIn = p.ExtSeq
	r.pushRun(run{from: p.ExtSeq + 1, m: m})
}

// passOver leaves no place for the packets before p that were left out on purpose on the way here.
func (r *Rewriter) passOver(p *Packet) {
	missing := p.ExtSeq - r.highestIn - 1
	n := min(uint64(p.Withheld), missing)
	if n == 0 {
		return
	}
	r.fillGap(p.ExtSeq - n) // what was lost before them keeps its places
	m := r.runs[r.newest].m
	m.seq -= n
	if r.cfg.VP8 && n == missing { // else nobody knows how many frames were lost and how many left out
		if d, err := ParseVP8(p.Payload()); err == nil && d.HasPictureID {
			if pid := extendPictureID(d, r.last.inPID); pid != r.last.seenPID {
				m.pid -= (pid - r.last.seenPID - 1) & pictureIDMask
			}
		}
	}
	r.highestIn = p.ExtSeq - 1
	r.pushRun(run{from: p.ExtSeq, m: m})
}

// Origin tells which packet went out with a sequence number, also when it was lost before it came here. It reports
// false when that is not known any more.
func (r *Rewriter) Origin(sequenceNumber uint16) (encoding uint8, extSeq uint64, ok bool) {
	e := r.entry(sequenceNumber)
	if e == nil {
		return 0, 0, false
	}
	return e.m.encoding, e.inSeq, true
}

// Again maps p exactly as the packet that went out with the sequence number: p is the one Origin named.
func (r *Rewriter) Again(sequenceNumber uint16, p *Packet) (Rewritten, bool) {
	e := r.entry(sequenceNumber)
	if e == nil || e.inSeq != p.ExtSeq || e.m.encoding != p.Stream.Encoding {
		return Rewritten{}, false
	}
	return Rewritten{
		ExtSeq: e.outSeq, Timestamp: p.Timestamp + e.m.ts, m: e.m, inPID: e.inPID, vp8: r.cfg.VP8,
	}, true
}

// AppendPayload writes the payload of p as it goes out and returns the extended slice.
func (w Rewritten) AppendPayload(b []byte, p *Packet) []byte {
	payload := p.Payload()
	if !w.vp8 {
		return append(b, payload...)
	}
	d, err := ParseVP8(payload)
	if err != nil {
		return append(b, payload...)
	}
	size := d.Size
	w.rewriteVP8(&d)
	return append(d.Append(b), payload[size:]...)
}

func (w Rewritten) rewriteVP8(d *VP8Descriptor) {
	if d.HasPictureID {
		d.PictureID = (extendPictureID(*d, w.inPID) + w.m.pid) & pictureIDMask
		d.LongPictureID = true
	}
	d.TL0 += w.m.tl0
	d.KeyIndex = (d.KeyIndex + w.m.key) & keyIndexMask
}

// switchTo begins to send the encoding of p.
func (r *Rewriter) switchTo(p *Packet) Rewritten {
	ts := r.cfg.FirstTimestamp
	if r.started {
		ts = r.continueTimestamp(p)
	}
	r.begin(p, ts)
	return r.advance(p)
}

// begin makes p the next packet to send, with a timestamp of its own.
func (r *Rewriter) begin(p *Packet, ts uint32) {
	m := mapping{encoding: p.Stream.Encoding}
	next := uint64(r.cfg.FirstSequenceNumber) + 1<<16 // one cycle up: 0 marks empty entries
	if r.started {
		next = r.last.extSeq + 1
	}
	m.seq = next - p.ExtSeq
	m.ts = ts - p.Timestamp
	if r.cfg.VP8 {
		if d, err := ParseVP8(p.Payload()); err == nil {
			r.last.inPID, r.last.seenPID = d.PictureID, d.PictureID
			if r.started {
				m.pid = (r.last.pid + 1 - d.PictureID) & pictureIDMask
				m.tl0 = r.last.tl0 + 1 - d.TL0
				m.key = (r.last.key + 1 - d.KeyIndex) & keyIndexMask
			}
		}
	}
	r.current = int(p.Stream.Encoding)
	r.numRuns = 0
	r.pushRun(run{from: p.ExtSeq, m: m})
	r.highestIn = p.ExtSeq - 1
	r.last.tsOffset = m.ts
	r.replay = replay{}
}

// continueTimestamp is the timestamp p gets when it is the first of another encoding.
func (r *Rewriter) continueTimestamp(p *Packet) uint32 {
	rate := int64(r.cfg.ClockRate)
	elapsed := int64(p.Arrival-r.last.arrival) / 1000 * rate / 1_000_000
	byArrival := r.last.ts + uint32(max(elapsed, 0))
	ts := byArrival
	if was, is := r.last.stream.Clock(), p.Stream.Clock(); was != nil && is != nil {
		// The instant of p on the publisher's wall clock, then in the old encoding's RTP clock (RFC 3550 §6.4.1).
		sinceReport := int64(int32(p.Timestamp - is.RTPTimestamp))
		between := ntpUnits(is.NTP, was.NTP, rate)
		byClock := was.RTPTimestamp + uint32(between+sinceReport) + r.last.tsOffset
		// A report that is a second off the arrivals is a report to distrust.
		if d := int64(int32(byClock - byArrival)); d > -rate && d < rate {
			ts = byClock
		}
	}
	if int32(ts-r.last.ts) <= 0 {
		ts = r.last.ts + 1 // another frame needs another timestamp
	}
	return ts
}

// ntpUnits is a − b, both 64-bit NTP timestamps, in units of a clock of rate Hz.
func ntpUnits(a, b uint64, rate int64) int64 {
	d := int64(a - b) // 32.32 fixed point; wraps like the timestamps do
	return (d>>32)*rate + int64(uint64(uint32(d))*uint64(rate)>>32)
}

// advance sends the newest packet of the current encoding.
func (r *Rewriter) advance(p *Packet) Rewritten {
	r.passOver(p)
	r.fillGap(p.ExtSeq)
	r.highestIn = p.ExtSeq
	if r.replay.active {
		r.place(p)
	}
	w := r.mapped(p, r.runs[r.newest].m)
	r.started = true
	r.last.stream, r.last.arrival = p.Stream, p.Arrival
	r.last.extSeq, r.last.ts = w.ExtSeq, w.Timestamp
	if r.cfg.VP8 {
		r.note(p, w)
	}
	r.keep(sentEntry{outSeq: w.ExtSeq, inSeq: p.ExtSeq, inPID: w.inPID, m: w.m})
	return w
}

// note remembers the VP8 counters sent.
func (r *Rewriter) note(p *Packet, w Rewritten) {
	d, err := ParseVP8(p.Payload())
	if err != nil {
		return
	}
	if d.HasPictureID {
		r.last.inPID = extendPictureID(d, r.last.inPID)
		r.last.seenPID = r.last.inPID
	}
	w.rewriteVP8(&d)
	if d.HasPictureID {
		r.last.pid = d.PictureID
	}
	if d.HasTL0 {
		r.last.tl0 = d.TL0
	}
	if d.HasKeyIndex {
		r.last.key = d.KeyIndex
	}
}

// late sends a packet whose place in the outgoing numbers is in the past.
func (r *Rewriter) late(p *Packet) (Rewritten, bool) {
	for i := range r.numRuns {
		at := r.runs[(r.newest-i+maxRuns)%maxRuns]
		if at.from <= p.ExtSeq {
			w := r.mapped(p, at.m)
			e := r.entry(w.SequenceNumber())
			if e == nil || e.outSeq != w.ExtSeq || e.inSeq != p.ExtSeq {
				return Rewritten{}, false // its place was given to nobody: it is older than the history
			}
			w.inPID = e.inPID
			return w, true
		}
	}
	return Rewritten{}, false
}

func (r *Rewriter) mapped(p *Packet, m mapping) Rewritten {
	return Rewritten{
		ExtSeq: p.ExtSeq + m.seq, Timestamp: p.Timestamp + m.ts, m: m, inPID: r.last.inPID, vp8: r.cfg.VP8,
	}
}

// fillGap keeps places for the packets that are missing before extSeq, so that they can be asked for and come late.
func (r *Rewriter) fillGap(extSeq uint64) {
	m := r.runs[r.newest].m
	first := r.highestIn + 1
	if n := uint64(len(r.history)); extSeq-first > n {
		first = extSeq - n
	}
	for s := first; s < extSeq; s++ {
		r.keep(sentEntry{outSeq: s + m.seq, inSeq: s, inPID: r.last.inPID, m: m})
	}
}

func (r *Rewriter) keep(e sentEntry) { r.history[e.outSeq&uint64(len(r.history)-1)] = e }

func (r *Rewriter) entry(sequenceNumber uint16) *sentEntry {
	if !r.started {
		return nil
	}
	behind := uint16(r.last.extSeq) - sequenceNumber
	if uint64(behind) >= uint64(len(r.history)) {
		return nil
	}
	outSeq := r.last.extSeq - uint64(behind)
	e := &r.history[outSeq&uint64(len(r.history)-1)]
	if e.outSeq != outSeq {
		return nil
	}
	return e
}

func (r *Rewriter) pushRun(n run) {
	r.newest = (r.newest + 1) % maxRuns
	r.runs[r.newest] = n
	r.numRuns = min(r.numRuns+1, maxRuns)
}

// extendPictureID widens a 7-bit picture ID to 15 bits, nearest to the reference.
func extendPictureID(d VP8Descriptor, reference uint16) uint16 {
	if d.LongPictureID {
		return d.PictureID
	}
	diff := int8((uint8(d.PictureID)-uint8(reference))<<1) >> 1 // 7-bit signed difference
	return (reference + uint16(int16(diff))) & pictureIDMask
}
