package meshnet

import (
	"encoding/binary"
	"errors"
	"math/rand/v2"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// wire is a directSocket that keeps what is sent.
type wire struct {
	net.PacketConn
	packets [][]byte
	to      []netip.AddrPort
	err     error
}

func (w *wire) writeRuns(to netip.AddrPort, _ netip.Addr, buf []byte, runs []run) (int, error) {
	if w.err != nil {
		return 0, w.err
	}
	sent := 0
	for _, r := range runs {
		for at := r.start; at < r.end; at += r.size {
			w.packets = append(w.packets, slices.Clone(buf[at:min(at+r.size, r.end)]))
			w.to = append(w.to, to)
			sent++
		}
	}
	return sent, nil
}

// taken returns what was sent since the last call.
func (w *wire) taken() [][]byte {
	p := w.packets
	w.packets, w.to = nil, nil
	return p
}

var (
	home   = netip.MustParseAddrPort("192.0.2.1:7700")
	abroad = netip.MustParseAddrPort("192.0.2.2:999")
)

// end of a session without a network: what it got, and why packets were refused.
type sessionEnd struct {
	*Direct
	wire *wire
	ss   *sessions
	got  []string
}

func (e *sessionEnd) refused(r refusal) int { return int(value(e.metrics.refusedDirect[r])) }

// feed gives the end a packet, which stays as it is.
func (e *sessionEnd) feed(b []byte, from netip.AddrPort) {
	e.ss.take(slices.Clone(b), from)
	e.ss.done()
}

func (e *sessionEnd) say(t testing.TB, words ...string) [][]byte {
	t.Helper()
	for _, w := range words {
		require.NoError(t, e.Send([]byte(w)))
	}
	require.NoError(t, e.Flush())
	return e.wire.taken()
}

// sessionPair returns both ends of a session of the newest version.
func sessionPair(t testing.TB) (x, y *sessionEnd) {
	t.Helper()
	return sessionPairOf(t, directVersionLight)
}

func sessionPairOf(t testing.TB, version byte) (x, y *sessionEnd) {
	t.Helper()
	var secrets [2][secretBytes]byte
	for i := range secrets {
		for j := range secrets[i] {
			secrets[i][j] = byte(rand.Uint32())
		}
	}
	ids := [2]uint64{rand.Uint64() & sessionMask, rand.Uint64() & sessionMask}
	for i := range ids {
		ids[i] = sessionOf(version, ids[i])
	}
	ends := [2]*sessionEnd{}
	for i := range ends {
		m, err := newMetrics(nil, nil, nil)
		require.NoError(t, err)
		e := &sessionEnd{wire: new(wire), ss: newSessions(m)}
		e.Direct = &Direct{
			conn: &Conn{peer: "peer"}, socket: e.wire, metrics: m, to: home,
			sendID: ids[i], recvID: ids[1-i], queue: newDirectQueue(),
			pause: make(chan struct{}, 1),
		}
		e.keys.secret, e.in.keys.secret, e.in.from = secrets[i], secrets[1-i], home
		e.keys.tag, e.in.keys.tag = tagOf(ids[i]), tagOf(ids[1-i])
		e.maxBytes.Store(safeDirectBytes)
		e.Handle(Handler{Each: func(b []byte, _ time.Time) { e.got = append(e.got, string(b)) }})
		require.NoError(t, e.ss.add(e.Direct))
		ends[i] = e
	}
	return ends[0], ends[1]
}

func TestDirectHeader(t *testing.T) {
	for _, p := range []directPacket{
		{},
		{kind: kindResponse, session: sessionMask, number: maxPacketNumber},
		{kind: kindChallenge, session: 0x0102_0304_0506_07, number: 0x0a0b_0c0d_0e0f},
		{session: shortSession},
		{kind: kindResponse, session: shortSession | shortSessionMask, number: shortNumbers - 1},
		{kind: kindChallenge, session: shortSession | 0x0102_0304, number: 0x0a_0b0c},
		{kind: kindChallenge, session: lightSession | 0x0102_0304, number: 0x0a_0b0c},
	} {
		b := appendDirect(nil, p)
		require.Len(t, b, p.header())
		require.True(t, isDirect(b))
		require.True(t, b[0] >= 128 && b[0] < 192, "RFC 9443 §3: not QUIC's range")
		_, ok := parseDirect(b)
		require.False(t, ok, "without a tag it is too short")
		got, ok := parseDirect(append(b, make([]byte, tagOf(p.session))...))
		require.True(t, ok)
		require.Equal(t, p, got)
	}
	full := append(appendDirect(nil, directPacket{}), make([]byte, directTag)...)
	for _, first := range []byte{0x80, 0x88 | 3, 0x90 | 3, 0x98 | 3, 0xa0, 0xbf, 0x40, 0x00, 0xff} {
		full[0] = first
		_, ok := parseDirect(full)
		require.False(t, ok, "%#x is of another version or kind", first)
	}
}

// RFC 9000 §17.1 and appendix A.3.
func TestShortPacketNumber(t *testing.T) {
	for _, next := range []uint64{0, 1, 1<<23 - 1, 1 << 23, 1<<24 - 1, 1 << 24, 1<<24 + 1, 1<<40 + 1<<23, maxPacketNumber - 1<<23} {
		for _, ahead := range []int64{-1<<23 + 1, -100_000, -1, 0, 1, 100_000, 1 << 23} {
			number := uint64(int64(next) + ahead)
			if int64(number) < 0 {
				continue
			}
			p := directPacket{session: shortSession, number: number % shortNumbers}
			p.complete(next)
			require.Equal(t, number, p.number, "%d after %d", ahead, next)
		}
	}
	p := directPacket{session: 5, number: 7}
	p.complete(1 << 30)
	require.EqualValues(t, 7, p.number, "a long number is whole")
}

// A session lives on after it lost a million packets in a row, and across the ends of its short numbers and keys.
func TestShortNumbersAfterGaps(t *testing.T) {
	x, y := sessionPair(t)
	for i, at := range []uint64{0, 1_000_000, 9_000_000, 1<<24 - 1, 1 << 24, 1<<24 + 8_000_000, 30_000_000, 1<<25 - 1, 1 << 25} {
		x.next = at
		y.feed(x.say(t, strconv.Itoa(i))[0], home)
		require.Equal(t, strconv.Itoa(i), y.got[len(y.got)-1])
	}
	require.Zero(t, y.stats.refused.Load())
}

func FuzzDirect(f *testing.F) {
	x, _ := sessionPair(f)
	_, y := sessionPair(f) // has no friend here, and garbage leaves no mark on it
	good := x.say(f, "hello")[0]
	f.Add(good)
	f.Add(good[:directOverheadLight-1])
	f.Add(appendDirect(nil, directPacket{kind: 2, session: 7, number: maxPacketNumber}))
	f.Add([]byte{0x88})
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, b []byte) {
		p, ok := parseDirect(b)
		if ok {
			require.Equal(t, b[:p.header()], appendDirect(nil, p))
		}
		y.feed(b, abroad)
		if len(b) >= 8 { // the same for a session that is there
			b = slices.Clone(b)
			binary.BigEndian.PutUint32(b[1:], uint32(y.recvID))
			y.feed(b, abroad)
		}
		require.Empty(t, y.got, "nobody knows the key")
		require.Empty(t, y.wire.taken(), "no answer to what is not authentic")
	})
}

