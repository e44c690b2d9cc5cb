package main

import (
	"bytes"
	"compress/gzip"
	"errors"
	"fmt"

	"github.com/maxmind/mmdbwriter"
	"github.com/maxmind/mmdbwriter/mmdbtype"
)

const description = "Nearest of a few dozen cities. Derived from IP geolocation by DB-IP (https://db-ip.com), CC BY 4.0"

// write makes the database and returns it compressed.
func write(spans []span, built uint) ([]byte, error) {
	tree, err := mmdbwriter.New(mmdbwriter.Options{
		BuildEpoch:   int64(built), // #nosec G115 -- seconds since 1970
		DatabaseType: "GeoIP2-City",
		Description:  map[string]string{"en": description},
		Languages:    []string{"en"},
		IPVersion:    6,
		RecordSize:   24,
	})
	if err != nil {
		return nil, fmt.Errorf("new database: %w", err)
	}
	values := make(map[record]mmdbtype.Map)
	for _, s := range spans {
		v, ok := values[s.record]
		if !ok {
			v = value(s.record)
			values[s.record] = v
		}
		err := tree.InsertRange(s.first.AsSlice(), s.last.AsSlice(), v)
		var reserved *mmdbwriter.ReservedNetworkError
		var aliased *mmdbwriter.AliasedNetworkError
		if err != nil && !errors.As(err, &reserved) && !errors.As(err, &aliased) {
			return nil, fmt.Errorf("insert %s to %s: %w", s.first, s.last, err)
		}
	}
	var out bytes.Buffer
	gz, err := gzip.NewWriterLevel(&out, gzip.BestCompression)
	if err != nil {
		return nil, err
	}
	size, err := tree.WriteTo(gz)
	if err != nil {
		return nil, fmt.Errorf("write database: %w", err)
	}
	if err := gz.Close(); err != nil {
		return nil, fmt.Errorf("compress database: %w", err)
	}
	fmt.Printf("%d records, %d bytes, %d compressed\n", len(values), size, out.Len())
	return out.Bytes(), nil
}

func value(r record) mmdbtype.Map {
	a := anchors[r.anchor]
	m := mmdbtype.Map{
		"city": mmdbtype.Map{"names": mmdbtype.Map{"en": mmdbtype.String(a.name)}},
		"location": mmdbtype.Map{
			"latitude":  mmdbtype.Float64(a.lat),
			"longitude": mmdbtype.Float64(a.lon),
		},
	}
	if r.country != "" {
		m["country"] = mmdbtype.Map{"iso_code": mmdbtype.String(r.country)}
	}
	return m
}
