package ownership

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/meridian-sfu/meridian/internal/mesh"
)

// A mesh is written as words: ID@region, then flags: v voter, s staged, r staged and caught up, g gone for a while,
// G gone for good, d draining. Without v, s or r it is a live member and no server.
func parseMesh(t *testing.T, words string) choice {
	t.Helper()
	c := choice{self: "a", replaceAfter: time.Minute}
	for _, w := range strings.Fields(words) {
		name, flags, _ := strings.Cut(w, ":")
		id, region, ok := strings.Cut(name, "@")
		require.True(t, ok, w)
		s := server{id: mesh.NodeID(id), region: mesh.Region(region), draining: strings.Contains(flags, "d")}
		s.voter = strings.Contains(flags, "v")
		s.caughtUp = strings.Contains(flags, "r")
		if strings.Contains(flags, "g") {
			s.gone = time.Second
		}
		if strings.Contains(flags, "G") {
			s.gone = time.Hour
		}
		if s.gone == 0 {
			c.live = append(c.live, candidate{s.id, s.region, s.draining})
		}
		if strings.ContainsAny(flags, "vsr") {
			c.servers = append(c.servers, s)
		}
	}
	return c
}

func TestChooseVoters(t *testing.T) {
	for _, tc := range []struct{ name, mesh, want string }{
		{"alone", "a@1:v", "none "},
		{"two nodes keep one voter", "a@1:v b@2", "none "},
		{"three regions: stage", "a@1:v b@2 c@3", "stage b"},
		{"wait until both are staged", "a@1:v b@2:r c@3", "stage c"},
		{"wait until both caught up", "a@1:v b@2:r c@3:s", "none "},
		{"promote one", "a@1:v b@2:r c@3:r", "promote b"},
		{"promote the other", "a@1:v b@2:v c@3:r", "promote c"},
		{"done", "a@1:v b@2:v c@3:v", "none "},
		{"four regions keep three", "a@1:v b@2:v c@3:v d@4", "none "},
		{"five regions want five", "a@1:v b@2:v c@3:v d@4 e@5", "stage d"},
		{"seven regions keep five", "a@1:v b@2:v c@3:v d@4:v e@5:v f@6 g@7", "none "},
		{"one region fills three", "a@1:v b@1 c@1 d@1 e@1", "stage b"},
		{"two regions: the other first", "a@1:v b@1 c@1 d@2", "stage d"},
		{"an existing voter is preferred", "a@1:v x@2:v b@2 c@3:v", "none "},
		{"a short absence changes nothing", "a@1:v b@2:v c@3:vg d@3", "none "},
		{"a long one lets another in", "a@1:v b@2:v c@3:vG d@3", "stage d"},
		{"first the gone leaves", "a@1:v b@2:v c@3:vG d@3:r", "remove c"},
		{"then the other votes", "a@1:v b@2:v d@3:r", "promote d"},
		{"nobody takes the seat: keep it", "a@1:v b@2:v c@3:vG", "none "},
		{"two of five gone for good: shrink", "a@1:v b@2:v c@3:v d@4:vG e@5:vG", "remove d"},
		{"and on", "a@1:v b@2:v c@3:v e@5:vG", "remove e"},
		{"a better spread: successor first", "a@1:v b@1:v c@1:v d@2:r e@3:r", "promote d"},
		{"then one leaves", "a@1:v b@1:v c@1:v d@2:v e@3:v", "remove b"},
		{"a second leaves", "a@1:v c@1:v d@2:v e@3:v", "remove c"},
		{"a staged one that goes is dropped", "a@1:v b@2:sg c@3:r", "remove b"},
		{"a staged one not wanted is dropped", "a@1:v b@2:v c@3:v d@4:r", "remove d"},
		{"a draining node is no candidate", "a@1:v b@2:d c@3 d@3", "stage c"},
		{"a draining voter is replaced", "a@1:v b@2:vd c@3:v d@2", "stage d"},
		{"a draining voter without successor stays", "a@1:v b@2:vd c@3:v", "none "},
		{"a draining leader hands over", "a@1:vd b@2:v c@3:v d@1:v", "transfer b"},
		{"one of two live voters is not sent away", "a@1:v b@2:v", "none "},
	} {
		t.Run(tc.name, func(t *testing.T) {
			s := chooseVoters(parseMesh(t, tc.mesh))
			require.Equal(t, tc.want, fmt.Sprintf("%s %s", s.kind, s.node))
		})
	}
}

// Following the steps ends, never has more than five voters, never loses the majority of live ones, and what it ends in
// is stable.
func TestChooseVotersConverges(t *testing.T) {
	for _, words := range []string{
		"a@1:v b@2 c@3", "a@1:v b@2 c@3 d@4 e@5 f@5", "a@1:v b@1 c@1 d@1", "a@1:v b@1:v c@1:v d@2 e@3",
		"a@1:v b@2:v c@3:v d@4:v e@5:vG f@5", "a@1:v b@2:v c@3:vG d@3 e@3", "a@1:v b@2:v c@3:v d@4:vG e@5:vG",
		"a@1:v b@2:vd c@3:v d@2 e@3",
	} {
		t.Run(words, func(t *testing.T) {
			c := parseMesh(t, words)
			for n := 0; ; n++ {
				require.Less(t, n, 30, "no end")
				s := chooseVoters(c)
				i := slices.IndexFunc(c.servers, func(x server) bool { return x.id == s.node })
				switch s.kind {
				case stepStage:
					l := slices.IndexFunc(c.live, func(x candidate) bool { return x.id == s.node })
					c.servers = append(c.servers, server{id: s.node, region: c.live[l].region, caughtUp: true})
				case stepPromote:
					c.servers[i].voter = true
				case stepRemove:
					c.servers = slices.Delete(c.servers, i, i+1)
				default:
				}
				voters, live := 0, 0
				for _, x := range c.servers {
					if x.voter {
						voters++
						if x.gone == 0 {
							live++
						}
					}
				}
				require.LessOrEqual(t, voters, maxVoters)
				require.Greater(t, 2*live, voters)
				if s.kind == stepNone {
					require.Equal(t, 1, voters%2, "an odd number")
					return
				}
			}
		})
	}
}
