package cascade

import (
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"runtime"
	"slices"
	"strconv"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/meridian-sfu/meridian/internal/mesh"
	"github.com/meridian-sfu/meridian/internal/rtpstream"
)

// soak is a mesh in which everything comes and goes for hours of virtual time.
type soak struct {
	t        *testing.T
	h        *hub
	rnd      *rand.Rand
	names    []mesh.NodeID
	stations map[mesh.NodeID]*station
	keeps    map[mesh.NodeID][]func()
	cams     map[mesh.SourceID]*camera
	loss     *gilbert
	hole     mesh.NodeID // a node nothing reaches just now
	watching []*viewing
	sent     uint64
	got      *meterCount
}

// viewing is one subscription somewhere.
type viewing struct {
	at  mesh.NodeID
	r   *RemoteSource
	sub *rtpstream.Subscription
}

type meterCount struct{ atomicSink }

// footprint is what must not grow.
type footprint struct {
	goroutines, lanes, cached, flows, ids, peers, remotes int
	heap                                                  uint64
}

func (f footprint) String() string {
	return fmt.Sprintf("%d goroutines, %d KiB heap, %d lanes, %d packets cached, %d flows, flow IDs up to %d, %d peers, %d remotes",
		f.goroutines, f.heap>>10, f.lanes, f.cached, f.flows, f.ids, f.peers, f.remotes)
}

func newSoak(t *testing.T) *soak {
	s := &soak{
		t: t, h: newHub(20 * time.Millisecond), rnd: rand.New(rand.NewPCG(8, 8)), names: []mesh.NodeID{"a", "b", "c", "d"},
		stations: make(map[mesh.NodeID]*station), keeps: make(map[mesh.NodeID][]func()),
		cams: make(map[mesh.SourceID]*camera), got: new(meterCount),
	}
	jitter := rand.New(rand.NewPCG(9, 9))
	s.h.jitter = func(*fakeConn) time.Duration { return time.Duration(jitter.IntN(5_000)) * time.Microsecond }
	s.h.setDrop(func(from, to mesh.NodeID, _ *fakeConn, _ []byte) bool {
		return from == s.hole || to == s.hole || s.loss != nil && s.loss.lost()
	})
	for _, id := range s.names {
		s.start(id)
		for i := range 2 {
			s.publish(id, i == 0)
		}
	}
	return s
}

func (s *soak) start(id mesh.NodeID) {
	st := startStation(s.t, s.h, id)
	s.stations[id] = st
	s.keeps[id] = nil
	for _, other := range s.names {
		s.keeps[id] = append(s.keeps[id], st.Keep(other))
	}
	for src, cam := range s.cams {
		if origin(src) == id {
			st.offer(src, cam.Source)
		}
	}
}

// A source's ID ends with its node's.
func origin(id mesh.SourceID) mesh.NodeID { return mesh.NodeID(id[len(id)-1:]) }

func (s *soak) publish(id mesh.NodeID, audio bool) {
	name := mesh.SourceID(fmt.Sprintf("TR_%v_%s", audio, id))
	encodings := 2
	if audio {
		encodings = 1
	}
	cam := newCamera(string(name), audio, encodings)
	if audio {
		cam.size = 120
	}
	s.cams[name] = cam
	s.stations[id].offer(name, cam.Source)
}

func (s *soak) anyCam() *camera {
	id := s.names[s.rnd.IntN(len(s.names))]
	return s.cams[mesh.SourceID(fmt.Sprintf("TR_%v_%s", s.rnd.IntN(2) == 0, id))]
}

// churn does one thing.
func (s *soak) churn() {
	id := s.names[s.rnd.IntN(len(s.names))]
	switch s.rnd.IntN(24) {
	case 0:
		s.stations[id].net.breakLanes()
	case 1:
		s.stations[id].net.breakControl()
	case 2: // a source ends and comes back
		cam := s.anyCam()
		cam.Close()
		s.publish(origin(mesh.SourceID(cam.Info.ID)), cam.Info.Audio)
	case 3: // a node is started anew
		for i := 0; i < len(s.watching); i++ {
			if s.watching[i].at == id {
				s.leave(i)
				i--
			}
		}
		old := s.stations[id]
		old.stop()
		s.start(id)
		old.Cascade, old.net, old.sources = nil, nil, nil // the test holds on to it until it ends
	case 4:
		s.weather(id, s.loss)
	case 5, 6, 7:
		s.weather("", s.loss)
	case 8:
		s.weather(s.hole, newGilbert(s.rnd.Uint64(), s.rnd.Float64()*0.05, 1+s.rnd.Float64()*4))
	case 9:
		s.weather(s.hole, nil)
	case 10, 11, 12: // somebody stops to watch
		if len(s.watching) > 0 {
			s.leave(s.rnd.IntN(len(s.watching)))
		}
	case 13, 14: // or wants something else
		if len(s.watching) > 0 {
			s.watching[s.rnd.IntN(len(s.watching))].sub.SetDemand(rtpstream.UpTo(
				rtpstream.EncodingSet(s.rnd.IntN(4)), rtpstream.Layers{Spatial: uint8(s.rnd.IntN(2)), Temporal: uint8(s.rnd.IntN(4))},
			))
		}
	case 15: // or comes by another way
		if len(s.watching) > 0 {
			s.watching[s.rnd.IntN(len(s.watching))].r.PullFrom(id)
		}
	default:
		s.join(id)
	}
}

// weather sets which node nothing reaches, and what is lost elsewhere.
func (s *soak) weather(hole mesh.NodeID, loss *gilbert) {
	s.h.mu.Lock()
	defer s.h.mu.Unlock()
	s.hole, s.loss = hole, loss
}

