package sfm

import (
	"sync"
	"sync/atomic"
	"time"

	"github.com/pion/rtcp"
	"github.com/pion/rtp"
	"github.com/pion/sdp/v3"
	"github.com/pion/webrtc/v4"
	"github.com/stretchr/testify/require"

	"github.com/meridian-sfu/meridian/internal/mesh"
	"github.com/meridian-sfu/meridian/internal/rtpstream"
)

// camera of a test client: it writes made-up VP8 or Opus packets on each encoding until stopped.
type producer struct {
	c       *client
	src     mesh.Source
	sender  *webrtc.RTPSender
	stop    chan struct{}
	once    sync.Once
	plis    atomic.Int32
	reports atomic.Bool // send sender reports

	mu     sync.Mutex
	key    map[string]bool // RID → a keyframe was asked for
	paused map[string]bool
}

// publish announces a source, adds it to the publisher connection and offers. The client's name of the track is its ID.
func (c *client) publish(src mesh.Source, rids ...string) *producer {
	c.t.Helper()
	p := &producer{c: c, src: src, stop: make(chan struct{}), key: map[string]bool{}, paused: map[string]bool{}}
	capability := webrtc.RTPCodecCapability{MimeType: webrtc.MimeTypeVP8, ClockRate: 90000}
	if src.Kind == mesh.Audio {
		capability = webrtc.RTPCodecCapability{MimeType: webrtc.MimeTypeOpus, ClockRate: 48000, Channels: 2}
	}
	if len(rids) == 0 {
		rids = []string{""}
	}
	var tracks []*webrtc.TrackLocalStaticRTP
	for _, rid := range rids {
		var options []func(*webrtc.TrackLocalStaticRTP)
		if rid != "" {
			options = append(options, webrtc.WithRTPStreamID(rid))
		}
		track, err := webrtc.NewTrackLocalStaticRTP(capability, src.ClientID, "stream", options...)
		require.NoError(c.t, err)
		tracks = append(tracks, track)
	}
	added := make(chan *webrtc.RTPTransceiver, 1)
	c.do(func() {
		tr, err := c.pub.AddTransceiverFromTrack(tracks[0], webrtc.RTPTransceiverInit{Direction: webrtc.RTPTransceiverDirectionSendonly})
		c.fail(err)
		for _, x := range tracks[1:] {
			c.fail(tr.Sender().AddEncoding(x))
		}
		added <- tr
	})
	tr := <-added
	p.sender = tr.Sender()
	c.negotiate()
	for i, rid := range rids {
		go p.readRTCP(rid)
		go p.write(tr, tracks[i], rid)
	}
	c.t.Cleanup(p.end)
	return p
}

func (p *producer) end() { p.once.Do(func() { close(p.stop) }) }

func (p *producer) readRTCP(rid string) {
	for {
		var packets []rtcp.Packet
		var err error
		if rid == "" {
			packets, _, err = p.sender.ReadRTCP()
		} else {
			packets, _, err = p.sender.ReadSimulcastRTCP(rid)
		}
		if err != nil {
			return
		}
		for _, x := range packets {
			if _, ok := x.(*rtcp.PictureLossIndication); ok {
				p.plis.Add(1)
				p.mu.Lock()
				p.key[rid] = true
				p.mu.Unlock()
			}
		}
	}
}

func (p *producer) pause(rid string, paused bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.paused[rid] = paused
}

// write sends a packet every 10 ms: a whole frame, its RID in the last octet.
func (p *producer) write(tr *webrtc.RTPTransceiver, track *webrtc.TrackLocalStaticRTP, rid string) {
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	header := rtp.Header{Version: 2, SequenceNumber: 65500, Timestamp: uint32(len(rid)) * 77777}
	pid := uint16(32700)
	for {
		select {
		case <-p.stop:
			return
		case <-tick.C:
		}
		p.mu.Lock()
		key, paused := p.key[rid], p.paused[rid]
		if !paused {
			p.key[rid] = false
		}
		p.mu.Unlock()
		if paused {
			continue
		}
		header.SequenceNumber++
		payload := []byte{1, 2, 3}
		if p.src.Kind == mesh.Video {
			header.Timestamp += 900
			pid = (pid + 1) & 0x7fff
			d := rtpstream.VP8Descriptor{Start: true, HasPictureID: true, LongPictureID: true, PictureID: pid}
			first := byte(1)
			if key {
				first = 0
			}
			payload = append(d.Append(nil), first, rid2byte(rid))
		} else {
			header.Timestamp += 480
		}
		header.Extension, header.Extensions = false, nil
		for _, x := range p.sender.GetParameters().HeaderExtensions {
			switch {
			case x.URI == sdp.SDESMidURI:
				_ = header.SetExtension(uint8(x.ID), []byte(tr.Mid()))
			case x.URI == sdp.SDESRTPStreamIDURI && rid != "":
				_ = header.SetExtension(uint8(x.ID), []byte(rid))
			}
		}
		_ = track.WriteRTP(&rtp.Packet{Header: header, Payload: payload})
		if p.reports.Load() {
			for _, e := range p.sender.GetParameters().Encodings {
				if e.RID == rid {
					_ = p.c.pub.WriteRTCP([]rtcp.Packet{&rtcp.SenderReport{
						SSRC: uint32(e.SSRC), NTPTime: 1000 << 32, RTPTime: header.Timestamp,
					}})
				}
			}
		}
	}
}

func rid2byte(rid string) byte {
	if rid == "" {
		return 0
	}
	return rid[0]
}

func mic(id string) mesh.Source {
	return mesh.Source{ID: mesh.SourceID("TR_" + id), ClientID: "cid-" + id, Name: id, Kind: mesh.Audio, Type: mesh.SourceMicrophone}
}

func cam(id string) mesh.Source {
	return mesh.Source{
		ID: mesh.SourceID("TR_" + id), ClientID: "cid-" + id, Name: id, Kind: mesh.Video, Type: mesh.SourceCamera,
		Width: 1280, Height: 720,
	}
}

// source waits until a source is published and returns what to subscribe with.
func (c *client) source(src mesh.Source) Subscribe {
	c.t.Helper()
	var s Subscribe
	c.eventually("published "+string(src.ID), func() bool {
		var ok bool
		s, ok = c.published[src.ID]
		return ok
	})
	return s
}

// contiguous checks what a client got of a track: no sequence number twice, none missing, timestamps and picture IDs
// rising.
func (c *client) contiguous(track string) {
	c.t.Helper()
	c.mu.Lock()
	defer c.mu.Unlock()
	got := c.got[track]
	for i := 1; i < len(got); i++ {
		require.Equal(c.t, got[i-1].seq+1, got[i].seq, "packet %d of %s", i, track)
		require.Positive(c.t, int32(got[i].ts-got[i-1].ts), "packet %d of %s", i, track)
		a, errA := rtpstream.ParseVP8(got[i-1].payload)
		b, errB := rtpstream.ParseVP8(got[i].payload)
		if errA == nil && errB == nil && a.HasPictureID {
			require.EqualValues(c.t, 1, (b.PictureID-a.PictureID)&0x7fff, "picture ID of packet %d", i)
		}
	}
}
