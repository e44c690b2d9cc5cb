package cascade

import (
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/meridian-sfu/meridian/internal/mesh"
	"github.com/meridian-sfu/meridian/internal/rtpstream"
)

// microphone sends 32 kbit/s of audio without a pause, with the level of who speaks or of the room around.
type microphone struct {
	*rtpstream.Source
	pool  rtpstream.Pool
	seq   uint16
	start time.Time
	stop  chan struct{}
	turn  func(at time.Duration) bool // whether this one speaks
	rng   *rand.Rand
}

func newMicrophone(id string, seed uint64, turn func(time.Duration) bool) *microphone {
	m := &microphone{start: time.Now(), stop: make(chan struct{}), turn: turn, rng: rand.New(rand.NewPCG(seed, 1))}
	m.Source = rtpstream.NewSource(rtpstream.SourceInfo{
		ID: id, Audio: true, MIMEType: "audio/opus", ClockRate: 48000, Encodings: 1,
	}, m)
	return m
}

func (m *microphone) RequestKeyframe(uint8, rtpstream.KeyframeReason) {}
func (m *microphone) DemandChanged()                                  {}

func (m *microphone) run() {
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		select {
		case <-m.stop:
			return
		case <-tick.C:
		}
		p := m.pool.Get()
		raw := p.Buffer()[:12+80]
		clear(raw)
		raw[0], raw[1] = 0x80, 111
		binary.BigEndian.PutUint16(raw[2:], m.seq)
		binary.BigEndian.PutUint32(raw[4:], uint32(m.seq)*960)
		m.seq++
		if err := p.Parse(len(raw)); err != nil {
			panic(err)
		}
		p.Arrival = time.Since(m.start)
		p.AudioLevel = uint8(66 + m.rng.IntN(8)) // a quiet room
		if m.turn(p.Arrival) {
			p.AudioLevel = uint8(25 + m.rng.IntN(15))
		}
		m.Stream(0).Write(p)
		p.Release()
	}
}

// A gallery: nine people in three regions, each with a microphone and a camera in three encodings, all of them small tiles
// at everybody else's.
const (
	galleryPeople  = 9
	galleryRegions = 3
	galleryTime    = 20 * time.Second
)

// gallery runs the call and returns the bytes of all datagrams between regions in galleryTime. With everything set, all
// that is published crosses, once to each region, as where relays know nothing of what is watched.
func gallery(t *testing.T, everything bool) (bytes int, ears []*listener) {
	synctest.Test(t, func(t *testing.T) {
		h := newHub(40 * time.Millisecond)
		stations := make([]*station, galleryRegions)
		for i := range stations {
			stations[i] = startStation(t, h, mesh.NodeID(fmt.Sprintf("region-%d", i)))
		}
		counting := false
		h.setDrop(func(_, _ mesh.NodeID, _ *fakeConn, b []byte) bool {
			if counting {
				bytes += len(b)
			}
			return false
		})
		var cams []*publisher
		var mics []*microphone
		var viewers []*viewer
		for i := range galleryPeople {
			cam := newPublisher(fmt.Sprintf("TR_V%d", i), 150_000, 500_000, 1_700_000)
			// One after the other speaks for four seconds, sometimes two at once.
			mic := newMicrophone(fmt.Sprintf("TR_A%d", i), uint64(i), func(at time.Duration) bool {
				turn := int(at / (4 * time.Second))
				return turn*4%galleryPeople == i || turn%3 == 0 && (turn*4+5)%galleryPeople == i
			})
			if !everything {
				mic.SetVoiceGate(rtpstream.VoiceSpeaking) // nine microphones are more than are heard at once
			}
			at := i % galleryRegions
			stations[at].offer(mesh.SourceID(cam.Info.ID), cam.Source)
			stations[at].offer(mesh.SourceID(mic.Info.ID), mic.Source)
			cams, mics = append(cams, cam), append(mics, mic)
			for j, s := range stations {
				if j == at {
					continue
				}
				video := s.Remote(room, mesh.Source{ID: mesh.SourceID(cam.Info.ID), Kind: mesh.Video, MIMEType: "video/VP8", ClockRate: 90000, Encodings: make([]mesh.Encoding, 3)}, stations[at].self)
				defer video.Close()
				audio := s.Remote(room, mesh.Source{ID: mesh.SourceID(mic.Info.ID), Kind: mesh.Audio, MIMEType: "audio/opus", ClockRate: 48000, Encodings: make([]mesh.Encoding, 1)}, stations[at].self)
				defer audio.Close()
				ear := &listener{mic: mic}
				audio.Media().Subscribe(ear).SetDemand(all(0))
				ears = append(ears, ear)
				if everything {
					video.Media().Subscribe(new(discard)).SetDemand(all(0, 1, 2))
					continue
				}
				for range galleryPeople / galleryRegions {
					viewers = append(viewers, watch(s.Cascade, video.Media(), 0, rtpstream.AllTemporal))
				}
			}
		}
		for i := range cams {
			go cams[i].run()
			go mics[i].run()
		}
		for begin := time.Now(); time.Since(begin) < galleryTime+2*time.Second; time.Sleep(100 * time.Millisecond) {
			h.mu.Lock()
			counting = time.Since(begin) >= 2*time.Second
			h.mu.Unlock()
			for _, v := range viewers {
				v.tick()
			}
		}
		for i := range cams {
			close(cams[i].stop)
			close(mics[i].stop)
		}
		for _, v := range viewers {
			require.Zero(t, v.saw().gaps)
			require.Greater(t, v.saw().frames, int(galleryTime/time.Second)*29, "every frame of the small picture")
		}
	})
	return bytes, ears
}

type discard struct{}

func (*discard) WritePacket(*rtpstream.Packet) {}

// listener hears one microphone in another region.
type listener struct {
	mic     *microphone
	packets int
	speech  int
}

func (l *listener) WritePacket(p *rtpstream.Packet) {
	l.packets++
	if p.AudioLevel < 45 {
		l.speech++
	}
}

// The bytes between regions of nine people in a gallery against those of forwarding everything.
func TestGalleryCrossesAThirdOfEverythingAtMost(t *testing.T) {
	withoutRace(t)
	everything, all := gallery(t, true)
	watched, ears := gallery(t, false)
	ratio := float64(watched) / float64(everything)
	mbit := func(bytes int) float64 { return float64(bytes) * 8 / galleryTime.Seconds() / 1e6 }
	packets, heard, speech, said := 0, 0, 0, 0
	for i := range ears {
		packets, heard = packets+all[i].packets, heard+ears[i].packets
		said, speech = said+all[i].speech, speech+ears[i].speech
	}
	t.Logf("between regions: everything %.2f Mbit/s, what is watched %.2f Mbit/s: %.1f %%", mbit(everything), mbit(watched), 100*ratio)
	t.Logf("audio packets: everything %d, who may be heard %d, of it speech %d of %d", packets, heard, speech, said)
	require.Less(t, ratio, 0.35)
	require.InDelta(t, said, speech, float64(said)/100, "no syllable is missing")
	require.Less(t, heard, packets/2)
}