func (s *soak) join(id mesh.NodeID) {
	cam := s.anyCam()
	from := origin(mesh.SourceID(cam.Info.ID))
	if from == id || len(s.watching) >= 24 {
		return
	}
	r := s.stations[id].Remote(room, cam.mesh(), from)
	sub := r.Media().Subscribe(s.got)
	sub.SetDemand(all(0, 1))
	s.watching = append(s.watching, &viewing{id, r, sub})
}

func (s *soak) leave(i int) {
	w := s.watching[i]
	w.sub.Close()
	w.r.Close()
	s.watching = slices.Delete(s.watching, i, i+1)
}

// run lets it live for a while: something changes every three seconds, and media flows at a rate that changes too.
func (s *soak) run(length time.Duration) {
	end := time.Now().Add(length)
	for next := time.Now(); time.Now().Before(end); {
		gap := 250 * time.Millisecond
		if s.rnd.IntN(20) == 0 {
			gap = 10 * time.Millisecond // a busy spell
		}
		s.churn()
		for next = next.Add(3 * time.Second); time.Now().Before(next); time.Sleep(gap) {
			for _, cam := range s.cams {
				for e := range uint8(cam.Info.Encodings) {
					cam.write(e, func(p *rtpstream.Packet) { p.Keyframe = cam.seq[e]%50 == 0 })
					s.sent++
				}
				if cam.seq[0]%32 == 0 {
					cam.Stream(0).SetClock(rtpstream.SenderClock{NTP: s.sent})
				}
			}
		}
	}
}

// rest ends everything that can be ended, waits until it is over and looks what is left.
func (s *soak) rest() (f footprint) {
	s.t.Helper()
	for len(s.watching) > 0 {
		s.leave(0)
	}
	s.weather("", nil)
	time.Sleep(time.Minute) // bans, quarantines, lanes that were many
	synctest.Wait()
	for _, st := range s.stations {
		st.mu.Lock()
		st.events = nil
		st.mu.Unlock()
		st.net.forget()
		st.net.mu.Lock()
		st.net.pipes = append([]net.Conn(nil), st.net.pipes[max(0, len(st.net.pipes)-8):]...)
		st.net.mu.Unlock()
		st.Cascade.mu.Lock()
		f.peers += len(st.peers)
		f.remotes += len(st.remotes) + len(st.byMedia)
		var links []*link
		for _, p := range st.peers {
			if p.link != nil {
				links = append(links, p.link)
			}
			f.flows += len(p.pulls)
		}
		st.Cascade.mu.Unlock()
		for _, l := range links {
			f.add(l)
		}
	}
	for _, cam := range s.cams {
		cam.mu.Lock()
		cam.demands = nil
		cam.mu.Unlock()
	}
	f.goroutines = runtime.NumGoroutine()
	runtime.GC() // pools are emptied by the second
	f.heap = heapInUse()
	return f
}

func (f *footprint) add(l *link) {
	l.laneMu.Lock()
	f.lanes += len(l.attached)
	l.laneMu.Unlock()
	l.tx.mu.Lock()
	for i := range l.tx.cache.slots {
		if l.tx.cache.slots[i].pkt != nil {
			f.cached++
		}
	}
	l.tx.mu.Unlock()
	l.rx.mu.Lock()
	for i := range l.rx.fec.slots {
		if l.rx.fec.slots[i].pkt != nil {
			f.cached++
		}
	}
	for i := range l.rx.assemble.partials {
		if l.rx.assemble.partials[i].pkt != nil {
			f.cached++
		}
	}
	l.rx.mu.Unlock()
	f.flows += len(l.served()) + l.ids.open // the peer's goroutine rests, like everything here
	f.ids = max(f.ids, int(l.ids.next))
}

// soakLength is how long the soak lasts, in virtual time: MERIDIAN_SOAK_HOURS, else a few minutes.
func soakLength(t *testing.T) (length time.Duration, rounds int) {
	s := os.Getenv("MERIDIAN_SOAK_HOURS")
	if s == "" {
		return 4 * time.Minute, 4
	}
	hours, err := strconv.ParseFloat(s, 64)
	require.NoError(t, err)
	return time.Duration(hours * float64(time.Hour)), max(int(hours*4), 4)
}

// TestSoak lives for hours of virtual time: links, nodes, sources and watchers come and go, under loss and outages. Each
// time everything is at rest, there is no more than there was the first time.
func TestSoak(t *testing.T) {
	withoutRace(t)
	length, rounds := soakLength(t)
	synctest.Test(t, func(t *testing.T) {
		s := newSoak(t)
		var first footprint
		var heap [2]uint64 // highest at rest, in the first half of the rounds and in the second
		for i := range rounds {
			s.run(length / time.Duration(rounds))
			f := s.rest()
			t.Logf("%v: %v; %d packets written, %d arrived", length*time.Duration(i+1)/time.Duration(rounds), f, s.sent, s.got.n.Load())
			require.Zero(t, f.cached, "packets kept at rest")
			require.Zero(t, f.flows, "flows open at rest")
			require.Zero(t, f.remotes)
			require.LessOrEqual(t, f.ids, 64, "flow IDs are used again")
			require.LessOrEqual(t, f.peers, len(s.names)*(len(s.names)-1))
			heap[2*i/rounds] = max(heap[2*i/rounds], f.heap)
			if i == 0 {
				first = f
			}
			require.LessOrEqual(t, f.lanes, first.lanes)
			require.LessOrEqual(t, f.goroutines, first.goroutines+2)
		}
		require.LessOrEqual(t, heap[1], heap[0]+2<<20)
		require.Greater(t, s.got.n.Load(), s.sent/20, "media did flow")
		for _, id := range s.names {
			s.stations[id].stop()
		}
	})
}