func TestDirectRefuses(t *testing.T) {
	x, y := sessionPair(t)
	other, _ := sessionPair(t)
	p := x.say(t, "one", "two", "three")
	y.feed(p[2], home)
	y.feed(p[0], home)
	require.Equal(t, []string{"three", "one"}, y.got, "reordered packets are taken")
	y.feed(p[0], home)
	y.feed(p[2], abroad)
	require.Equal(t, 2, y.refused(refusedReplay))
	for i := range p[1] {
		b := slices.Clone(p[1])
		b[i] ^= 1
		y.feed(b, abroad)
	}
	for i := range p[1] { // cut short
		y.feed(p[1][:i], abroad)
	}
	y.feed(other.say(t, "stranger")[0], abroad)
	x.feed(p[1], home) // a reflected packet: keys and session ID are per direction
	require.Empty(t, x.got)
	require.Equal(t, 1, x.refused(refusedSession))
	require.Equal(t, []string{"three", "one"}, y.got)
	require.Empty(t, y.wire.taken(), "no answer to what is not authentic")
	for _, r := range []refusal{refusedMalformed, refusedSession, refusedForged} {
		require.NotZero(t, y.refused(r), refusalNames[r])
	}
	y.feed(p[1], home)
	require.Equal(t, []string{"three", "one", "two"}, y.got, "garbage left no mark")
	require.EqualValues(t, 3, y.Stats().PacketsReceived)
	require.EqualValues(t, home.Port(), y.to.Port())
}

