package cascade

import (
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/meridian-sfu/meridian/internal/rtpstream"
)

// limitWatcher counts packets by encoding, and knows when it was told that others can come.
type limitWatcher struct {
	mu    sync.Mutex
	first [rtpstream.MaxEncodings]time.Time // packet since the count began
	told  atomic.Int64
}

func (w *limitWatcher) AvailableChanged() { w.told.Store(time.Now().UnixNano()) }

func (w *limitWatcher) WritePacket(p *rtpstream.Packet) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if e := p.Stream.Encoding; w.first[e].IsZero() {
		w.first[e] = time.Now()
	}
}

func (w *limitWatcher) begin() (when time.Time) {
	w.mu.Lock()
	defer w.mu.Unlock()
	clear(w.first[:])
	w.told.Store(0)
	return time.Now()
}

// A limit on the first hop reaches who watches behind the second one as fast as light, and the lower encoding with it:
// nobody there has to ask for it first.
func TestLimitThroughARelay(t *testing.T) {
	const hop = 20 * ms
	synctest.Test(t, func(t *testing.T) {
		h := newHub(hop)
		a, b, c := startStation(t, h, "a"), startStation(t, h, "b"), startStation(t, h, "c")
		cam := newCamera("TR_1", false, 3)
		a.offer("TR_1", cam.Source)
		rb := b.Remote(room, cam.mesh(), "a")
		defer rb.Close()
		b.deps.Relay = func(RelayRequest) (*rtpstream.Source, bool) { return rb.Media(), true }
		rc := c.Remote(room, cam.mesh(), "a")
		defer rc.Close()
		rc.PullFrom("b")
		w := new(limitWatcher)
		rc.Media().Subscribe(w).SetDemand(all(2))
		stop, stopped := make(chan struct{}), make(chan struct{})
		go func() { // 160, 480 and 960 kbit/s
			defer close(stopped)
			for {
				select {
				case <-stop:
					return
				case <-time.After(10 * ms):
				}
				for e, size := range []int{200, 600, 1200} {
					cam.size = size
					cam.write(uint8(e), keyframe)
				}
			}
		}()
		time.Sleep(5 * time.Second)
		require.Equal(t, all(2), cam.Demand())
		require.Equal(t, rtpstream.AllEncodings, rc.Media().Available())

		a.Cascade.mu.Lock()
		l := a.peers["b"].link
		a.Cascade.mu.Unlock()
		began := w.begin()
		l.tx.mu.Lock()
		l.tx.rate.ctl.confine(900e3, l.c.now())
		l.tx.mu.Unlock()
		l.replan.Store(true)
		l.tx.wake()
		time.Sleep(2*hop + 30*ms)
		require.EqualValues(t, 0b011, rc.Media().Available(), "the far side knows")
		require.LessOrEqual(t, time.Duration(w.told.Load()-began.UnixNano()), 2*hop+5*ms)
		require.Positive(t, rc.Media().Stream(1).Stats().Packets, "and has what stands in")
		require.Equal(t, 1, a.status(t, "b").Withheld)
		require.Zero(t, b.status(t, "c").Withheld, "it is the first hop that withholds")
		time.Sleep(time.Second)
		require.Equal(t, all(1).Encodings, cam.Demand().Encodings, "nothing is produced for nobody")
		require.EqualValues(t, 0b011, rc.Media().Available())
		require.LessOrEqual(t, time.Duration(w.told.Load()-began.UnixNano()), 2*hop+5*ms, "told once, and not taken back")

		began = w.begin()
		rc.PullFrom("a") // which has room
		time.Sleep(time.Second)
		require.Equal(t, rtpstream.AllEncodings, rc.Media().Available())
		w.mu.Lock()
		require.Less(t, w.first[2].Sub(began), 200*ms)
		require.False(t, w.first[2].IsZero())
		w.mu.Unlock()
		close(stop)
		<-stopped
	})
}
