package meridian

import (
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

const module = "github.com/meridian-sfu/meridian/"

// leaves may be imported from everywhere: they know nothing of the house.
var leaves = []string{"internal/mesh", "internal/rtpstream", "internal/token"}

// allowed says which packages of this module a package may import besides the leaves. A package that is missing here
// fails the test: give it a room first (ARCHITECTURE.md).
var allowed = map[string][]string{
	"":                   {},
	"cmd/meridian":       {"node", "node/api", "internal/meshnet", "bench/trunk", "bench/failover", "bench/fairness", "bench/load", "bench/soak"},
	"bench/load":         {},
	"bench/trunk":        {"cascade", "internal/meshnet", "internal/testnet"},
	"node":               {"node/*", "cascade", "cascade/route", "cascade/upstream", "gossip", "gossip/ownership", "geo", "internal/meshnet", "internal/testnet", "web"},
	"node/signal":        {},
	"node/api":           {"geo"},
	"node/room":          {},
	"node/directory":     {"internal/meshnet", "internal/meshpb/directorypb"},
	"node/sfm":           {},
	"cascade":            {"internal/meshnet", "internal/meshpb/cascadepb"},
	"cascade/route":      {},
	"cascade/upstream":   {"cascade", "cascade/route"},
	"gossip":             {"internal/meshnet", "internal/meshpb/gossippb"},
	"gossip/ownership":   {"internal/meshnet", "internal/meshpb/ownershippb"},
	"geo":                {},
	"geo/mkdb":           {"geo"},
	"internal/mesh":      {},
	"internal/rtpstream": {},
	"internal/token":     {},
	"internal/meshnet":   {},
	"internal/testnet":   {},
	"bench/wan":          {"internal/testnet"},
	"bench/soak":         {"cascade", "internal/meshnet", "internal/testnet"},
	"bench/failover":     {"cascade", "cascade/route", "cascade/upstream", "internal/meshnet", "internal/testnet"},
	"bench/fairness":     {"bench/trunk", "bench/wan", "internal/testnet"},
	"web":                {},

	"internal/meshpb/cascadepb":   {},
	"internal/meshpb/directorypb": {},
	"internal/meshpb/gossippb":    {},
	"internal/meshpb/ownershippb": {},
}

// exclusive says where a heavy dependency lives; nobody else imports it outside tests.
var exclusive = map[string][]string{
	"github.com/pion/":                {"node/sfm", "bench/load"}, // a client has them as a server has
	"github.com/quic-go/":             {"internal/meshnet"},
	"github.com/livekit/":             {"node/signal", "node/api", "bench/load"},
	"github.com/hashicorp/memberlist": {"gossip"},
	"github.com/hashicorp/serf":       {"gossip"},
	"github.com/hashicorp/raft":       {"gossip/ownership"},
	"github.com/oschwald/":            {"geo", "geo/mkdb"},
	"github.com/maxmind/":             {"geo", "geo/mkdb"},
	"github.com/spf13/":               {"cmd/meridian"},
	"github.com/coder/websocket":      {"node/signal", "bench/load"},
	"go.yaml.in/yaml":                 {"cmd/meridian"},
	"github.com/golang-jwt/":          {"internal/token"},
}

func TestArchitecture(t *testing.T) {
	documented := map[string]bool{}
	seen := map[string]bool{}
	err := filepath.WalkDir(".", func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() {
			if name := d.Name(); name == "node_modules" || name == "testdata" || (strings.HasPrefix(name, ".") && name != ".") {
				return filepath.SkipDir
			}
			return nil
		}
		if !strings.HasSuffix(path, ".go") {
			return nil
		}
		pkg := filepath.ToSlash(filepath.Dir(path))
		if pkg == "." {
			pkg = ""
		}
		seen[pkg] = true
		file, err := parser.ParseFile(token.NewFileSet(), path, nil, parser.ImportsOnly|parser.ParseComments)
		if err != nil {
			return err
		}
		if file.Doc != nil && !strings.HasSuffix(path, "_test.go") {
			documented[pkg] = true
		}
		if _, ok := allowed[pkg]; !ok {
			t.Errorf("%s: package %q has no entry in arch_test.go: say what it may import", path, pkg)
			return nil
		}
		if strings.HasSuffix(path, "_test.go") {
			return nil // tests may put rooms together
		}
		for _, spec := range file.Imports {
			checkImport(t, path, pkg, strings.Trim(spec.Path.Value, `"`))
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	for pkg := range allowed {
		if !seen[pkg] {
			t.Errorf("arch_test.go names package %q, which does not exist", pkg)
		}
		if seen[pkg] && !documented[pkg] && pkg != "" && !strings.HasPrefix(pkg, "internal/meshpb/") {
			t.Errorf("package %q has no package comment", pkg)
		}
	}
}

func checkImport(t *testing.T, path, pkg, imp string) {
	t.Helper()
	if in, ok := strings.CutPrefix(imp, module); ok {
		if in == pkg || slices.Contains(leaves, in) {
			return
		}
		for _, a := range allowed[pkg] {
			if a == in || (strings.HasSuffix(a, "/*") && strings.HasPrefix(in, strings.TrimSuffix(a, "*"))) {
				return
			}
		}
		t.Errorf("%s: package %q may not import %q (ARCHITECTURE.md: arrows point down only)", path, pkg, in)
		return
	}
	for prefix, homes := range exclusive {
		if strings.HasPrefix(imp, prefix) && !slices.Contains(homes, pkg) {
			t.Errorf("%s: %s lives in %s only", path, prefix, strings.Join(homes, ", "))
		}
	}
}

// TestArchitectureDocument holds ARCHITECTURE.md to the tree: it names every package.
func TestArchitectureDocument(t *testing.T) {
	text, err := os.ReadFile("ARCHITECTURE.md")
	if err != nil {
		t.Fatal(err)
	}
	for pkg := range allowed {
		if pkg != "" && !strings.HasPrefix(pkg, "internal/meshpb/") && !strings.Contains(string(text), "`"+pkg+"`") {
			t.Errorf("ARCHITECTURE.md does not name package `%s`", pkg)
		}
	}
}
