package sfm

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/pion/rtcp"
	"github.com/pion/webrtc/v4"
	"github.com/stretchr/testify/require"

	"github.com/meridian-sfu/meridian/internal/mesh"
)

// modes runs a test with two peer connections and with one.
func modes(t *testing.T, f func(t *testing.T, single bool)) {
	for _, single := range []bool{false, true} {
		t.Run(fmt.Sprintf("single=%t", single), func(t *testing.T) {
			t.Parallel()
			f(t, single)
		})
	}
}

func TestPublishAndSubscribe(t *testing.T) {
	modes(t, func(t *testing.T, single bool) {
		s := newSFM(t, nil)
		alice, bob := newClient(t, s, "PA_alice", single, nil), newClient(t, s, "PA_bob", single, nil)
		if single {
			bob.do(func() { bob.addSections(1, 0) }) // a placeholder in the first offer
			bob.negotiate()
		}
		a, v := mic("A"), cam("V")
		alice.ep.Expect(a)
		alice.ep.Expect(v)
		alice.publish(a)
		camera := alice.publish(v, "q", "h", "f")
		sa, sv := alice.source(a), alice.source(v)
		require.Equal(t, "video/VP8", sv.Source.MIMEType)
		require.EqualValues(t, 90000, sv.Source.ClockRate)
		require.Equal(t, "audio/opus", strings.ToLower(sa.Source.MIMEType))
		require.Len(t, sv.Source.Encodings, 3)
		require.Equal(t, mesh.Encoding{RID: "q", Width: 320, Height: 180}, sv.Source.Encodings[0])
		require.NotEmpty(t, sv.Source.MID)
		require.NotEmpty(t, sv.Source.Extensions)

		bob.ep.Subscribe(sa)
		bob.ep.Subscribe(sv)
		bob.connected()
		bob.eventually("media", func() bool { return bob.count("TR_A") > 30 && bob.count("TR_V") > 30 })
		bob.contiguous("TR_A")
		bob.contiguous("TR_V")
		bob.mu.Lock()
		require.Equal(t, "PA_V|TR_V", bob.tracks["TR_V"].StreamID())
		first := bob.got["TR_V"][0].payload
		require.EqualValues(t, 0, first[len(first)-2]&1, "a stream starts with a keyframe")
		mids := map[string]bool{}
		for _, d := range slices.Concat(bob.offers, bob.answers) {
			for _, track := range d.MidToTrack {
				mids[track] = true
			}
		}
		require.Equal(t, map[string]bool{"TR_A": true, "TR_V": true}, mids)
		bob.mu.Unlock()
		bob.eventually("the highest encoding", func() bool { return last(bob, "TR_V") == 'f' })

		// Down and up again, without a seam.
		bob.ep.SetWanted(v.ID, Wanted{Width: 300, Height: 170, Quality: QualityUnset})
		bob.eventually("switch down", func() bool { return last(bob, "TR_V") == 'q' })
		alice.eventually("demand falls", func() bool { return alice.demand[v.ID].Encodings == 1 })
		bob.ep.SetWanted(v.ID, Wanted{Quality: 1})
		bob.eventually("switch up", func() bool { return last(bob, "TR_V") == 'h' })
		bob.contiguous("TR_V")
		alice.eventually("the smallest goes on, for others to begin with", func() bool { return alice.demand[v.ID].Encodings == 3 })

		// What is wanted but not sent is replaced by what is.
		camera.pause("h", true)
		bob.eventually("fall back", func() bool { return last(bob, "TR_V") == 'q' })
		camera.pause("h", false)
		bob.eventually("back up", func() bool { return last(bob, "TR_V") == 'h' })
		bob.contiguous("TR_V")

		bob.ep.SetWanted(v.ID, Wanted{Disabled: true})
		alice.eventually("nobody wants it", func() bool { return alice.demand[v.ID].Encodings == 0 })
		alice.noFailures()
		bob.noFailures()
		stats := bob.ep.Stats()
		require.Equal(t, Connected, stats.State)
		require.Len(t, stats.Subscriptions, 2)
		require.Len(t, alice.ep.Stats().Published, 4)
	})
}

