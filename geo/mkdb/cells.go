package main

import (
	"fmt"
	"math"
	"net/netip"

	"github.com/oschwald/maxminddb-golang/v2"
)

// record is all the derived database keeps of a network.
type record struct {
	anchor  int
	country string // ISO 3166-1 alpha-2; may be empty
}

// span is a range of addresses with one record.
type span struct {
	first, last netip.Addr
	record      record
}

// source is one record of the DB-IP City Lite database as ip-location-db publishes it.
type source struct {
	Country   string  `maxminddb:"country_code"`
	Latitude  float32 `maxminddb:"latitude"`
	Longitude float32 `maxminddb:"longitude"`
}

// compactor turns networks in ascending order into few spans: one record per cell, neighbours merged.
type compactor struct {
	bits    int // prefix length of a cell
	cell    netip.Prefix
	weights map[record]float64 // addresses of the current cell, relative
	spans   []span
}

// read compacts all networks of the database file at path.
func read(path string, bits int, keepCountry bool) (spans []span, built uint, err error) {
	db, err := maxminddb.Open(path)
	if err != nil {
		return nil, 0, fmt.Errorf("open %s: %w", path, err)
	}
	defer func() { _ = db.Close() }()
	c := compactor{bits: bits, weights: make(map[record]float64)}
	seen := make(map[uintptr]record) // records are shared between networks
	for result := range db.Networks() {
		if err := result.Err(); err != nil {
			return nil, 0, fmt.Errorf("read %s: %w", path, err)
		}
		r, ok := seen[result.Offset()]
		if !ok {
			var s source
			if err := result.Decode(&s); err != nil {
				return nil, 0, fmt.Errorf("decode %s of %s: %w", result.Prefix(), path, err)
			}
			r.anchor = nearest(float64(s.Latitude), float64(s.Longitude))
			if keepCountry {
				r.country = s.Country
			}
			seen[result.Offset()] = r
		}
		c.add(result.Prefix(), r)
	}
	c.flush()
	return c.spans, db.Metadata.BuildEpoch, nil
}

func (c *compactor) add(p netip.Prefix, r record) {
	if p.Bits() <= c.bits {
		c.flush()
		c.emit(p, r)
		return
	}
	cell := netip.PrefixFrom(p.Addr(), c.bits).Masked()
	if cell != c.cell {
		c.flush()
		c.cell = cell
	}
	c.weights[r] += math.Exp2(float64(c.bits - p.Bits()))
}

// flush emits the record that covers most of the current cell; of equals the smaller, so that runs are repeatable.
func (c *compactor) flush() {
	var best record
	bestWeight := 0.0
	for r, w := range c.weights {
		if w > bestWeight || w == bestWeight && (r.anchor < best.anchor || r.anchor == best.anchor && r.country < best.country) {
			best, bestWeight = r, w
		}
	}
	if bestWeight > 0 {
		c.emit(c.cell, best)
	}
	clear(c.weights)
}

func (c *compactor) emit(p netip.Prefix, r record) {
	first, last := p.Addr(), lastOf(p)
	if n := len(c.spans); n > 0 && c.spans[n-1].record == r && c.spans[n-1].last.Next() == first {
		c.spans[n-1].last = last
		return
	}
	c.spans = append(c.spans, span{first: first, last: last, record: r})
}

func lastOf(p netip.Prefix) netip.Addr {
	if p.Addr().Is4() {
		b := p.Addr().As4()
		fillOnes(b[:], p.Bits())
		return netip.AddrFrom4(b)
	}
	b := p.Addr().As16()
	fillOnes(b[:], p.Bits())
	return netip.AddrFrom16(b)
}

func fillOnes(b []byte, from int) {
	for i := from; i < len(b)*8; i++ {
		b[i/8] |= 0x80 >> (i % 8)
	}
}
