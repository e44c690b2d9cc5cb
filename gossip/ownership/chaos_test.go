package ownership

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/meridian-sfu/meridian/internal/mesh"
)

// ledger is what callers were told, checked against real time: an answer is never older than one that was there before
// the question was asked.
type ledger struct {
	mu      sync.Mutex
	byEpoch map[uint64]Entry
	newest  map[mesh.RoomName]uint64
	wrong   []string
	ok      int
}

func (l *ledger) before(room mesh.RoomName) uint64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.newest[room]
}

func (l *ledger) note(e Entry, floor uint64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.ok++
	if e.Epoch < floor {
		l.wrong = append(l.wrong, fmt.Sprintf("%v answered after epoch %d was known", e, floor))
	}
	if other, ok := l.byEpoch[e.Epoch]; ok && other != e {
		l.wrong = append(l.wrong, fmt.Sprintf("%v and %v", e, other))
	}
	l.byEpoch[e.Epoch] = e
	l.newest[e.Room] = max(l.newest[e.Room], e.Epoch)
}

// Design §6: no two owners hold a room at one epoch, under partitions and leaders that come and go.
func TestEpochsUnderPartitions(t *testing.T) {
	for _, seed := range []uint64{1, 2} {
		t.Run(fmt.Sprintf("seed=%d", seed), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) { chaos(t, seed) })
		})
	}
}

func chaos(t *testing.T, seed uint64) {
	rng := rand.New(rand.NewPCG(seed, 0))
	m, dir := newMemMesh(), t.TempDir()
	nodes := three(t, m, dir)
	for _, id := range []mesh.NodeID{"d", "e"} {
		nodes = append(nodes, start(t, m, id, mesh.Region("r"+id), dir))
	}
	for _, n := range nodes {
		eventually(t, "five voters", func() bool { return len(n.Status().Voters) == 5 && n.isAttached() })
	}
	nodes = append(nodes, start(t, m, "w", "us", dir))

	l := &ledger{byEpoch: make(map[uint64]Entry), newest: make(map[mesh.RoomName]uint64)}
	ctx, stop := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	for i, n := range nodes {
		wg.Go(func() { act(ctx, n, rand.New(rand.NewPCG(seed, uint64(i)+1)), l) })
	}
	for range 4 {
		time.Sleep(time.Duration(rng.IntN(3000)) * time.Millisecond)
		if rng.IntN(3) == 0 {
			leader, _ := leaderOf(t, nodes)
			m.split(1, leader.id)
		} else {
			for _, n := range nodes {
				m.split(rng.IntN(2), n.id)
			}
		}
		time.Sleep(time.Duration(rng.IntN(4000)) * time.Millisecond)
		for _, n := range nodes {
			m.split(0, n.id)
		}
	}
	time.Sleep(5 * time.Second)
	stop()
	wg.Wait()
	_, _, err := nodes[0].Claim(ctx10(t), "last", "RM_last", "a", time.Now(), "")
	require.NoError(t, err)
	eventually(t, "all views are equal", func() bool {
		want := nodes[0].Entries() // it follows too: what it shows when the claim returns need not be all
		_, last := nodes[0].Lookup("last")
		return last && !slices.ContainsFunc(nodes, func(n *testNode) bool { return !slices.Equal(want, n.Entries()) })
	})
	require.Empty(t, l.wrong)
	require.Greater(t, l.ok, 20, "something was done")
	checkHistories(t, nodes...)
	for _, n := range nodes {
		n.hist.mu.Lock()
		for epoch, e := range n.hist.byEpoch {
			if told, ok := l.byEpoch[epoch]; ok {
				require.Equal(t, told, e)
			}
		}
		n.hist.mu.Unlock()
	}
}

// act claims, moves and releases a few rooms until ctx ends.
func act(ctx context.Context, n *testNode, rng *rand.Rand, l *ledger) {
	for i := 0; ctx.Err() == nil; i++ {
		time.Sleep(time.Duration(rng.IntN(1500)) * time.Millisecond)
		room := mesh.RoomName(fmt.Sprintf("room-%d", rng.IntN(4)))
		floor := l.before(room)
		call, cancel := context.WithTimeout(ctx, 2*time.Second)
		e, _, err := n.Claim(call, room, mesh.RoomID(fmt.Sprintf("RM_%s%d", n.id, i)), n.id, time.Now(), "")
		cancel()
		if err != nil {
			continue
		}
		l.note(e, floor)
		time.Sleep(time.Duration(rng.IntN(200)) * time.Millisecond)
		call, cancel = context.WithTimeout(ctx, 2*time.Second)
		if rng.IntN(2) == 0 {
			err = n.Release(call, room, e.Epoch)
		} else {
			var next Entry
			if next, err = n.Reassign(call, room, e.Epoch, n.id); err == nil {
				l.note(next, e.Epoch)
			}
		}
		cancel()
		if err != nil && !errors.Is(err, ErrStaleEpoch) && !errors.Is(err, ErrOwnerAlive) && !errors.Is(err, ErrNoLeader) {
			l.mu.Lock()
			l.wrong = append(l.wrong, err.Error())
			l.mu.Unlock()
		}
	}
}
