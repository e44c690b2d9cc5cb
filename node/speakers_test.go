package node

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// Three microphones in a room where one is heard at once: those that do not speak cross no link and reach no client, and
// who begins to speak is heard at once, in the other region too; every client is told who speaks.
func TestOnlyWhoSpeaksIsHeard(t *testing.T) {
	nodes := startMesh(t, "us-east", "eu-west")
	for _, n := range nodes {
		n.cfg.Rooms.Speakers = 1
	}
	people := []*person{
		join(t, nodes[0], "debate", "alice", personOptions{}),
		join(t, nodes[0], "debate", "bob", personOptions{}),
		join(t, nodes[1], "debate", "chandra", personOptions{}),
	}
	alice, bob, chandra := people[0], people[1], people[2]
	chandra.gets(t, alice, bob)
	speaks := func(level map[*person]int32) {
		for p, l := range level {
			p.level.Store(l + 1)
		}
	}
	silent := func(to, from *person) func() bool {
		return func() bool {
			was := to.counter(from.name, "audio").Load()
			time.Sleep(500 * time.Millisecond)
			return to.counter(from.name, "audio").Load() == was
		}
	}
	shown := func(to *person, who ...*person) func() bool {
		return func() bool {
			var names []string
			for _, p := range to.ActiveSpeakers() {
				names = append(names, p.Identity())
			}
			var want []string
			for _, p := range who {
				want = append(want, p.name)
			}
			return len(names) == len(want) && (len(want) == 0 || names[0] == want[0])
		}
	}
	eventually := func(what string, f func() bool) {
		t.Helper()
		require.Eventually(t, f, 20*time.Second, 50*time.Millisecond, what)
	}
	speaks(map[*person]int32{alice: 30, bob: 90, chandra: 90})
	eventually("bob says nothing", silent(chandra, bob))
	eventually("nor on his own node", silent(alice, bob))
	for _, p := range people {
		eventually("alice is shown to "+p.name, shown(p, alice))
	}
	require.False(t, silent(chandra, alice)())

	speaks(map[*person]int32{alice: 90, bob: 30})
	eventually("alice falls silent", silent(chandra, alice))
	require.False(t, silent(chandra, bob)())
	for _, p := range people {
		eventually("bob is shown to "+p.name, shown(p, bob))
	}
	speaks(map[*person]int32{bob: 90})
	for _, p := range people {
		eventually("nobody is shown to "+p.name, shown(p))
	}
	alice.Disconnect()
	bob.Disconnect()
	chandra.Disconnect()
}