// An epoch's key is replaced on both sides without a message, also when packets overtake each other.
func TestDirectEpochs(t *testing.T) {
	testEpochs(t, directVersionLight)
	testEpochs(t, directVersionShort)
	x, y := testEpochs(t, directVersion)
	x.next = 3 << epochBits // a short number cannot say it
	y.feed(x.say(t, "far")[0], home)
	require.Equal(t, 1, y.refused(refusedEpoch))
	require.Len(t, y.got, 3)
}

func testEpochs(t *testing.T, version byte) (x, y *sessionEnd) {
	x, y = sessionPairOf(t, version)
	y.feed(x.say(t, "first")[0], home)
	x.next = 1<<epochBits - 1
	y.in.replay.mark(x.next - 1)
	p := x.say(t, "last", "next")
	y.feed(p[1], home)
	y.feed(p[0], home)
	require.Equal(t, []string{"first", "next", "last"}, y.got)
	keys := x.keys
	a, b := keys.slots[0], keys.slots[1]
	require.NotEqual(t, a.salt, b.salt)
	return x, y
}

func TestDirectExhausted(t *testing.T) {
	x, y := sessionPair(t)
	x.next = maxPacketNumber
	y.in.replay.mark(maxPacketNumber - 1)
	y.feed(x.say(t, "the very last")[0], home)
	require.Equal(t, []string{"the very last"}, y.got)
	require.ErrorIs(t, x.Send([]byte("no more")), ErrExhausted)
	require.ErrorIs(t, x.SendBatch([][]byte{{1}}), ErrExhausted)
}

func TestDirectBounds(t *testing.T) {
	x, y := sessionPair(t)
	require.ErrorIs(t, x.Send(make([]byte, safeDirectBytes+1)), ErrDatagramTooLarge)
	for range 3 * maxBatch { // batches leave when they are full
		require.NoError(t, x.Send(make([]byte, safeDirectBytes)))
	}
	require.NoError(t, x.Flush())
	p := x.wire.taken()
	require.Len(t, p, 3*maxBatch)
	require.Len(t, p[0], safeDirectBytes+directOverheadLight)
	require.LessOrEqual(t, cap(x.batch.buf), batchRoom)

	y.handler.Store(nil)
	for _, b := range x.say(t, slices.Repeat([]string{"wait"}, maxDirectQueue+5)...) {
		y.feed(b, home)
	}
	require.EqualValues(t, 5+0, y.Stats().ReceiveLost)
	require.LessOrEqual(t, len(y.queue.ring), maxDirectQueue)
	b, err := y.Receive(t.Context())
	require.NoError(t, err)
	require.Equal(t, "wait", string(b))
}

func TestDirectSocketFull(t *testing.T) {
	x, _ := sessionPair(t)
	x.wire.err = errSocketFull
	require.NoError(t, x.Send([]byte("a")))
	require.ErrorIs(t, x.Flush(), errSocketFull)
	x.wire.err = errors.New("no route")
	require.Error(t, x.SendBatch([][]byte{{1}, {2}}))
	require.EqualValues(t, 3, x.Stats().SendLost)
	require.Zero(t, x.Stats().PacketsSent)
	require.EqualValues(t, 1, value(x.metrics.unsent.WithLabelValues(reasonFull)))
	require.EqualValues(t, 2, value(x.metrics.unsent.WithLabelValues(reasonOther)))
	x.wire.err = nil
	require.Len(t, x.say(t, "b"), 1)
}

