package main

import (
	"bytes"
	"compress/gzip"
	"io"
	"net/netip"
	"testing"

	"github.com/oschwald/geoip2-golang/v2"
	"github.com/stretchr/testify/require"
)

func TestNearest(t *testing.T) {
	for _, tc := range []struct {
		lat, lon float64
		want     string
	}{
		{42.36, -71.06, "New York"}, {37.34, -121.89, "San Francisco"}, {-17.8, -178.0, "Suva"}, {46.5, 8.0, "Milan"},
	} {
		got := anchors[nearest(tc.lat, tc.lon)].name
		require.Equal(t, tc.want, got)
	}
}

func TestCompactor(t *testing.T) {
	x, y := record{1, "AA"}, record{2, "BB"}
	c := compactor{bits: 24, weights: make(map[record]float64)}
	c.add(netip.MustParsePrefix("1.0.0.0/24"), x)
	c.add(netip.MustParsePrefix("1.0.1.0/25"), y)   // half
	c.add(netip.MustParsePrefix("1.0.1.128/26"), x) // a quarter
	c.add(netip.MustParsePrefix("1.0.1.192/26"), x) // and a quarter: equal, the smaller record wins
	c.add(netip.MustParsePrefix("1.0.2.0/23"), x)
	c.add(netip.MustParsePrefix("1.0.8.0/32"), y)
	c.flush()
	require.Equal(t, []span{
		{netip.MustParseAddr("1.0.0.0"), netip.MustParseAddr("1.0.3.255"), x},
		{netip.MustParseAddr("1.0.8.0"), netip.MustParseAddr("1.0.8.255"), y},
	}, c.spans)
	require.Equal(t, netip.MustParseAddr("2001:db8:ff:ffff:ffff:ffff:ffff:ffff"), lastOf(netip.MustParsePrefix("2001:db8::/40")))
}

func TestWriteIsReadableAndRepeatable(t *testing.T) {
	spans := []span{
		{netip.MustParseAddr("10.0.0.0"), netip.MustParseAddr("10.255.255.255"), record{0, "US"}}, // reserved: left out
		{netip.MustParseAddr("81.2.69.0"), netip.MustParseAddr("81.2.70.255"), record{nearest(51.5, 0), "GB"}},
		{netip.MustParseAddr("2a00::"), netip.MustParseAddr("2a00:ffff::"), record{nearest(50, 8), ""}},
	}
	gz, err := write(spans, 1000)
	require.NoError(t, err)
	again, err := write(spans, 1000)
	require.NoError(t, err)
	require.Equal(t, gz, again)
	r, err := gzip.NewReader(bytes.NewReader(gz))
	require.NoError(t, err)
	data, err := io.ReadAll(r)
	require.NoError(t, err)
	db, err := geoip2.OpenBytes(data)
	require.NoError(t, err)
	city, err := db.City(netip.MustParseAddr("81.2.70.1"))
	require.NoError(t, err)
	require.Equal(t, "GB", city.Country.ISOCode)
	require.Equal(t, "London", city.City.Names.English)
	require.InDelta(t, 51.51, *city.Location.Latitude, 1e-9)
	city, err = db.City(netip.MustParseAddr("2a00::1"))
	require.NoError(t, err)
	require.Empty(t, city.Country.ISOCode)
	require.Equal(t, "Frankfurt", city.City.Names.English)
}
