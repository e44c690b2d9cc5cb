package main

import (
	"bytes"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"time"

	"go.yaml.in/yaml/v3"

	"github.com/meridian-sfu/meridian/internal/mesh"
	"github.com/meridian-sfu/meridian/internal/token"
	"github.com/meridian-sfu/meridian/node"
)

// fileConfig is the configuration file, field by field; deploy/meridian.yaml explains each. Zero values leave the default.
type fileConfig struct {
	Node struct {
		ID        string   `yaml:"id"`
		Region    string   `yaml:"region"`
		Zone      string   `yaml:"zone"`
		Latitude  *float64 `yaml:"latitude"`
		Longitude *float64 `yaml:"longitude"`
	} `yaml:"node"`
	DataDir string            `yaml:"data_dir"`
	Keys    map[string]string `yaml:"keys"`
	KeyFile string            `yaml:"keys_file"`
	Mesh    struct {
		Listen    string            `yaml:"listen"`
		Advertise string            `yaml:"advertise"`
		Seeds     []string          `yaml:"seeds"`
		Bootstrap bool              `yaml:"bootstrap"`
		CA        string            `yaml:"ca"`
		Cert      string            `yaml:"cert"`
		Key       string            `yaml:"key"`
		Linger    *duration         `yaml:"linger"`
		Lanes     *int              `yaml:"lanes"`
		Direct    *bool             `yaml:"direct"`
		Profile   string            `yaml:"profile"`
		Delays    map[string]string `yaml:"emulated_delays"`
	} `yaml:"mesh"`
	HTTP struct {
		Listen           string   `yaml:"listen"`
		URL              string   `yaml:"url"`
		TrustedProxies   []string `yaml:"trusted_proxies"`
		AdminToken       string   `yaml:"admin_token"`
		OpenStatus       bool     `yaml:"open_status"`
		OpenTokens       bool     `yaml:"open_tokens"`
		AllowFakeAddress bool     `yaml:"allow_fake_address"`
		Metrics          *bool    `yaml:"metrics"`
	} `yaml:"http"`
	Media struct {
		UDPPort         *int     `yaml:"udp_port"`
		TCPPort         *int     `yaml:"tcp_port"`
		Addresses       []string `yaml:"addresses"`
		IncludeLoopback bool     `yaml:"include_loopback"`
	} `yaml:"media"`
	Geo struct {
		Database string `yaml:"database"`
	} `yaml:"geo"`
	Rooms struct {
		EmptyTimeout     *duration `yaml:"empty_timeout"`
		DepartureTimeout *duration `yaml:"departure_timeout"`
		MaxParticipants  *uint32   `yaml:"max_participants"`
		Speakers         *int      `yaml:"speakers"`
	} `yaml:"rooms"`
	Log struct {
		Level  string `yaml:"level"`
		Format string `yaml:"format"`
	} `yaml:"log"`
}

type duration time.Duration

// UnmarshalYAML reads "20s", "5m".
func (d *duration) UnmarshalYAML(n *yaml.Node) error {
	v, err := time.ParseDuration(n.Value)
	if err != nil {
		return fmt.Errorf("line %d: %q is no duration: write it as 20s, 5m or 1h", n.Line, n.Value)
	}
	*d = duration(v)
	return nil
}

// MarshalYAML writes what UnmarshalYAML reads.
//
//nolint:unparam // yaml.Marshaler wants the error
func (d duration) MarshalYAML() (any, error) { return time.Duration(d).String(), nil }

// loadConfig reads and checks a configuration file. Every error names the file and what to do.
func loadConfig(name string) (node.Config, error) {
	_, cfg, err := readConfig(name)
	return cfg, err
}

