package rtpstream

import "sync"

// Cache keeps the last packets of a stream by extended sequence number, to answer NACKs (RFC 4585 §6.2.1).
// It is safe for concurrent use.
type Cache struct {
	mu    sync.Mutex
	slots []*Packet // guarded by mu; index ExtSeq mod len
}

// NewCache returns a cache of size packets, size a power of two.
func NewCache(size int) *Cache {
	if size <= 0 || size&(size-1) != 0 {
		panic("rtpstream: cache size is not a power of two")
	}
	return &Cache{slots: make([]*Packet, size)}
}

// Put keeps p, retaining it, in place of an older packet. It reports false, keeping nothing, when the same sequence
// number is there already (a duplicate) or a newer packet holds its place (too late to be of use).
func (c *Cache) Put(p *Packet) bool {
	c.mu.Lock()
	slot := &c.slots[p.ExtSeq&uint64(len(c.slots)-1)]
	old := *slot
	if old != nil && old.ExtSeq >= p.ExtSeq {
		c.mu.Unlock()
		return false
	}
	*slot = p.Retain()
	c.mu.Unlock()
	if old != nil {
		old.Release()
	}
	return true
}

// Get returns the packet with the given extended sequence number, retained for the caller, or nil.
func (c *Cache) Get(extSeq uint64) *Packet {
	c.mu.Lock()
	defer c.mu.Unlock()
	p := c.slots[extSeq&uint64(len(c.slots)-1)]
	if p == nil || p.ExtSeq != extSeq {
		return nil
	}
	return p.Retain()
}

// Clear releases every packet.
func (c *Cache) Clear() {
	c.mu.Lock()
	defer c.mu.Unlock()
	for i, p := range c.slots {
		if p != nil {
			p.Release()
			c.slots[i] = nil
		}
	}
}
