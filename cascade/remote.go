package cascade

import (
	"cmp"
	"maps"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/meridian-sfu/meridian/internal/mesh"
	"github.com/meridian-sfu/meridian/internal/meshpb/cascadepb"
	"github.com/meridian-sfu/meridian/internal/rtpstream"
)

// RemoteSource is a handle on a source that another node produces. All handles on one source share its media, and the
// node it is pulled from.
type RemoteSource struct {
	remote *remote
	once   sync.Once
}

// Remote returns a handle on a source produced at another node. It is pulled from there until PullFrom says otherwise.
// Nothing crosses until someone subscribes to its media with a demand. The flow is opened then, closed Config.Linger
// after the last demand ended, opened again when needed, and re-established by itself while demand lasts: at once when
// a link fails, with a back-off of 100 ms to 2 s when that does not succeed, every 2 s when the node does not have the
// source. The caller closes the handle.
func (c *Cascade) Remote(room mesh.RoomName, src mesh.Source, origin mesh.NodeID) *RemoteSource {
	c.mu.Lock()
	defer c.mu.Unlock()
	r, ok := c.remotes[remoteKey{pullKey{room, src.ID}, origin}]
	if !ok {
		r = newRemoteLocked(c, pullKey{room, src.ID}, src, origin)
	}
	r.refs++
	return &RemoteSource{remote: r}
}

// Media is the source as it arrives here: subscribe to it. It is closed with the last handle.
func (r *RemoteSource) Media() *rtpstream.Source { return r.remote.media }

// PullFrom changes the node the source is pulled from, the origin or one that relays it, without a gap where the way
// so far still works: it is given up after the new one has carried packets for a while. Its packets that come twice
// are dropped.
func (r *RemoteSource) PullFrom(node mesh.NodeID) { r.remote.pullFrom(node) }

// Beside names a node from which the source is pulled as well as from the one of PullFrom: always, or only while the
// way from there is in doubt, for which a flow without demand is held open. "" is none. PullFrom to that node then costs
// no gap. It has no effect while it is the node the source is pulled from anyway.
func (r *RemoteSource) Beside(node mesh.NodeID, always bool) { r.remote.beside(node, always) }

// RemoteStatus is how a source of another node comes here.
type RemoteStatus struct {
	From     mesh.NodeID   // where it is pulled from, or about to be
	Flowing  bool          // packets have come since that flow was opened
	Refusals int           // by that node since it last accepted
	To       []mesh.NodeID // further nodes that pull it from here

	Beside         mesh.NodeID   // from where it is pulled as well, or about to be when that is called for; "" is nowhere
	BesideRefusals int           // by that node since it last accepted
	Waiting        []mesh.NodeID // further nodes that hold a flow open from here without demand
}

// Status tells how the source comes here.
func (r *RemoteSource) Status() RemoteStatus {
	c := r.remote.c
	c.mu.Lock()
	defer c.mu.Unlock()
	via := r.remote.via
	s := RemoteStatus{From: via.peer.id, Flowing: via.flowing.Load(), Refusals: int(via.refusals.Load())}
	if spare := r.remote.spare; spare != nil {
		s.Beside, s.BesideRefusals = spare.peer.id, int(spare.refusals.Load())
	}
	for f := range r.remote.down {
		if f.waits() {
			s.Waiting = append(s.Waiting, f.link.peer.id)
			continue
		}
		s.To = append(s.To, f.link.peer.id)
	}
	return s
}

// Shed refuses the source to every node that pulls it from here, when it cannot come here any more: they go elsewhere.
func (r *RemoteSource) Shed() {
	c := r.remote.c
	c.mu.Lock()
	flows := slices.Collect(maps.Keys(r.remote.down))
	c.mu.Unlock()
	for _, f := range flows {
		if f.link.endFlow(f.id) {
			f.link.refuse(f.id, cascadepb.RefuseReason_REFUSE_REASON_UNKNOWN_SOURCE)
		}
	}
}

// Close gives the handle back. The last one ends the flow and every subscription at once. It is idempotent.
func (r *RemoteSource) Close() { r.once.Do(r.remote.release) }

// remoteKey names a source of another node. The origin is part of it so that a node that names a wrong one harms itself.
type remoteKey struct {
	pullKey
	origin mesh.NodeID
}