func readConfig(name string) (fileConfig, node.Config, error) {
	data, err := os.ReadFile(name)
	if errors.Is(err, os.ErrNotExist) {
		return fileConfig{}, node.Config{}, usageError("no configuration file %s: copy deploy/meridian.yaml and edit it, or try 'meridian dev'", name)
	} else if err != nil {
		return fileConfig{}, node.Config{}, usageError("configuration: %w", err)
	}
	f, err := parseConfig(data)
	if err != nil {
		return f, node.Config{}, usageError("%s: %w", name, err)
	}
	cfg, err := f.node()
	if err == nil {
		err = cfg.Validate()
	}
	if err != nil {
		return f, cfg, usageError("%s:\n%w", name, err)
	}
	return f, cfg, nil
}

var unknownField = regexp.MustCompile(`line (\d+): field (\S+) not found in type (.*)`)

// parseConfig decodes strictly: a key it does not know is an error that names the nearest known one.
func parseConfig(data []byte) (fileConfig, error) {
	var f fileConfig
	dec := yaml.NewDecoder(bytes.NewReader(data))
	dec.KnownFields(true)
	err := dec.Decode(&f)
	var typeErr *yaml.TypeError
	if !errors.As(err, &typeErr) {
		if err != nil && err.Error() == "EOF" {
			return f, errors.New("the file is empty")
		}
		return f, err
	}
	var errs []error
	for _, line := range typeErr.Errors {
		if m := unknownField.FindStringSubmatch(line); m != nil {
			errs = append(errs, fmt.Errorf("line %s: unknown key %q%s", m[1], m[2], suggestion(m[2])))
		} else {
			errs = append(errs, errors.New(line))
		}
	}
	return f, errors.Join(errs...)
}

// configKeys lists every key of the file with its full path: "mesh.listen".
func configKeys() []string {
	var keys []string
	var walk func(t reflect.Type, prefix string)
	walk = func(t reflect.Type, prefix string) {
		for i := range t.NumField() {
			key := prefix + t.Field(i).Tag.Get("yaml")
			if ft := t.Field(i).Type; ft.Kind() == reflect.Struct {
				walk(ft, key+".")
			} else {
				keys = append(keys, key)
			}
		}
	}
	walk(reflect.TypeFor[fileConfig](), "")
	return keys
}

// suggestion names the known key nearest to an unknown one, when one is near.
func suggestion(unknown string) string {
	best, bestDistance := "", 4
	for _, path := range configKeys() {
		parts := strings.Split(path, ".")
		for _, p := range parts {
			if d := editDistance(unknown, p); d < bestDistance {
				best, bestDistance = path, d
			}
		}
	}
	if best == "" {
		return " (deploy/meridian.yaml lists all keys)"
	}
	return fmt.Sprintf(": did you mean %q?", best)
}

// editDistance is Levenshtein's.
func editDistance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		previous := row[0]
		row[0] = i + 1
		for j := range len(b) {
			cost := previous
			if a[i] != b[j] {
				cost++
			}
			previous = row[j+1]
			row[j+1] = min(cost, row[j]+1, previous+1)
		}
	}
	return row[len(b)]
}

