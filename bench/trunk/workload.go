package trunk

import (
	"container/heap"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/meridian-sfu/meridian/internal/mesh"
)

// What participants send.
const (
	participantRate = 2_500_000 // bits per second of one microphone and one camera, about
	audioPeriod     = 20 * time.Millisecond
	audioBytes      = 112 // RTP header and about 100 bytes of Opus
	framePeriod     = time.Second / 30
	keyframeEvery   = 90 // frames
	keyframeWeight  = 5  // sizes of an ordinary frame
	maxFramePackets = 20
	maxVideoBytes   = 1150 // of one RTP packet
	minVideoBytes   = 80
	frameSpread     = 8 * time.Millisecond // the packets of a frame leave over this time at most
)

// simulcast is how a camera's bits are shared by its encodings.
var simulcast = [...]float64{0.06, 0.22, 0.72}

// temporalLayers is VP8's pattern of three temporal layers and how large their frames are, one on average.
var temporalLayers = [...]struct {
	id     uint8
	weight float64
}{{0, 1.5}, {2, 0.75}, {1, 1}, {2, 0.75}}

// event is one packet to send.
type event struct {
	at        time.Duration // since the start
	stream    int
	counter   uint32 // counts the packets of its stream
	bytes     int    // of the RTP packet
	timestamp uint32
	frame     uint16 // picture ID
	tl0       uint8
	temporal  uint8
	first     bool // of its frame
	marker    bool
	keyframe  bool // part of one
}

// stream is one SSRC: a microphone or one encoding of a camera.
type stream struct {
	source   int
	encoding uint8
	audio    bool

	next   event
	rnd    *rand.Rand
	mean   float64 // bytes of an ordinary frame
	key    float64 // bytes of a keyframe
	frames int     // of the stream so far, from somewhere in a keyframe interval
	start  time.Duration
	left   int // packets of the frame after the next one
	gap    time.Duration
}

// workload is the RTP a link carries, packet by packet in the order of time. The same seed gives the same packets.
type workload struct {
	sources []mesh.Source
	streams []*stream
	order   eventHeap
}

func newWorkload(rate int64, seed uint64) *workload {
	n := max(1, int((rate+participantRate/2)/participantRate))
	video := float64(rate)/float64(n) - audioBytes*8*float64(time.Second/audioPeriod)
	w := new(workload)
	rnd := rand.New(rand.NewPCG(seed, 0x7472756e6b)) // #nosec G404 -- must be repeatable
	for i := range n {
		w.addMicrophone(i, rnd)
		w.addCamera(i, video, rnd)
	}
	for _, s := range w.streams {
		s.advance()
		w.order = append(w.order, s)
	}
	heap.Init(&w.order)
	return w
}

func (w *workload) addMicrophone(i int, rnd *rand.Rand) {
	w.streams = append(w.streams, &stream{
		source: len(w.sources), audio: true,
		rnd: rand.New(rand.NewPCG(rnd.Uint64(), 1)), start: time.Duration(rnd.Int64N(int64(audioPeriod))), // #nosec G404
		next: event{stream: len(w.streams)},
	})
	w.sources = append(w.sources, mesh.Source{
		ID: mesh.SourceID(fmt.Sprintf("TR_A%d", i)), Kind: mesh.Audio, Type: mesh.SourceMicrophone,
		MIMEType: "audio/opus", ClockRate: 48000, Encodings: make([]mesh.Encoding, 1),
	})
}

func (w *workload) addCamera(i int, rate float64, rnd *rand.Rand) {
	phase, frames := time.Duration(rnd.Int64N(int64(framePeriod))), rnd.IntN(keyframeEvery)
	for e, share := range simulcast {
		mean := rate * share / 8 * framePeriod.Seconds()
		ordinary := mean * keyframeEvery / (keyframeEvery - 1 + keyframeWeight)
		key := ordinary * keyframeWeight
		if most := float64(maxFramePackets * maxVideoBytes); key > most {
			key, ordinary = most, (mean*keyframeEvery-most)/(keyframeEvery-1)
		}
		w.streams = append(w.streams, &stream{
			source: len(w.sources), encoding: uint8(e), mean: ordinary, key: key,
			rnd: rand.New(rand.NewPCG(rnd.Uint64(), 2)), start: phase, frames: frames, // #nosec G404
			next: event{stream: len(w.streams)},
		})
	}
	w.sources = append(w.sources, mesh.Source{
		ID: mesh.SourceID(fmt.Sprintf("TR_V%d", i)), Kind: mesh.Video, Type: mesh.SourceCamera,
		MIMEType: "video/VP8", ClockRate: 90000, Encodings: make([]mesh.Encoding, len(simulcast)),
	})
}

// peek is when the next packet is due.
func (w *workload) peek() time.Duration { return w.order[0].next.at }

// take returns the next packet.
func (w *workload) take() event {
	s := w.order[0]
	ev := s.next
	s.advance()
	heap.Fix(&w.order, 0)
	return ev
}

// advance makes next the packet after it.
func (s *stream) advance() {
	e := &s.next
	if e.bytes > 0 { // not the first of all
		e.counter++
	}
	if s.audio {
		e.at, s.start = s.start, s.start+audioPeriod
		e.bytes = audioBytes - 16 + s.rnd.IntN(33)
		e.timestamp += 960
		s.frames++
		return
	}
	e.first = false
	if s.left == 0 {
		s.nextFrame()
	}
	s.left--
	e.marker = s.left == 0
	if !e.first {
		e.at += s.gap
	}
}

func (s *stream) nextFrame() {
	e := &s.next
	layer := temporalLayers[s.frames%len(temporalLayers)]
	e.keyframe = s.frames%keyframeEvery == 0
	size := s.mean * layer.weight * (0.75 + s.rnd.Float64()/2)
	e.temporal = layer.id
	if e.keyframe {
		size, e.temporal = s.key, 0
	}
	s.left = min(maxFramePackets, int(size)/maxVideoBytes+1)
	s.gap = min(time.Millisecond, frameSpread/time.Duration(s.left))
	e.bytes = min(maxVideoBytes, max(minVideoBytes, int(size)/s.left))
	e.at, s.start = s.start, s.start+framePeriod
	e.timestamp = uint32(uint64(s.start) * 9 / 100_000) // 90 kHz
	e.first = true
	e.frame++
	if e.temporal == 0 {
		e.tl0++
	}
	s.frames++
}

// eventHeap orders streams by their next packet.
type eventHeap []*stream

func (h eventHeap) Len() int { return len(h) }
func (h eventHeap) Less(i, j int) bool {
	a, b := &h[i].next, &h[j].next
	return a.at < b.at || a.at == b.at && a.stream < b.stream
}
func (h eventHeap) Swap(i, j int) { h[i], h[j] = h[j], h[i] }
func (h *eventHeap) Push(x any)   { *h = append(*h, x.(*stream)) }
func (h *eventHeap) Pop() any {
	old := *h
	s := old[len(old)-1]
	*h = old[:len(old)-1]
	return s
}
