package node

import (
	"context"
	"encoding/json"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/livekit/protocol/livekit"
	lksdk "github.com/livekit/server-sdk-go/v2"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"

	"github.com/meridian-sfu/meridian/internal/mesh"
	"github.com/meridian-sfu/meridian/internal/meshnet"
	"github.com/meridian-sfu/meridian/node/api"
)

// One call, one participant in each of three regions, stock SDKs in both peer-connection modes.
func TestCallAcrossRegions(t *testing.T) {
	nodes := startMesh(t, "us-east", "eu-west", "ap-south")
	alice := join(t, nodes[0], "standup", "alice", personOptions{})
	bob := join(t, nodes[1], "standup", "bob", personOptions{single: true})
	chandra := join(t, nodes[2], "standup", "chandra", personOptions{})
	alice.gets(t, bob, chandra)
	bob.gets(t, alice, chandra)
	chandra.gets(t, alice, bob)

	t.Run("every node knows the same owner and everybody", func(t *testing.T) {
		var owner mesh.NodeID
		for _, n := range nodes {
			var rooms []api.RoomStatus
			require.Eventually(t, func() bool {
				rooms = n.status(context.Background()).Rooms
				return len(rooms) == 1 && !rooms[0].Provisional && len(rooms[0].Participants) == 3
			}, 10*time.Second, 20*time.Millisecond)
			if owner == "" {
				owner = rooms[0].Owner
			}
			require.Equal(t, owner, rooms[0].Owner)
			require.NotZero(t, rooms[0].Epoch)
		}
	})

	t.Run("one copy a link, however many watch", func(t *testing.T) {
		dora := join(t, nodes[1], "standup", "dora", personOptions{silent: true})
		dora.gets(t, alice, chandra)
		for _, l := range nodes[0].cascade.Links() {
			seen := map[string]int{}
			for _, f := range l.Flows {
				seen[string(f.Source)+f.Direction]++
			}
			for flow, copies := range seen {
				require.Equal(t, 1, copies, flow)
			}
		}
		dora.Disconnect()
	})

	t.Run("data to everyone and to one", func(t *testing.T) {
		require.NoError(t, alice.LocalParticipant.PublishDataPacket(lksdk.UserData([]byte("hello")), lksdk.WithDataPublishReliable(true)))
		require.NoError(t, alice.LocalParticipant.PublishDataPacket(lksdk.UserData([]byte("psst")), lksdk.WithDataPublishReliable(true),
			lksdk.WithDataPublishDestination([]string{"chandra"})))
		require.Eventually(t, func() bool { return len(chandra.messages()) == 2 && len(bob.messages()) == 1 }, 10*time.Second, 10*time.Millisecond)
		require.Equal(t, []string{"alice: hello", "alice: psst"}, chandra.messages())
		require.Equal(t, []string{"alice: hello"}, bob.messages())
		require.Eventually(t, func() bool {
			_ = bob.LocalParticipant.PublishDataPacket(lksdk.UserData([]byte("lossy")), lksdk.WithDataPublishReliable(false))
			return slices.Contains(alice.messages(), "bob: lossy")
		}, 10*time.Second, 50*time.Millisecond)
	})

	t.Run("who leaves is gone everywhere", func(t *testing.T) {
		chandra.Disconnect()
		for _, p := range []*person{alice, bob} {
			require.Eventually(t, func() bool { return len(p.GetRemoteParticipants()) == 1 }, 10*time.Second, 10*time.Millisecond)
		}
		alice.gets(t, bob)
	})
}

// Only what is watched crosses: flows come with the first watcher and go with the last.
func TestFlowsFollowWatchers(t *testing.T) {
	nodes := startMesh(t, "us-east", "eu-west")
	alice := join(t, nodes[0], "quiet", "alice", personOptions{})
	bob := join(t, nodes[1], "quiet", "bob", personOptions{silent: true, manual: true})
	require.Eventually(t, func() bool {
		p := bob.GetParticipantByIdentity("alice")
		return p != nil && len(p.TrackPublications()) == 2
	}, 10*time.Second, 10*time.Millisecond)
	require.Zero(t, flows(nodes[0]), "nobody watches, so nothing crosses")

	subscribe := func(want bool) {
		for _, pub := range bob.GetParticipantByIdentity("alice").TrackPublications() {
			require.NoError(t, pub.(*lksdk.RemoteTrackPublication).SetSubscribed(want))
		}
	}
	subscribe(true)
	bob.gets(t, alice)
	require.Equal(t, 2, flows(nodes[0]))
	subscribe(false)
	require.Eventually(t, func() bool { return flows(nodes[0]) == 0 }, 10*time.Second, 20*time.Millisecond)
	subscribe(true)
	bob.gets(t, alice)
}