// last is the RID octet of the newest packet.
func last(c *client, track string) byte {
	got := c.got[track]
	if len(got) == 0 {
		return 0
	}
	p := got[len(got)-1].payload
	return p[len(p)-1]
}

func TestNACKAndPLIAreAnsweredFromWhatIsKept(t *testing.T) {
	s := newSFM(t, nil)
	alice, bob := newClient(t, s, "PA_alice", false, nil), newClient(t, s, "PA_bob", true, nil)
	bob.negotiate()
	v := cam("V")
	alice.ep.Expect(v)
	camera := alice.publish(v)
	camera.reports.Store(true)
	bob.ep.Subscribe(alice.source(v))
	bob.eventually("media", func() bool { return bob.count("TR_V") > 20 })

	bob.mu.Lock()
	again := bob.got["TR_V"][10]
	ssrc := uint32(bob.tracks["TR_V"].SSRC())
	bob.mu.Unlock()
	nack := &rtcp.TransportLayerNack{MediaSSRC: ssrc, Nacks: rtcp.NackPairsFromSequenceNumbers([]uint16{again.seq})}
	require.NoError(t, bob.sub.WriteRTCP([]rtcp.Packet{nack}))
	bob.eventually("sent again", func() bool {
		n := 0
		for _, p := range bob.got["TR_V"] {
			if p.seq == again.seq {
				n++
				require.Equal(t, again, p, "exactly as before")
			}
		}
		return n == 2
	})

	before := camera.plis.Load()
	bob.mu.Lock()
	was := bob.count("TR_V")
	bob.mu.Unlock()
	var asked time.Time
	bob.eventually("keyframe", func() bool {
		if time.Since(asked) > replayFlight/2 { // who began with the past a moment ago is not heard, and asks again
			asked = time.Now()
			for range 50 {
				require.NoError(t, bob.sub.WriteRTCP([]rtcp.Packet{&rtcp.PictureLossIndication{MediaSSRC: ssrc}}))
			}
		}
		return slices.ContainsFunc(bob.got["TR_V"][was:], func(p received) bool { return p.payload[len(p.payload)-2]&1 == 0 })
	})
	require.LessOrEqual(t, camera.plis.Load()-before, int32(1), "the publisher is asked when that did not help")
	require.Eventually(t, func() bool { return bob.ep.Stats().Subscriptions[0].Retransmits == 1 }, patience, time.Millisecond)
}

func TestDataChannels(t *testing.T) {
	modes(t, func(t *testing.T, single bool) {
		s := newSFM(t, nil)
		c := newClient(t, s, "PA_x", single, nil)
		require.NoError(t, c.ep.SendData(true, []byte("early")), "waits for the channel")
		require.ErrorIs(t, c.ep.SendData(true, make([]byte, maxMessageBytes+1)), ErrDataTooLarge)
		c.negotiate()
		c.connected()
		c.eventually("channels", func() bool { return len(c.channels) == 2 })
		for i := range 10 {
			require.NoError(t, c.ep.SendData(true, fmt.Appendf(nil, "%d", i)))
		}
		c.eventually("reliable, in order", func() bool {
			return strings.Join(c.data, " ") == "_reliable:early _reliable:0 _reliable:1 _reliable:2 _reliable:3 "+
				"_reliable:4 _reliable:5 _reliable:6 _reliable:7 _reliable:8 _reliable:9"
		})
		require.Eventually(t, func() bool {
			require.NoError(t, c.ep.SendData(false, []byte("lossy")))
			c.mu.Lock()
			defer c.mu.Unlock()
			return strings.Contains(strings.Join(c.data, " "), "_lossy:lossy")
		}, patience, 5*time.Millisecond)
		for label, dc := range c.up {
			c.eventually("open", func() bool { return dc.ReadyState() == webrtc.DataChannelStateOpen })
			require.NoError(t, dc.SendText("up"))
			c.eventually("up", func() bool { return slices.Contains(c.data, label+":up") })
		}
		up, err := c.pub.CreateDataChannel("other", nil)
		require.NoError(t, err)
		up.OnOpen(func() { c.fail(up.SendText("odd")) })
		c.eventually("any label", func() bool { return strings.Contains(strings.Join(c.data, " "), "other:odd") })
		require.Eventually(t, func() bool { return c.ep.Stats().State == Connected }, patience, time.Millisecond)
		c.noFailures()
		c.ep.Close()
		<-c.ep.Done()
		require.ErrorIs(t, c.ep.SendData(true, nil), ErrClosed)
		require.ErrorIs(t, c.ep.Err(), ErrClosed)
	})
}

