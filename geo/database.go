package geo

import (
	"bytes"
	"compress/gzip"
	_ "embed" // the database of edge.mmdb.gz
	"errors"
	"fmt"
	"io"
	"math"
	"net/netip"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/oschwald/geoip2-golang/v2"
)

// Attribution must be shown where results of the embedded database are (CC BY 4.0).
const Attribution = "IP geolocation by DB-IP (https://db-ip.com), CC BY 4.0"

// maxFileSize bounds the memory a database may take. GeoIP2 Enterprise has about 400 MB.
const maxFileSize = 1 << 30

// ErrDatabase is wrapped by all errors of Open.
var ErrDatabase = errors.New("GeoIP database")

//go:embed edge.mmdb.gz
var embedded []byte

var unpackEmbedded = sync.OnceValues(func() ([]byte, error) {
	gz, err := gzip.NewReader(bytes.NewReader(embedded))
	if err != nil {
		return nil, err
	}
	return io.ReadAll(gz)
})

// Database knows the places of addresses. It is immutable: all methods may be called concurrently.
type Database struct {
	reader *geoip2.Reader
	path   string // empty: embedded
}

// Open reads the database at path, a City database in MaxMind's format (GeoIP2-City, GeoLite2-City, DBIP-City-Lite, or
// an Enterprise one). An empty path takes the embedded database. Errors wrap ErrDatabase, name the file and say the way out.
func Open(path string) (*Database, error) {
	if path == "" {
		data, err := unpackEmbedded()
		if err != nil {
			return nil, fmt.Errorf("%w: the embedded one is damaged, build again: %w", ErrDatabase, err)
		}
		return open(data, "")
	}
	info, err := os.Stat(path)
	switch {
	case err != nil:
		return nil, fmt.Errorf("%w: %w: give the path of a City database, or leave it empty for the embedded one", ErrDatabase, err)
	case !info.Mode().IsRegular():
		return nil, fmt.Errorf("%w: %s is not a file: give the path of the .mmdb file itself", ErrDatabase, path)
	case info.Size() > maxFileSize:
		return nil, fmt.Errorf("%w: %s has %d bytes, at most %d are read: is it the right file?", ErrDatabase, path, info.Size(), maxFileSize)
	}
	data, err := os.ReadFile(path) // #nosec G304 -- the operator names it
	if err != nil {
		return nil, fmt.Errorf("%w: %w: check that the node's user may read it", ErrDatabase, err)
	}
	return open(data, path)
}

func open(data []byte, path string) (*Database, error) {
	reader, err := geoip2.OpenBytes(data)
	var unknown geoip2.UnknownDatabaseTypeError
	if errors.As(err, &unknown) {
		return nil, wrongType(path, unknown.DatabaseType)
	}
	if err != nil {
		return nil, fmt.Errorf("%w: %s is damaged or no .mmdb file (compressed archives must be unpacked): download it again: %w", ErrDatabase, path, err)
	}
	if t := reader.Metadata().DatabaseType; !strings.Contains(t, "City") && !strings.Contains(t, "Enterprise") && !strings.Contains(t, "Location") {
		return nil, wrongType(path, t)
	}
	return &Database{reader: reader, path: path}, nil
}

func wrongType(path, databaseType string) error {
	return fmt.Errorf("%w: %s is of type %q, which has no coordinates: take a City database (GeoLite2-City, GeoIP2-City, DBIP-City-Lite)",
		ErrDatabase, path, databaseType)
}

// Lookup returns where addr is. It reports false for addresses that are not on the public Internet, for those the
// database does not know, and for records without coordinates or that cannot be read.
func (d *Database) Lookup(addr netip.Addr) (Place, bool) {
	addr, public := publicAddr(addr)
	if !public {
		return Place{}, false
	}
	record, err := d.reader.City(addr)
	if err != nil || record.Location.Latitude == nil || record.Location.Longitude == nil {
		return Place{}, false
	}
	p := Place{
		Latitude: *record.Location.Latitude, Longitude: *record.Location.Longitude,
		Country: record.Country.ISOCode, City: record.City.Names.English,
	}
	// Negated, so that NaN fails too.
	if !(math.Abs(p.Latitude) <= 90 && math.Abs(p.Longitude) <= 180) || len(p.Country) > 2 {
		return Place{}, false
	}
	return p, true
}

// Embedded reports whether this is the embedded database, whose results need Attribution.
func (d *Database) Embedded() bool { return d.path == "" }

// Built returns when the data was compiled.
func (d *Database) Built() time.Time { return d.reader.Metadata().BuildTime().UTC() }

// Type returns the kind of database as the file says, such as "GeoLite2-City".
func (d *Database) Type() string { return d.reader.Metadata().DatabaseType }

var (
	sharedSpace = netip.MustParsePrefix("100.64.0.0/10") // RFC 6598, behind a carrier's NAT
	nat64       = netip.MustParsePrefix("64:ff9b::/96")  // RFC 6052: the last 32 bits are the IPv4 address
)

// publicAddr returns the address to look up, and whether it is one of the public Internet.
func publicAddr(addr netip.Addr) (netip.Addr, bool) {
	addr = addr.Unmap().WithZone("")
	if nat64.Contains(addr) {
		b := addr.As16()
		addr = netip.AddrFrom4([4]byte(b[12:]))
	}
	return addr, addr.IsGlobalUnicast() && !addr.IsPrivate() && !sharedSpace.Contains(addr)
}