// remote is a source of another node as this node has it: one media, however it comes. It comes by one pull, for the
// moment of a switch by two, and by a spare one that waits for the first to fail or always runs beside it.
type remote struct {
	c      *Cascade
	key    pullKey
	origin mesh.NodeID
	media  *rtpstream.Source

	came    atomic.Bool // packets, at any time
	writeMu sync.Mutex  // one writer to a stream at a time, also while a link or a pull replaces another
	limitMu sync.Mutex  // keeps what can come and who is told of it in one order

	// Guarded by Cascade.mu.
	refs    int                    // handles
	via     *pull                  // how it comes
	old     *pull                  // how it came before, until via has settled; or nil
	changes uint64                 // of via
	spare   *pull                  // how it comes as well; or nil
	spareAt mesh.NodeID            // where from; "" is nowhere
	always  bool                   // spare does not wait for via to fail
	down    map[*sendFlow]struct{} // flows that carry the media on to further nodes
}

var _ rtpstream.Feedback = (*remote)(nil)

func newRemoteLocked(c *Cascade, key pullKey, src mesh.Source, origin mesh.NodeID) *remote {
	r := &remote{c: c, key: key, origin: origin, down: make(map[*sendFlow]struct{})}
	r.media = rtpstream.NewSource(rtpstream.SourceInfo{
		ID: string(src.ID), Audio: src.Kind == mesh.Audio, MIMEType: src.MIMEType, ClockRate: src.ClockRate,
		Encodings: len(src.Encodings), DependencyDescriptor: dependencyDescriptor(src),
	}, r)
	r.via = r.newPullLocked(origin)
	c.remotes[remoteKey{key, origin}] = r
	c.byMedia[r.media] = r
	return r
}

func (r *remote) newPullLocked(from mesh.NodeID) *pull {
	p := r.c.peerLocked(from)
	pl := &pull{peer: p, remote: r, key: r.key, audio: r.media.Info.Audio, media: r.media}
	p.pulls[pl] = struct{}{}
	return pl
}

// RequestKeyframe notes the wish; the peer's goroutine sends it, unless one is under way.
func (r *remote) RequestKeyframe(encoding uint8, why rtpstream.KeyframeReason) {
	if encoding >= rtpstream.MaxEncodings || r.media.Info.Audio {
		return
	}
	for _, pl := range r.pulls() {
		pl.want(encoding, why)
		pl.peer.signal()
	}
}

// DemandChanged wakes the peers' goroutines, which read the demand.
func (r *remote) DemandChanged() {
	for _, pl := range r.pulls() {
		pl.peer.signal()
	}
}

func (r *remote) pulls() []*pull {
	r.c.mu.Lock()
	defer r.c.mu.Unlock()
	all := []*pull{r.via}
	for _, pl := range []*pull{r.old, r.spare} {
		if pl != nil {
			all = append(all, pl)
		}
	}
	return all
}

func (r *remote) pullFrom(node mesh.NodeID) {
	c := r.c
	c.mu.Lock()
	if r.refs == 0 || r.via.peer.id == node || node == c.self {
		c.mu.Unlock()
		return
	}
	last, before, beside := r.via, r.old, r.spare
	switch {
	case r.old != nil && r.old.peer.id == node:
		r.via = r.old // back before the switch was over
	case r.spare != nil && r.spare.peer.id == node:
		r.via, r.spare = r.spare, nil
	default:
		r.via = r.newPullLocked(node)
	}
	r.changes++
	if last.flowing.Load() || r.old == nil || r.old == r.via {
		r.old = last
	}
	r.spareLocked()
	via, spare := r.via, r.spare
	c.mu.Unlock()
	r.limits()
	signalAll(via, last, before, beside, spare)
}

// limits tells those who watch what can come the way that is in use.
func (r *remote) limits() {
	r.limitMu.Lock() // over what they are told, too: they get it in order, and only take note
	defer r.limitMu.Unlock()
	r.c.mu.Lock()
	withheld := rtpstream.EncodingSet(r.via.withheld.Load())
	r.c.mu.Unlock()
	r.media.SetAvailable(rtpstream.AllEncodings &^ withheld)
}

func (r *remote) beside(node mesh.NodeID, always bool) {
	c := r.c
	c.mu.Lock()
	if r.refs == 0 || node == c.self || (r.spareAt == node && r.always == always) {
		c.mu.Unlock()
		return
	}
	before := r.spare
	r.spareAt, r.always = node, always
	r.spareLocked()
	spare := r.spare
	c.mu.Unlock()
	signalAll(before, spare)
}