func TestSectionsAreUsedAgain(t *testing.T) {
	modes(t, func(t *testing.T, single bool) {
		s := newSFM(t, nil)
		alice, bob := newClient(t, s, "PA_alice", single, nil), newClient(t, s, "PA_bob", single, nil)
		bob.negotiate()
		a, b, c := cam("1"), cam("2"), mic("3")
		for _, x := range []mesh.Source{a, b, c} {
			alice.ep.Expect(x)
			alice.publish(x)
		}
		sa, sb, sc := alice.source(a), alice.source(b), alice.source(c)
		bob.ep.Subscribe(sa)
		bob.ep.Subscribe(sc)
		bob.eventually("first", func() bool { return bob.count("TR_1") > 5 && bob.count("TR_3") > 5 })
		bob.ep.Unsubscribe(a.ID)
		bob.eventually("inactive", func() bool {
			list := bob.offers
			if single {
				list = bob.answers
			}
			return len(list) > 0 && len(list[len(list)-1].MidToTrack) == 1
		})
		bob.ep.Subscribe(sb)
		bob.eventually("second", func() bool { return bob.count("TR_2") > 5 })
		bob.ep.Unsubscribe(b.ID)
		bob.ep.Subscribe(sa)
		bob.mu.Lock()
		was := len(bob.got["TR_1"])
		bob.mu.Unlock()
		bob.eventually("first again", func() bool { return bob.count("TR_1") > was+5 })
		bob.noFailures()
		require.LessOrEqual(t, strings.Count(bob.sub.RemoteDescription().SDP, "m=video"), 2, "m-lines are reused")

		alice.ep.Unpublish(c.ID)
		require.Eventually(t, func() bool { return len(alice.ep.Stats().Published) == 2 }, patience, time.Millisecond)
		alice.do(func() {
			for _, tr := range alice.pub.GetTransceivers() {
				if tr.Sender() != nil && tr.Sender().Track() != nil && tr.Sender().Track().ID() == b.ClientID {
					alice.fail(alice.pub.RemoveTrack(tr.Sender()))
				}
			}
		})
		alice.negotiate()
		alice.eventually("unpublished", func() bool { return len(alice.gone) == 1 && alice.gone[0] == b.ID })
		alice.noFailures()
	})
}

// What is subscribed to while the client makes the offer that it was asked for gets a section of the offer after that.
func TestSubscribedWhileAsked(t *testing.T) {
	s := newSFM(t, nil)
	alice, bob := newClient(t, s, "PA_alice", true, nil), newClient(t, s, "PA_bob", true, nil)
	bob.negotiate()
	a, b := cam("1"), cam("2")
	for _, x := range []mesh.Source{a, b} {
		alice.ep.Expect(x)
		alice.publish(x)
	}
	sa, sb := alice.source(a), alice.source(b)
	bob.ep.Subscribe(sa)
	bob.eventually("first", func() bool { return bob.count("TR_1") > 5 })
	hold := make(chan struct{})
	bob.do(func() { <-hold })
	asked := func() int {
		bob.mu.Lock()
		defer bob.mu.Unlock()
		return len(bob.asked)
	}
	was := asked()
	bob.ep.Unsubscribe(a.ID)
	require.Eventually(t, func() bool { return asked() > was }, patience, time.Millisecond)
	bob.ep.Subscribe(sb)
	require.Len(t, bob.ep.Stats().Subscriptions, 1, "it came before the offer")
	close(hold)
	bob.eventually("second", func() bool { return bob.count("TR_2") > 5 })
	bob.noFailures()
}