// The publisher's own node knows what the whole mesh wants, and its client is told: nothing while everybody hides it, whatever
// region they are in, and something again with the first who shows it.
func TestPublisherLearnsWhatOtherRegionsWant(t *testing.T) {
	nodes := startMesh(t, "us-east", "eu-west", "ap-south")
	alice := join(t, nodes[0], "hidden", "alice", personOptions{})
	bob := join(t, nodes[1], "hidden", "bob", personOptions{silent: true})
	chandra := join(t, nodes[2], "hidden", "chandra", personOptions{silent: true})
	bob.gets(t, alice)
	chandra.gets(t, alice)
	camera := alice.LocalParticipant.GetTrackPublication(livekit.TrackSource_CAMERA).SID()
	wanted := func(want bool) func() bool {
		return func() bool {
			return (nodes[0].localMedia(mesh.SourceID(camera)).Demand().Encodings != 0) == want
		}
	}
	show := func(p *person, on bool) {
		for _, pub := range p.GetParticipantByIdentity("alice").TrackPublications() {
			if pub.Kind() == lksdk.TrackKindVideo {
				pub.(*lksdk.RemoteTrackPublication).SetEnabled(on)
			}
		}
	}
	require.True(t, wanted(true)())
	show(bob, false)
	time.Sleep(2 * time.Second) // longer than a flow lingers
	require.True(t, wanted(true)(), "the other region watches")
	show(chandra, false)
	require.Eventually(t, wanted(false), 10*time.Second, 20*time.Millisecond, "nobody does")
	require.Eventually(t, func() bool {
		was := chandra.counter("alice", "video").Load()
		time.Sleep(200 * time.Millisecond)
		return chandra.counter("alice", "video").Load() == was
	}, 10*time.Second, time.Millisecond)
	show(bob, true)
	require.Eventually(t, wanted(true), 10*time.Second, 20*time.Millisecond)
	bob.gets(t, alice)
}

func flows(n *testNode) int {
	total := 0
	for _, l := range n.cascade.Links() {
		total += len(l.Flows)
	}
	return total
}

// The owner leaves the mesh: media goes on, another owner is found, and new participants can join.
func TestOwnerLeaves(t *testing.T) {
	nodes := startMesh(t, "us-east", "eu-west", "ap-south")
	carol := join(t, nodes[0], "board", "carol", personOptions{silent: true}) // first in: its node owns the room
	require.Eventually(t, func() bool {
		e, ok := nodes[1].ownership.Lookup("board")
		return ok && e.Owner == nodes[0].cfg.ID
	}, 10*time.Second, 10*time.Millisecond)
	alice := join(t, nodes[1], "board", "alice", personOptions{})
	bob := join(t, nodes[2], "board", "bob", personOptions{})
	alice.gets(t, bob)
	bob.gets(t, alice)
	carol.Disconnect()
	nodes[0].stop()
	alice.gets(t, bob)
	require.Eventually(t, func() bool {
		e, ok := nodes[1].ownership.Lookup("board")
		return ok && e.Owner != nodes[0].cfg.ID
	}, 20*time.Second, 20*time.Millisecond)
	dora := join(t, nodes[1], "board", "dora", personOptions{})
	dora.gets(t, alice, bob)
	bob.gets(t, dora)
}

// A second join under the same identity wins, wherever it comes from.
func TestSameIdentityTwice(t *testing.T) {
	nodes := startMesh(t, "us-east", "eu-west")
	first := join(t, nodes[0], "twice", "alice", personOptions{})
	watcher := join(t, nodes[1], "twice", "bob", personOptions{silent: true})
	watcher.gets(t, first)
	second := join(t, nodes[1], "twice", "alice", personOptions{})
	select {
	case reason := <-first.left:
		require.Equal(t, lksdk.DuplicateIdentity, reason)
	case <-time.After(10 * time.Second):
		t.Fatal("the first of the two was not told to leave")
	}
	watcher.gets(t, second)
	require.Len(t, watcher.GetRemoteParticipants(), 1)
}