// spareLocked makes spare what spareAt says: none while the source is pulled from there anyway, or was until now.
// Cascade.mu is held.
func (r *remote) spareLocked() {
	if r.spare != nil && (r.spare.peer.id != r.spareAt || r.spare.peer == r.via.peer) {
		r.spare = nil
	}
	if r.spare == nil && r.spareAt != "" && r.spareAt != r.via.peer.id && (r.old == nil || r.old.peer.id != r.spareAt) {
		r.spare = r.newPullLocked(r.spareAt)
	}
}

// waitsLocked reports whether pl is a spare way whose time has not come. Cascade.mu is held.
func (r *remote) waitsLocked(pl *pull) bool {
	return r.spare == pl && !r.always && !r.via.failingLocked()
}

// twinLocked reports whether what pl misses comes another way all the time. Cascade.mu is held.
func (r *remote) twinLocked(pl *pull) bool {
	other := r.spare
	if pl == r.spare {
		other = r.via
	}
	return r.always && r.old == nil && other != nil && other.flowing.Load() && !other.failingLocked()
}

// flowChanged tells the ways beside pl that it flows, or does not any more.
func (r *remote) flowChanged(pl *pull) {
	for _, other := range r.pulls() {
		if other != pl {
			other.peer.signal()
		}
	}
}

func signalAll(pulls ...*pull) {
	for _, pl := range pulls {
		if pl != nil {
			pl.peer.signal()
		}
	}
}

// changeLocked is the change of ways that pl is the new way of, or 0 when it is not the new one of two. Cascade.mu is held.
func (r *remote) changeLocked(pl *pull) uint64 {
	if r.via != pl || r.old == nil {
		return 0
	}
	return r.changes
}

// seamless reports whether the source still comes by another way than pl, so that a decoder here misses nothing.
func (r *remote) seamless(pl *pull) bool {
	r.c.mu.Lock()
	defer r.c.mu.Unlock()
	return r.via == pl && r.old != nil && r.old.flowing.Load() && !r.old.failingLocked()
}

// settled ends the way before pl, unless there was another change meanwhile.
func (r *remote) settled(pl *pull, change uint64) {
	r.c.mu.Lock()
	var old *pull
	if r.changeLocked(pl) == change {
		old, r.old = r.old, nil
		if old != nil && old.peer.id == r.spareAt && r.spare == nil {
			r.spare = old
		}
	}
	r.c.mu.Unlock()
	if old != nil {
		old.peer.signal()
	}
}

func (r *remote) release() {
	c := r.c
	c.mu.Lock()
	r.refs--
	last := r.refs == 0
	via, old, spare := r.via, r.old, r.spare
	if last {
		delete(c.byMedia, r.media)
		delete(c.remotes, remoteKey{r.key, r.origin})
	}
	c.mu.Unlock()
	if !last {
		return
	}
	r.media.Close()
	signalAll(via, old, spare)
}

// usesLocked reports whether pl is still a way the source comes. Cascade.mu is held.
func (r *remote) usesLocked(pl *pull) bool {
	return r.refs > 0 && (pl == r.via || pl == r.old || pl == r.spare)
}

// reachLocked returns the nodes the media reaches through this node, this one first, and over how many links at most.
// Who waits is not reached yet.
// Cascade.mu is held.
func (r *remote) reachLocked() (path []mesh.NodeID, hops uint32) {
	if len(r.down) == 0 {
		return r.c.selfPath, 1
	}
	path = slices.Clone(r.c.selfPath)
	for f := range r.down {
		if f.waits() {
			continue
		}
		hops = max(hops, f.hops)
		for _, id := range f.path {
			if !slices.Contains(path, id) && len(path) < maxPath {
				path = append(path, id)
			}
		}
	}
	slices.SortFunc(path[1:], cmp.Compare[mesh.NodeID])
	return path, hops + 1
}

// comesThroughLocked reports whether one of nodes is where the source comes from. A spare way that only waits gives way.
// Cascade.mu is held.
func (r *remote) comesThroughLocked(nodes []mesh.NodeID) bool {
	if r.spare != nil && slices.Contains(nodes, r.spare.peer.id) {
		if !r.waitsLocked(r.spare) {
			return true
		}
		r.spare.peer.signal()
		r.spare, r.spareAt = nil, ""
	}
	return slices.Contains(nodes, r.via.peer.id) || (r.old != nil && slices.Contains(nodes, r.old.peer.id)) ||
		slices.Contains(nodes, r.origin)
}