// A client whose network blocks UDP comes by TCP (RFC 6544).
func TestTCP(t *testing.T) {
	modes(t, func(t *testing.T, single bool) {
		s := newSFM(t, nil)
		tcp := []webrtc.NetworkType{webrtc.NetworkTypeTCP4}
		alice := newClientOver(t, s, "PA_alice", single, tcp, nil)
		bob := newClientOver(t, s, "PA_bob", single, tcp, nil)
		bob.negotiate()
		v := cam("V")
		alice.ep.Expect(v)
		alice.publish(v, "q", "h")
		bob.ep.Subscribe(alice.source(v))
		bob.eventually("media", func() bool { return bob.count("TR_V") > 20 })
		bob.contiguous("TR_V")
		bob.noFailures()
	})
}

func TestClientCloses(t *testing.T) {
	modes(t, func(t *testing.T, single bool) {
		c := newClient(t, newSFM(t, nil), "PA_x", single, nil)
		c.negotiate()
		c.connected()
		c.eventually("the client too", func() bool { return c.sub.ConnectionState() == webrtc.PeerConnectionStateConnected })
		require.NoError(t, c.sub.Close())
		c.eventually("failed", func() bool { return c.states[len(c.states)-1] == Failed })
	})
}

func TestPermissionsChange(t *testing.T) {
	modes(t, func(t *testing.T, single bool) {
		s := newSFM(t, nil)
		alice := newClient(t, s, "PA_alice", single, func(c *EndpointConfig) { c.CanPublish = false })
		bob := newClient(t, s, "PA_bob", single, func(c *EndpointConfig) { c.CanSubscribe = false })
		bob.negotiate()
		v := cam("V")
		alice.ep.Expect(v)
		require.Empty(t, alice.ep.Stats().Published)
		alice.ep.SetPermission(true, true)
		bob.ep.SetPermission(true, true)
		alice.ep.Expect(v)
		alice.publish(v)
		bob.ep.Subscribe(alice.source(v))
		bob.eventually("media", func() bool { return bob.count("TR_V") > 5 })
		bob.noFailures()
	})
}

func TestOfferBeforeExpect(t *testing.T) {
	s := newSFM(t, nil)
	c := newClient(t, s, "PA_x", true, nil)
	a, b := mic("A"), mic("B")
	c.publish(a)
	renamed := b
	renamed.ClientID = "a-name-of-the-client"
	c.publish(renamed)
	c.connected()
	c.ep.Expect(b) // no track of this name: the first of its kind that is left over
	c.ep.Expect(a)
	require.NotEqual(t, c.source(a).Source.MID, c.source(b).Source.MID)
	c.ep.Expect(a)
	c.noFailures()
}

