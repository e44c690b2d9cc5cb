package node

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/meridian-sfu/meridian/cascade"
)

func TestRateMeter(t *testing.T) {
	var m rateMeter
	link := func(out, in uint64) []cascade.LinkStatus {
		return []cascade.LinkStatus{{Peer: "b", Out: cascade.Traffic{VideoBytes: out}, In: cascade.Traffic{AudioBytes: in}}}
	}
	start := time.Now()
	m.look(start, 5000, link(1000, 10))
	require.Zero(t, m.total(), "one look tells no rate")
	m.look(start.Add(2*time.Second), 7000, link(2000, 110))
	require.Equal(t, bitrates{out: 4000, in: 400}, m.link("b"))
	require.EqualValues(t, 8000+4000, m.total())
	m.look(start.Add(4*time.Second), 7000, link(0, 0))
	require.Equal(t, bitrates{}, m.link("b"), "a link that began anew")
}
