package geo

import (
	"bytes"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"testing"

	"github.com/maxmind/mmdbwriter"
	"github.com/maxmind/mmdbwriter/mmdbtype"
	"github.com/stretchr/testify/require"
)

// makeDatabase writes a database of one type that knows 81.2.69.0/24 (with coordinates) and 89.160.20.0/24 (without).
func makeDatabase(t testing.TB, databaseType string) []byte {
	t.Helper()
	tree, err := mmdbwriter.New(mmdbwriter.Options{DatabaseType: databaseType, RecordSize: 24, BuildEpoch: 1})
	require.NoError(t, err)
	for network, m := range map[string]mmdbtype.Map{
		"81.2.69.0/24": {
			"city":     mmdbtype.Map{"names": mmdbtype.Map{"en": mmdbtype.String("London")}},
			"country":  mmdbtype.Map{"iso_code": mmdbtype.String("GB")},
			"location": mmdbtype.Map{"latitude": mmdbtype.Float64(51.5142), "longitude": mmdbtype.Float64(-0.0931)},
		},
		"89.160.20.0/24": {"country": mmdbtype.Map{"iso_code": mmdbtype.String("SE")}},
		"85.1.1.0/24": {
			"location": mmdbtype.Map{"latitude": mmdbtype.Float64(123), "longitude": mmdbtype.Float64(0)},
		},
	} {
		_, ipnet, err := net.ParseCIDR(network)
		require.NoError(t, err)
		require.NoError(t, tree.Insert(ipnet, m))
	}
	var b bytes.Buffer
	_, err = tree.WriteTo(&b)
	require.NoError(t, err)
	return b.Bytes()
}

func writeFile(t *testing.T, data []byte) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "places.mmdb")
	require.NoError(t, os.WriteFile(path, data, 0o600))
	return path
}

// Universities have kept their networks, and their cities, for decades.
func TestEmbeddedLookup(t *testing.T) {
	d, err := Open("")
	require.NoError(t, err)
	require.True(t, d.Embedded())
	require.Equal(t, "GeoIP2-City", d.Type())
	require.Equal(t, 2026, d.Built().Year())
	for addr, want := range map[string]struct{ country, city string }{
		"128.32.1.1":         {"US", "San Francisco"}, // Berkeley
		"128.59.1.1":         {"US", "New York"},      // Columbia
		"131.111.1.1":        {"GB", "London"},        // Cambridge
		"133.11.1.1":         {"JP", "Tokyo"},
		"143.107.1.1":        {"BR", "São Paulo"},
		"129.94.1.1":         {"AU", "Sydney"}, // UNSW
		"155.69.1.1":         {"SG", "Singapore"},
		"137.158.1.1":        {"ZA", "Cape Town"},
		"2607:f140::1":       {"US", "San Francisco"}, // Berkeley
		"2001:200::1":        {"JP", "Tokyo"},
		"::ffff:131.111.1.1": {"GB", "London"},
		"64:ff9b::836f:101":  {"GB", "London"}, // RFC 6052: 131.111.1.1
	} {
		p, ok := d.Lookup(netip.MustParseAddr(addr))
		require.True(t, ok, addr)
		require.Equal(t, want.country, p.Country, addr)
		require.Equal(t, want.city, p.City, addr)
	}
	for _, addr := range []string{
		"127.0.0.1", "10.1.2.3", "192.168.1.1", "172.16.0.1", "169.254.1.1", "100.64.0.1", "0.0.0.0", "255.255.255.255", "224.0.0.1",
		"::1", "::", "fe80::1%eth0", "fd00::1", "ff02::1", "::ffff:10.0.0.1", "64:ff9b::a00:1",
	} {
		_, ok := d.Lookup(netip.MustParseAddr(addr))
		require.False(t, ok, addr)
	}
	_, ok := d.Lookup(netip.Addr{})
	require.False(t, ok)
}