func TestNonsenseIsRefused(t *testing.T) {
	modes(t, func(t *testing.T, single bool) {
		s := newSFM(t, nil)
		c := newClient(t, s, "PA_x", single, nil)
		good, err := c.newPC(Publisher).CreateOffer(nil)
		require.NoError(t, err)
		bad := []Description{
			{Type: "offer", SDP: ""},
			{Type: "offer", SDP: "garbage"},
			{Type: "offer", SDP: strings.Repeat("a=x\r\n", 200_000)},
			{Type: "offer", SDP: good.SDP}, // no section at all
			{Type: "offer", SDP: "v=0\r\no=- 0 0 IN IP4 0.0.0.0\r\ns=-\r\nt=0 0\r\nm=video 9 UDP/TLS/RTP/SAVPF 96\r\na=sendonly\r\n"},
			{Type: "offer", SDP: "v=0\r\no=- 0 0 IN IP4 0.0.0.0\r\ns=-\r\nt=0 0\r\nm=video 9 UDP/TLS/RTP/SAVPF 96\r\na=mid:0\r\n" +
				"a=ice-ufrag:x\r\na=ice-pwd:y\r\na=fingerprint:sha-256 00\r\na=sendonly\r\na=extmap:x y\r\n"},
		}
		for _, d := range bad {
			c.ep.HandleOffer(d)
		}
		c.ep.AddCandidate(Publisher, "{")
		c.ep.AddCandidate(Publisher, strings.Repeat("x", 5000))
		c.ep.AddCandidate(Publisher, `{"candidate":"candidate:1 1 udp 1 abc.local 1 typ host"}`)
		// Two of the candidates are nonsense; the third is a name, which is no fault.
		c.eventually("told", func() bool { return len(c.failures) == len(bad)+2 })
		c.mu.Lock()
		c.failures = nil
		c.mu.Unlock()
		a := mic("A")
		c.ep.Expect(a)
		c.publish(a)
		c.source(a)
		c.eventually("goes on", func() bool { return c.pub.ConnectionState() == webrtc.PeerConnectionStateConnected })
		c.noFailures()

		for _, d := range bad {
			c.ep.HandleOffer(d)
		}
		c.eventually("told again", func() bool { return len(c.failures) == len(bad) })
		c.mu.Lock()
		c.failures = nil
		c.mu.Unlock()
		b := cam("B")
		c.ep.Expect(b)
		c.publish(b)
		c.source(b)
		c.noFailures()
	})
}

func TestOffersAreNeverTwoInFlight(t *testing.T) {
	s := newSFM(t, nil)
	alice, bob := newClient(t, s, "PA_alice", false, nil), newClient(t, s, "PA_bob", false, nil)
	bob.connected()
	a, b := mic("A"), mic("B")
	for _, x := range []mesh.Source{a, b} {
		alice.ep.Expect(x)
		alice.publish(x)
	}
	bob.do(func() { bob.mute = true })
	bob.ep.Subscribe(alice.source(a))
	bob.eventually("offer", func() bool { return len(bob.offers) == 2 })
	bob.ep.Subscribe(alice.source(b))
	_ = bob.ep.Stats() // the loop has seen it
	bob.mu.Lock()
	require.Len(t, bob.offers, 2)
	require.Greater(t, bob.offers[1].ID, bob.offers[0].ID)
	bob.mu.Unlock()
	bob.do(func() { bob.mute = false })
	bob.ep.RestartICE() // the client comes back and never saw that offer
	bob.eventually("both", func() bool { return bob.count("TR_A") > 5 && bob.count("TR_B") > 5 })
	bob.noFailures()
}

func TestClientRestartsICE(t *testing.T) {
	modes(t, func(t *testing.T, single bool) {
		s := newSFM(t, nil)
		alice, bob := newClient(t, s, "PA_alice", single, nil), newClient(t, s, "PA_bob", single, nil)
		bob.negotiate()
		v := cam("V")
		alice.ep.Expect(v)
		alice.publish(v)
		bob.ep.Subscribe(alice.source(v))
		bob.eventually("media", func() bool { return bob.count("TR_V") > 5 })
		alice.do(func() { alice.sendOffer(&webrtc.OfferOptions{ICERestart: true}) })
		alice.eventually("answer", func() bool { return len(alice.answers) >= 2 })
		bob.mu.Lock()
		was := bob.count("TR_V")
		bob.mu.Unlock()
		bob.eventually("media goes on", func() bool { return bob.count("TR_V") > was+20 })
		alice.noFailures()
	})
}

