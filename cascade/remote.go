package cascade

import (
	"sync"

	"github.com/meridian-sfu/meridian/internal/mesh"
	"github.com/meridian-sfu/meridian/internal/rtpstream"
)

// RemoteSource is a handle on a source that another node produces. All handles on one source share its media.
type RemoteSource struct {
	pull *pull
	once sync.Once
}

// Remote returns a handle on a source produced at another node. Nothing crosses until someone subscribes to its media
// with a demand. The flow is opened then, closed Config.Linger after the last demand ended, opened again when needed,
// and re-established by itself while demand lasts: at once when a link fails, with a back-off of 100 ms to 2 s when
// that does not succeed, every 2 s when the origin does not have the source. The caller closes the handle.
func (c *Cascade) Remote(room mesh.RoomName, src mesh.Source, origin mesh.NodeID) *RemoteSource {
	c.mu.Lock()
	defer c.mu.Unlock()
	p := c.peerLocked(origin)
	key := pullKey{room, src.ID}
	pl, ok := p.pulls[key]
	if !ok {
		pl = newPull(p, key, src)
		p.pulls[key] = pl
		c.byMedia[pl.media] = pl
	}
	pl.refs++
	return &RemoteSource{pull: pl}
}

// Media is the source as it arrives here: subscribe to it. It is closed with the last handle.
func (r *RemoteSource) Media() *rtpstream.Source { return r.pull.media }

// Close gives the handle back. The last one ends the flow and every subscription at once. It is idempotent.
func (r *RemoteSource) Close() {
	r.once.Do(func() {
		pl := r.pull
		pl.peer.c.mu.Lock()
		pl.refs--
		pl.peer.c.mu.Unlock()
		pl.peer.signal()
	})
}