func TestOpenFile(t *testing.T) {
	for _, databaseType := range []string{"GeoLite2-City", "GeoIP2-City", "GeoIP2-Enterprise", "DBIP-City-Lite", "DBIP-Location (compat=City)"} {
		d, err := Open(writeFile(t, makeDatabase(t, databaseType)))
		require.NoError(t, err)
		require.False(t, d.Embedded())
		require.Equal(t, databaseType, d.Type())
		p, ok := d.Lookup(netip.MustParseAddr("81.2.69.142"))
		require.True(t, ok)
		require.Equal(t, Place{Latitude: 51.5142, Longitude: -0.0931, Country: "GB", City: "London"}, p)
		for _, addr := range []string{"89.160.20.112", "85.1.1.1", "9.9.9.9", "2a00::1"} { // no coordinates, impossible ones, unknown
			_, ok := d.Lookup(netip.MustParseAddr(addr))
			require.False(t, ok, addr)
		}
	}
}

func TestOpenErrors(t *testing.T) {
	good := makeDatabase(t, "GeoLite2-City")
	for name, tc := range map[string]struct {
		path string
		want string
	}{
		"missing":      {filepath.Join(t.TempDir(), "none.mmdb"), "leave it empty for the embedded one"},
		"folder":       {t.TempDir(), "is not a file"},
		"empty":        {writeFile(t, nil), "download it again"},
		"not a db":     {writeFile(t, []byte("<html>404</html>")), "download it again"},
		"cut off":      {writeFile(t, good[:len(good)/2]), "download it again"},
		"country":      {writeFile(t, makeDatabase(t, "GeoLite2-Country")), "take a City database"},
		"ASN":          {writeFile(t, makeDatabase(t, "GeoLite2-ASN")), "take a City database"},
		"unknown type": {writeFile(t, makeDatabase(t, "My-Own")), `type "My-Own"`},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := Open(tc.path)
			require.ErrorIs(t, err, ErrDatabase)
			require.ErrorContains(t, err, tc.path)
			require.ErrorContains(t, err, tc.want)
		})
	}
}

// A file may be damaged anywhere and still open: lookups then fail, quietly.
func TestLookupInDamagedFile(t *testing.T) {
	good := makeDatabase(t, "GeoLite2-City")
	addrs := []netip.Addr{netip.MustParseAddr("81.2.69.142"), netip.MustParseAddr("89.160.20.112"), netip.MustParseAddr("2a00::1")}
	for i := 0; i < len(good); i += 3 {
		for _, flip := range []byte{0x01, 0xff} {
			bad := bytes.Clone(good)
			bad[i] ^= flip
			d, err := open(bad, "bad.mmdb")
			if err != nil {
				require.ErrorIs(t, err, ErrDatabase)
				continue
			}
			for _, a := range addrs {
				d.Lookup(a)
			}
			_ = d.Built()
		}
	}
}

func FuzzDatabase(f *testing.F) {
	good := makeDatabase(f, "GeoLite2-City")
	f.Add(good, []byte{81, 2, 69, 142})
	f.Add(good[:len(good)-20], []byte{81, 2, 69, 142})
	f.Add([]byte("\xab\xcd\xefMaxMind.com\xe1"), make([]byte, 16))
	f.Fuzz(func(t *testing.T, data, ip []byte) {
		d, err := open(data, "fuzz.mmdb")
		if err != nil {
			require.ErrorIs(t, err, ErrDatabase)
			return
		}
		addr, _ := netip.AddrFromSlice(ip)
		p, ok := d.Lookup(addr)
		require.True(t, !ok || p.Latitude >= -90 && p.Latitude <= 90 && p.Longitude >= -180 && p.Longitude <= 180)
	})
}

func BenchmarkLookup(b *testing.B) {
	d, err := Open("")
	require.NoError(b, err)
	addr := netip.MustParseAddr("131.111.1.1")
	b.ReportAllocs()
	for b.Loop() {
		d.Lookup(addr)
	}
}