// node turns the file into a node's configuration. Errors name the key.
func (f *fileConfig) node() (node.Config, error) {
	cfg := node.DefaultConfig()
	var errs []error
	fail := func(key string, err error) {
		if err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", key, err))
		}
	}
	cfg.ID, cfg.Region, cfg.Zone = mesh.NodeID(f.Node.ID), mesh.Region(f.Node.Region), f.Node.Zone
	set(&cfg.Latitude, f.Node.Latitude)
	set(&cfg.Longitude, f.Node.Longitude)
	cfg.DataDir, cfg.Version = f.DataDir, version
	cfg.Keys = token.Keys(f.Keys)
	if f.KeyFile != "" {
		keys, err := readKeys(f.KeyFile)
		fail("keys_file", err)
		if len(f.Keys) > 0 {
			fail("keys_file", errors.New("give either keys or keys_file"))
		}
		cfg.Keys = keys
	}

	m := &cfg.Mesh
	fail("mesh.listen", parseAddrPort(&m.Listen, f.Mesh.Listen))
	fail("mesh.advertise", parseAddrPort(&m.Advertise, f.Mesh.Advertise))
	m.Seeds, m.Bootstrap = f.Mesh.Seeds, f.Mesh.Bootstrap
	m.CAFile, m.CertFile, m.KeyFile = f.Mesh.CA, f.Mesh.Cert, f.Mesh.Key
	set((*duration)(&m.Linger), f.Mesh.Linger)
	set(&m.Lanes, f.Mesh.Lanes)
	set(&m.Direct, f.Mesh.Direct)
	if f.Mesh.Profile != "" {
		m.Profile = f.Mesh.Profile
	}
	for to, delay := range f.Mesh.Delays {
		addr, err := netip.ParseAddrPort(to)
		fail("mesh.emulated_delays", err)
		d, err := time.ParseDuration(delay)
		fail("mesh.emulated_delays", err)
		if m.Delays == nil {
			m.Delays = map[netip.AddrPort]time.Duration{}
		}
		m.Delays[addr] = d
	}

	h := &cfg.HTTP
	fail("http.listen", parseAddrPort(&h.Listen, f.HTTP.Listen))
	h.ClientURL, h.AdminToken = strings.TrimSuffix(f.HTTP.URL, "/"), f.HTTP.AdminToken
	h.OpenStatus, h.OpenTokens, h.AllowFakeAddress = f.HTTP.OpenStatus, f.HTTP.OpenTokens, f.HTTP.AllowFakeAddress
	set(&h.Metrics, f.HTTP.Metrics)
	for _, p := range f.HTTP.TrustedProxies {
		prefix, err := parsePrefix(p)
		fail("http.trusted_proxies", err)
		h.TrustedProxies = append(h.TrustedProxies, prefix)
	}

	set(&cfg.Media.UDPPort, f.Media.UDPPort)
	set(&cfg.Media.TCPPort, f.Media.TCPPort)
	cfg.Media.IncludeLoopback = f.Media.IncludeLoopback
	for _, a := range f.Media.Addresses {
		addr, err := netip.ParseAddr(a)
		fail("media.addresses", err)
		cfg.Media.Addresses = append(cfg.Media.Addresses, addr)
	}
	cfg.Geo.Database = f.Geo.Database
	set((*duration)(&cfg.Rooms.EmptyTimeout), f.Rooms.EmptyTimeout)
	set((*duration)(&cfg.Rooms.DepartureTimeout), f.Rooms.DepartureTimeout)
	set(&cfg.Rooms.MaxParticipants, f.Rooms.MaxParticipants)
	set(&cfg.Rooms.Speakers, f.Rooms.Speakers)
	return cfg, errors.Join(errs...)
}

func set[T any](to *T, from *T) {
	if from != nil {
		*to = *from
	}
}

func parseAddrPort(to *netip.AddrPort, s string) error {
	if s == "" {
		return nil
	}
	a, err := netip.ParseAddrPort(s)
	if err != nil {
		return fmt.Errorf("%q is no address and port: write it as 0.0.0.0:7946 or [::]:7946", s)
	}
	*to = a
	return nil
}

func parsePrefix(s string) (netip.Prefix, error) {
	if a, err := netip.ParseAddr(s); err == nil {
		return netip.PrefixFrom(a, a.BitLen()), nil
	}
	p, err := netip.ParsePrefix(s)
	if err != nil {
		return p, fmt.Errorf("%q is no address or network: write it as 10.0.0.0/8", s)
	}
	return p, nil
}

// readKeys reads a YAML file of "key: secret" lines.
func readKeys(name string) (token.Keys, error) {
	data, err := os.ReadFile(name)
	if err != nil {
		return nil, err
	}
	keys := token.Keys{}
	if err := yaml.Unmarshal(data, &keys); err != nil {
		return nil, fmt.Errorf("%s: write one 'key: secret' a line", name) // the cause could quote a secret
	}
	return keys, nil
}

// firstKey is the alphabetically first API key and its secret.
func firstKey(keys token.Keys) (key, secret string) {
	names := make([]string, 0, len(keys))
	for k := range keys {
		names = append(names, k)
	}
	slices.Sort(names)
	if len(names) == 0 {
		return "", ""
	}
	return names[0], keys[names[0]]
}
