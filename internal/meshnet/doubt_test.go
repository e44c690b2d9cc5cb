package meshnet

import (
	"io"
	"net/netip"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/meridian-sfu/meridian/internal/mesh"
	"github.com/meridian-sfu/meridian/internal/testnet"
)

// A path was dead for six seconds: QUIC tries again after ever longer pauses, who doubts the peer dials anew at once.
func TestDoubtDialsAnew(t *testing.T) {
	for name, doubted := range map[string]bool{"doubted": true, "not": false} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				ca := testCA(t) // of the virtual time
				sw := testnet.NewSwitch(1)
				t.Cleanup(func() { _ = sw.Close() })
				require.NoError(t, sw.SetDefault(testnet.Link{Delay: 50 * time.Millisecond}))
				addrs := map[mesh.NodeID]netip.AddrPort{
					"a": netip.MustParseAddrPort("10.0.0.1:7700"), "b": netip.MustParseAddrPort("10.0.0.2:7700"),
				}
				nodes := map[mesh.NodeID]*Network{}
				for id, addr := range addrs {
					pc, err := sw.Listen(addr)
					require.NoError(t, err)
					nodes[id] = runNetOn(t, testConfig(), testIdentity(t, ca, id), pc, func(n *Network) {
						n.SetResolver(resolver(addrs))
						n.HandleService("echo", func(_ mesh.NodeID, s *Stream) {
							defer func() { _ = s.Close() }()
							_, _ = io.Copy(s, s)
						})
					})
				}
				a := nodes["a"]
				echo := func() time.Duration {
					began := time.Now()
					s, err := a.OpenService(t.Context(), "b", "echo")
					require.NoError(t, err)
					_, err = s.Write([]byte{1})
					require.NoError(t, err)
					_, err = io.ReadFull(s, make([]byte, 1))
					require.NoError(t, err)
					s.Reset(0)
					return time.Since(began)
				}
				echo()
				require.Equal(t, 100*time.Millisecond, echo())
				one, two := addrs["a"].Addr(), addrs["b"].Addr()
				sw.Block(one, two)
				sw.Block(two, one)
				s, err := a.OpenService(t.Context(), "b", "echo") // something QUIC tries to bring over all the time
				require.NoError(t, err)
				defer s.Reset(0)
				time.Sleep(6 * time.Second)
				if doubted {
					a.Doubt("b")
				}
				sw.Heal()
				took := echo()
				if !doubted {
					require.Equal(t, 1, dialled(a, ALPNControl))
					return
				}
				require.LessOrEqual(t, took, 310*time.Millisecond, "a handshake, and there and back")
				require.Equal(t, 2, dialled(a, ALPNControl))
				require.Equal(t, 100*time.Millisecond, echo(), "and the new one is kept")
				time.Sleep(5 * time.Second)
				a.Doubt("b")
				time.Sleep(5 * time.Second) // keep-alives are heard
				require.Equal(t, 100*time.Millisecond, echo(), "what is heard again is trusted again")
				require.Equal(t, 2, dialled(a, ALPNControl))
				a.Doubt("c") // nobody
			})
		})
	}
}