// The server API works at any node for any room.
func TestModerationFromAnotherNode(t *testing.T) {
	nodes := startMesh(t, "us-east", "eu-west")
	alice := join(t, nodes[0], "panel", "alice", personOptions{})
	bob := join(t, nodes[1], "panel", "bob", personOptions{silent: true})
	bob.gets(t, alice)
	client := lksdk.NewRoomServiceClient(nodes[1].http(), testKey, testSecret)
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()

	list, err := client.ListParticipants(ctx, &livekit.ListParticipantsRequest{Room: "panel"})
	require.NoError(t, err)
	require.Len(t, list.Participants, 2)

	_, err = client.UpdateRoomMetadata(ctx, &livekit.UpdateRoomMetadataRequest{Room: "panel", Metadata: "agenda"})
	require.NoError(t, err)
	require.Eventually(t, func() bool { return alice.Metadata() == "agenda" && bob.Metadata() == "agenda" }, 10*time.Second, 10*time.Millisecond)

	_, err = client.RemoveParticipant(ctx, &livekit.RoomParticipantIdentity{Room: "panel", Identity: "alice"})
	require.NoError(t, err)
	select {
	case reason := <-alice.left:
		require.Equal(t, lksdk.ParticipantRemoved, reason)
	case <-time.After(10 * time.Second):
		t.Fatal("alice was not removed")
	}
	_, err = client.DeleteRoom(ctx, &livekit.DeleteRoomRequest{Room: "panel"})
	require.NoError(t, err)
	select {
	case reason := <-bob.left:
		require.Equal(t, lksdk.OtherReason, reason) // the SDK has no name of its own for "deleted"
	case <-time.After(10 * time.Second):
		t.Fatal("the room was not ended")
	}
	require.Eventually(t, func() bool { return len(nodes[0].ownership.Entries()) == 0 }, 10*time.Second, 10*time.Millisecond,
		"a room that ended gives its entry back")
}

// What a page or an operator asks over HTTP.
func TestHTTPDoor(t *testing.T) {
	nodes := startMesh(t, "us-east", "ap-south")
	get := func(path string) (*http.Response, map[string]any) {
		res, err := http.Get(nodes[0].http() + path)
		require.NoError(t, err)
		defer res.Body.Close()
		var body map[string]any
		_ = json.NewDecoder(res.Body).Decode(&body)
		return res, body
	}
	_, near := get("/v1/edges?client_ip=49.36.1.1") // Mumbai
	require.Equal(t, "ap-south", near["edges"].([]any)[0].(map[string]any)["region"])
	res, _ := get("/rtc/v1/validate")
	require.Equal(t, http.StatusUnauthorized, res.StatusCode)
	res, _ = get("/")
	require.Equal(t, http.StatusOK, res.StatusCode)
	res, _ = get("/readyz")
	require.Equal(t, http.StatusOK, res.StatusCode)
	metrics, err := http.Get(nodes[0].http() + "/metrics")
	require.NoError(t, err)
	defer metrics.Body.Close()
	var text strings.Builder
	_, err = copyBody(&text, metrics)
	require.NoError(t, err)
	for _, room := range []string{"gossip", "ownership", "cascade", "directory", "sfm", "signal", "api", "meshnet", "node"} {
		require.Contains(t, text.String(), "meridian_"+room+"_", "no metrics of %s", room)
	}
}

// A configuration that cannot work is refused at once, by name.
func TestNewRefuses(t *testing.T) {
	ca, err := meshnet.NewCA("test mesh", time.Hour)
	require.NoError(t, err)
	dir := t.TempDir()
	require.NoError(t, ca.Save(dir))
	good := testConfig(t, ca, dir, "us-east", "us-east")
	good.Mesh.Bootstrap = true
	other := testConfig(t, ca, dir, "eu-west", "eu-west")
	running := runNode(t, good)

	for name, tc := range map[string]struct {
		change func(*Config)
		want   string
	}{
		"http port in use":       {func(c *Config) { c.HTTP.Listen = running.cfg.HTTP.Listen }, "http.listen"},
		"mesh port in use":       {func(c *Config) { c.Mesh.Listen = running.cfg.Mesh.Listen }, "mesh.listen"},
		"certificate of another": {func(c *Config) { c.Mesh.CertFile, c.Mesh.KeyFile = good.Mesh.CertFile, good.Mesh.KeyFile }, "certificate of node"},
		"no certificate":         {func(c *Config) { c.Mesh.CertFile = "/nonexistent.crt" }, "/nonexistent.crt"},
		"no geo database":        {func(c *Config) { c.Geo.Database = "/nonexistent.mmdb" }, "/nonexistent.mmdb"},
		"no keys":                {func(c *Config) { c.Keys = nil }, "keys"},
	} {
		t.Run(name, func(t *testing.T) {
			cfg := other
			cfg.Mesh.Bootstrap = true
			tc.change(&cfg)
			_, err := New(cfg, testLogger(t, name), prometheus.NewRegistry())
			require.ErrorContains(t, err, tc.want)
		})
	}
	// None of the refusals kept a port: the right configuration works now.
	other.Mesh.Seeds = []string{running.cfg.Mesh.Listen.String()}
	runNode(t, other)
}