// RFC 9000 §9.3: who passes on a copy from elsewhere must not draw our media there.
func TestDirectPath(t *testing.T) {
	x, y := sessionPair(t)
	p := x.say(t, "1", "2", "3", "4")
	y.feed(p[1], home)
	y.feed(p[0], abroad)
	require.Empty(t, y.wire.taken(), "an old packet from elsewhere says nothing")
	y.feed(p[2], abroad)
	require.Equal(t, []netip.AddrPort{abroad}, y.wire.to, "one challenge")
	challenge := y.wire.taken()[0]
	require.Equal(t, byte(kindChallenge), challenge[0]&7)
	require.LessOrEqual(t, len(challenge), directOverhead+pathToken)
	y.feed(p[3], abroad)
	require.Empty(t, y.wire.taken(), "not one for every packet")
	y.say(t, "media")
	require.Equal(t, home, y.to, "media goes where it went")

	elsewhere := netip.MustParseAddrPort("192.0.2.3:1")
	x.feed(challenge, elsewhere)
	require.Equal(t, []netip.AddrPort{elsewhere}, x.wire.to, "the answer goes where the challenge came from")
	answer := x.wire.taken()[0]
	x.feed(challenge, elsewhere)
	require.Empty(t, x.wire.taken(), "a replayed challenge has no answer")
	require.Equal(t, home, x.to)

	y.feed(answer, elsewhere)
	require.Equal(t, home, y.to, "an answer from another address proves nothing")
	y.in.path.sent = y.in.path.sent.Add(-pathPause)
	y.feed(x.say(t, "again")[0], abroad)
	x.feed(y.wire.taken()[0], home)
	y.feed(x.wire.taken()[0], abroad)
	require.Equal(t, abroad, y.to)
	require.EqualValues(t, 1, y.Stats().Moved)
	require.Equal(t, []string{"2", "1", "3", "4", "again"}, y.got)
}

// The guard agrees with a plain set of what was seen.
func TestReplayGuard(t *testing.T) {
	for range 20 {
		var g replayGuard
		seen := make(map[uint64]bool)
		at, highest := rand.Uint64N(1<<47), uint64(0)
		for range 5000 {
			switch rand.IntN(100) {
			case 0:
				at += rand.Uint64N(3 * replayWindow)
			default:
				at += rand.Uint64N(3)
			}
			n := at - min(at, rand.Uint64N(20))
			if rand.IntN(50) == 0 {
				n = at - min(at, rand.Uint64N(2*replayWindow))
			}
			want := !seen[n] && (n > highest || highest-n < replayWindow || len(seen) == 0)
			require.Equal(t, want, g.fresh(n), "%d after %d", n, highest)
			if want {
				g.mark(n)
				seen[n] = true
				highest = max(highest, n)
			}
		}
	}
	require.GreaterOrEqual(t, replayWindow, 1024)
}

func TestBatchRuns(t *testing.T) {
	for _, tc := range []struct {
		sizes, want []int // want: packets of each run
	}{
		{[]int{100}, []int{1}},
		{[]int{100, 100, 100}, []int{3}},
		{[]int{100, 100, 40}, []int{3}},
		{[]int{100, 40, 100, 100}, []int{2, 2}},
		{[]int{40, 100, 100}, []int{1, 2}},
		{[]int{100, 40, 40}, []int{2, 1}},
	} {
		var b batch
		b.room()
		for _, s := range tc.sizes {
			b.buf = append(b.buf, make([]byte, s)...)
			b.grew(s)
		}
		var got []int
		end := 0
		for _, r := range b.runs {
			require.Equal(t, end, r.start)
			end = r.end
			got = append(got, r.packets())
		}
		require.Equal(t, len(b.buf), end)
		require.Equal(t, tc.want, got, "%v", tc.sizes)
	}
}

func TestDirectAllocs(t *testing.T) {
	x, y := sessionPair(t)
	ends := 0
	y.Handle(Handler{Each: func([]byte, time.Time) {}, End: func() { ends++ }})
	payload := make([]byte, 1150)
	buf := make([]byte, 0, 2048)
	x.batch.room()
	require.NoError(t, x.Send(payload))
	require.Zero(t, testing.AllocsPerRun(500, func() {
		x.mu.Lock()
		x.batch.reset()
		err := x.sealLocked(kindMedia, payload)
		buf = append(buf[:0], x.batch.buf...)
		x.mu.Unlock()
		if err != nil {
			t.Fatal(err)
		}
		y.ss.take(buf, home)
		y.ss.done()
	}))
	require.Equal(t, 501, ends)
}