// RFC 8445 §9: media goes on over the old path while ICE restarts. The client here announces new credentials and then
// does nothing: no new path ever comes.
func TestMediaGoesOnWhileICERestarts(t *testing.T) {
	modes(t, func(t *testing.T, single bool) {
		s := newSFM(t, nil)
		alice, bob := newClient(t, s, "PA_alice", single, nil), newClient(t, s, "PA_bob", single, nil)
		bob.negotiate()
		a, b := cam("A"), cam("B")
		alice.ep.Expect(a)
		alice.publish(a)
		bob.ep.Expect(b)
		bob.publish(b)
		bob.ep.Subscribe(alice.source(a))
		alice.ep.Subscribe(bob.source(b))
		bob.eventually("media", func() bool { return bob.count("TR_A") > 5 })
		alice.eventually("media", func() bool { return alice.count("TR_B") > 5 })

		answers := 0
		alice.do(func() {
			alice.mu.Lock()
			answers = len(alice.answers)
			alice.mu.Unlock()
			alice.mute = true
			offer := strings.NewReplacer(
				"a=ice-ufrag:"+sdpValue(alice.pub.LocalDescription().SDP, "ice-ufrag"), "a=ice-ufrag:anotherOne",
				"a=ice-pwd:"+sdpValue(alice.pub.LocalDescription().SDP, "ice-pwd"), "a=ice-pwd:anotherPasswordOfSomeLength",
			).Replace(alice.pub.LocalDescription().SDP)
			alice.endpoint().HandleOffer(Description{Type: "offer", SDP: offer, ID: 1000})
		})
		alice.eventually("answer", func() bool { return answers > 0 && len(alice.answers) > answers })
		bob.mu.Lock()
		wasBob := bob.count("TR_A")
		bob.mu.Unlock()
		alice.mu.Lock()
		wasAlice := alice.count("TR_B")
		alice.mu.Unlock()
		bob.eventually("media from the client goes on", func() bool { return bob.count("TR_A") > wasBob+40 })
		alice.eventually("media to the client goes on", func() bool { return alice.count("TR_B") > wasAlice+40 })
		alice.mu.Lock()
		defer alice.mu.Unlock()
		got := alice.got["TR_B"]
		missing := int(got[len(got)-1].seq-got[0].seq) + 1 - len(got)
		require.LessOrEqual(t, missing, 3, "packets lost to the client")
	})
}

// A client that only lost its signalling keeps its media: nothing restarts while it is heard.
func TestPathInDoubt(t *testing.T) {
	for _, heard := range []bool{true, false} {
		t.Run(fmt.Sprintf("heard=%v", heard), func(t *testing.T) {
			t.Parallel()
			s := newSFM(t, nil)
			bob := newClient(t, s, "PA_bob", false, nil)
			bob.connected()
			offers := func() (n int, ufrag string) {
				bob.mu.Lock()
				defer bob.mu.Unlock()
				return len(bob.offers), sdpValue(bob.offers[len(bob.offers)-1].SDP, "ice-ufrag")
			}
			before, was := offers()
			if heard {
				bob.ep.CheckPath()
				_ = bob.ep.Stats()                  // the loop has begun to listen
				require.Eventually(t, func() bool { // not before DTLS has started
					return bob.sub.WriteRTCP([]rtcp.Packet{&rtcp.ReceiverReport{SSRC: 1}}) == nil
				}, pathPatience/2, 10*time.Millisecond)
				require.Never(t, func() bool { n, _ := offers(); return n != before }, pathPatience+2*demandTick, 50*time.Millisecond)
				return
			}
			n, is := offers()
			for deadline := time.Now().Add(patience); n == before && time.Now().Before(deadline); n, is = offers() {
				bob.ep.CheckPath() // again: its data channels may have been opening
				time.Sleep(pathPatience + 2*demandTick)
			}
			require.NotEqual(t, was, is)
			bob.connected()
		})
	}
}
