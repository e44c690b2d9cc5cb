package cascade

import (
	"net"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/proto"

	"github.com/meridian-sfu/meridian/internal/mesh"
	"github.com/meridian-sfu/meridian/internal/meshpb/cascadepb"
	"github.com/meridian-sfu/meridian/internal/rtpstream"
)

// linkScript is what happens to a link, as FuzzLink reads it: an octet that says what, one with a length, that many bytes.
type linkScript []byte

const (
	scriptDatagram = iota // the bytes come in on a lane
	scriptControl         // the bytes come in on the control stream
	scriptTime            // five milliseconds for each of the length pass
	scriptMedia           // so many packets of ours leave
	scriptSteps
)

func (s linkScript) then(step byte, b ...byte) linkScript {
	return append(append(s, step, byte(len(b))), b...)
}

func (s linkScript) say(m *cascadepb.LinkMessage) linkScript {
	b, err := proto.Marshal(m)
	if err != nil {
		panic(err)
	}
	return s.then(scriptControl, b...)
}

// FuzzLink is a whole link, its loops turned by hand, whose peer says anything in any order: no panic, and whatever the
// link sends is something the other side can parse.
func FuzzLink(f *testing.F) {
	rtp := rtpOf(1, 60)
	open := &cascadepb.LinkMessage{Version: 1, Body: &cascadepb.LinkMessage_FlowOpen{FlowOpen: &cascadepb.FlowOpen{
		FlowId: 3, Room: "r", Source: "s", Path: []string{"peer"}, Hops: 1, Demand: demandMessage(all(0), 0),
	}}}
	nack, _ := appendNack(nil, []uint64{1, 2, 3, 9})
	parity := appendParity(nil, parityHeader{Base: 1, Packets: 2, Parity: 1}, make([]byte, 80))
	f.Add([]byte(linkScript{}.say(open).then(scriptMedia, 1, 2, 3, 4).then(scriptTime, make([]byte, 30)...).
		then(scriptDatagram, nack...).then(scriptTime, 1)))
	f.Add([]byte(linkScript{}.then(scriptDatagram, mediaFrame(1, 1, rtp)...).then(scriptDatagram, mediaFrame(1, 3, rtp)...).
		then(scriptTime, make([]byte, 20)...).then(scriptDatagram, appendShort(nil, &mediaHeader{Flow: 1, LinkSeq: 2, Class: classBase, AudioLevel: 255}, rtp, true)...)))
	f.Add([]byte(linkScript{}.then(scriptDatagram, append(appendFrameHead(nil, frameParity, len(parity), true), parity...)...).
		then(scriptDatagram, mediaFrame(1, 1, rtp)...).then(scriptTime, make([]byte, 40)...)))
	f.Add([]byte(linkScript{}.then(scriptDatagram, appendProbe(nil, probe{Sent: 1, Highest: 50, Loss: 9000, Burst: 40})...).
		say(open).then(scriptMedia, make([]byte, 60)...).then(scriptTime, make([]byte, 40)...).
		then(scriptDatagram, appendReport(nil, rateReport{Clock: 1, Seq: 7, Bytes: 900, Packets: 3})...).then(scriptTime, 1)))
	said := &cascadepb.LinkMessage{Version: 1, Body: &cascadepb.LinkMessage_HeaderContext{HeaderContext: &cascadepb.HeaderContext{
		FlowId: 3, Context: 2, Octets: 0x8060, Timestamp: 1<<32 - 90000,
	}}}
	f.Add([]byte(linkScript{}.say(open).then(scriptMedia, 1, 2).say(said).then(scriptMedia, 1, 2, 3).then(scriptTime, 1, 2, 3)))
	plain := contextPacket(0x8060, 9, 1, 2, make([]byte, 40)...)
	cut, _ := appendContext(nil, &mediaHeader{Flow: 1, LinkSeq: 2, Class: classRest}, newContext(0, plain), plain, true)
	f.Add([]byte(linkScript{}.then(scriptDatagram, mediaFrame(1, 1, plain)...).then(scriptTime, make([]byte, 30)...).
		then(scriptDatagram, cut...).then(scriptTime, make([]byte, 20)...)))
	sliding := func(h parityHeader, symbol []byte) []byte {
		h.Sliding, h.Span = true, 52*ms
		b := appendParity(nil, h, symbol)
		return append(appendFrameHead(nil, frameSliding, len(b), true), b...)
	}
	f.Add([]byte(linkScript{}.then(scriptDatagram, sliding(parityHeader{Base: 1, Packets: 3}, make([]byte, 70))...).
		then(scriptDatagram, mediaFrame(1, 1, rtp)...).then(scriptDatagram, sliding(parityHeader{Base: 1, Packets: 3, Index: 1}, make([]byte, 20))...).
		then(scriptTime, make([]byte, 4)...).then(scriptDatagram, mediaFrame(1, 3, rtp)...).then(scriptTime, make([]byte, 20)...)))
	f.Add([]byte(linkScript{}.then(scriptDatagram, sliding(parityHeader{Base: 1, Packets: 192, Index: 255}, []byte{0x80})...).
		then(scriptDatagram, sliding(parityHeader{Base: 60, Packets: 64, Index: 9}, make([]byte, 90))...).then(scriptTime, make([]byte, 60)...)))

	cam := newCamera("s", false, 2)
	cam.size = 300
	h := newHub(0)
	c, err := New(DefaultConfig(), Deps{
		Net: &fakeNet{hub: h, id: "self"}, Resolve: resolveAny,
		Local: func(mesh.NodeID, mesh.RoomName, mesh.SourceID) (*rtpstream.Source, bool) { return cam.Source, true },
	}, quiet(), nil)
	if err != nil {
		f.Fatal(err)
	}
	remote := c.Remote(room, newCamera("TR_r", false, 2).mesh(), "peer")
	remote.Media().Subscribe(new(atomicSink)).SetDemand(all(0, 1))
	f.Fuzz(func(t *testing.T, script []byte) {
		ours, theirs := net.Pipe()
		defer func() { _ = ours.Close() }()
		l := newLink(newPeer(c, "peer"), theirs, 1, false)
		defer l.abandon()
		l.features.Store(features)
		l.rx.setFlow(1, remote.remote.via)
		now := c.now()
		ln := newLane(0, &fakeConn{hub: h, self: "self", peer: "peer", done: make(chan struct{})}, now)
		l.tx.attach(ln, now)
		tick := ticker{link: l, nextSecond: now + time.Second}
		for steps := 0; len(script) >= 2 && steps < 200; steps++ {
			what, n := script[0], min(int(script[1]), len(script)-2)
			b := script[2 : 2+n]
			script = script[2+n:]
			switch what % scriptSteps {
			case scriptDatagram:
				l.arrived(ln, append([]byte(nil), b...), now)
				for in, ok := l.rx.queue.Pop(); ok; in, ok = l.rx.queue.Pop() {
					l.rx.deliver(&in)
				}
			case scriptControl:
				m := new(cascadepb.LinkMessage)
				if proto.Unmarshal(b, m) == nil {
					l.dispatch(m)
				}
			case scriptTime:
				for range n {
					now += 5 * time.Millisecond
					l.rx.release(now)
					tick.step(now)
					fuzzDrain(t, l, ln, now)
				}
			case scriptMedia:
				for i := range b {
					cam.write(b[i]&1, func(p *rtpstream.Packet) { p.Keyframe = b[i]&2 != 0; p.Temporal = b[i] >> 5 })
					now += time.Millisecond
				}
			}
			fuzzDrain(t, l, ln, now)
			for _, ok := l.out.Pop(); ok; _, ok = l.out.Pop() {
			}
		}
		l.endFlows()
		require.Zero(t, cam.Subscribers())
		l.rx.close()
		l.tx.close()
	})
}

// fuzzDrain takes what the lane would send: all of it parses.
func fuzzDrain(t *testing.T, l *link, ln *lane, now time.Duration) {
	for b, ok := l.tx.fill(ln, nil, now); ok; b, ok = l.tx.fill(ln, nil, now) {
		require.LessOrEqual(t, len(b), ln.max)
		for len(b) > 0 {
			fr, rest, err := nextFrame(b)
			require.NoError(t, err)
			switch {
			case fr.parity():
				_, _, err = parseParity(fr)
			case fr.media():
				var h mediaHeader
				var rtp []byte
				if rtp, err = parseMedia(fr, &h); err == nil && fr.cut() {
					_, err = parseContext(rtp, &cutHeader{})
				}
			case fr.kind == frameNack:
				_, err = parseNack(fr.body, new([maxNackEntries]nackEntry))
			case fr.kind == frameProbe:
				_, err = parseProbe(fr.body)
			case fr.kind == frameAnswer:
				_, err = parseAnswer(fr.body)
			case fr.kind == frameReport:
				_, err = parseReport(fr.body)
			}
			require.NoError(t, err)
			b = rest
		}
	}
}
