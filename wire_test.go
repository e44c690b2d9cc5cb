package meridian

import (
	"fmt"
	"go/ast"
	"go/constant"
	"go/parser"
	"go/token"
	"go/types"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/reflect/protoreflect"

	"github.com/meridian-sfu/meridian/internal/meshpb/cascadepb"
	"github.com/meridian-sfu/meridian/internal/meshpb/directorypb"
	"github.com/meridian-sfu/meridian/internal/meshpb/gossippb"
	"github.com/meridian-sfu/meridian/internal/meshpb/ownershippb"
)

const wireDoc = "docs/wire.md"

// wireFiles are the schemas of everything nodes say to each other on streams.
var wireFiles = []protoreflect.FileDescriptor{
	cascadepb.File_meridian_cascade_v1_cascade_proto,
	directorypb.File_meridian_directory_v1_directory_proto,
	gossippb.File_meridian_gossip_v1_gossip_proto,
	ownershippb.File_meridian_ownership_v1_ownership_proto,
}

func readWireDoc(t *testing.T) string {
	t.Helper()
	b, err := os.ReadFile(wireDoc)
	require.NoError(t, err)
	return string(b)
}

// constants reads the integer and string constants a package declares.
func constants(t *testing.T, dir string) map[string]constant.Value {
	t.Helper()
	names, err := filepath.Glob(filepath.Join(dir, "*.go"))
	require.NoError(t, err)
	var files []*ast.File
	fset := token.NewFileSet()
	for _, name := range names {
		if strings.HasSuffix(name, "_test.go") || strings.HasSuffix(name, "_other.go") {
			continue
		}
		f, err := parser.ParseFile(fset, name, nil, parser.SkipObjectResolution)
		require.NoError(t, err)
		files = append(files, f)
	}
	// Imports are not resolved: constants need none of them, the rest is of no interest here.
	cfg := types.Config{Error: func(error) {}, FakeImportC: true}
	pkg, _ := cfg.Check(dir, fset, files, nil) // its error is the first of those left out
	out := make(map[string]constant.Value)
	for _, name := range pkg.Scope().Names() {
		if c, ok := pkg.Scope().Lookup(name).(*types.Const); ok {
			out[name] = c.Val()
		}
	}
	return out
}

func TestWireDocumentNamesEveryMessage(t *testing.T) {
	doc := readWireDoc(t)
	wants := func(name protoreflect.Name, what protoreflect.FullName) {
		if !strings.Contains(doc, "`"+string(name)+"`") {
			t.Errorf("%s does not mention `%s` (%s)", wireDoc, name, what)
		}
	}
	for _, f := range wireFiles {
		for i := range f.Messages().Len() {
			wants(f.Messages().Get(i).Name(), f.Messages().Get(i).FullName())
		}
		for i := range f.Enums().Len() {
			values := f.Enums().Get(i).Values()
			for j := range values.Len() {
				wants(values.Get(j).Name(), values.Get(j).FullName())
			}
		}
	}
	features := cascadepb.Feature(0).Descriptor().Values()
	for i := range features.Len() {
		row := fmt.Sprintf("| `%s` | %d |", features.Get(i).Name(), features.Get(i).Number())
		require.Contains(t, doc, row, "features have a row each, with their value")
	}
}

func TestWireDocumentNamesEveryFrame(t *testing.T) {
	doc := readWireDoc(t)
	for dir, prefix := range map[string]string{"cascade": "frame", "internal/meshnet": "kind"} {
		kinds := regexp.MustCompile(`^` + prefix + `[A-Z][a-zA-Z]*$`)
		for name, value := range constants(t, dir) {
			if !kinds.MatchString(name) || name == "frameVersion" || name == "frameHeadBytes" {
				continue
			}
			if row := fmt.Sprintf("| %s | `%s` |", value, name); !strings.Contains(doc, row) {
				t.Errorf("%s has no row %s", wireDoc, row)
			}
		}
	}
	for name, value := range constants(t, "internal/meshnet") {
		if alpn := strings.Trim(value.ExactString(), `"`); strings.HasPrefix(strings.ToLower(name), "alpn") && !strings.Contains(doc, "| `"+alpn+"` |") {
			t.Errorf("%s has no row for %s", wireDoc, alpn)
		}
	}
}

func TestWireDocumentTellsLimitsAsTheyAre(t *testing.T) {
	dirs := map[string]string{
		"cascade": "cascade", "meshnet": "internal/meshnet", "directory": "node/directory", "ownership": "gossip/ownership", "gossip": "gossip",
	}
	rows := regexp.MustCompile("(?m)^\\| `([a-z]+)\\.([A-Za-z]+)` \\| (\\d+) \\|").FindAllStringSubmatch(readWireDoc(t), -1)
	require.Greater(t, len(rows), 20)
	for pkg, dir := range dirs {
		known := constants(t, dir)
		for _, row := range rows {
			if row[1] != pkg {
				continue
			}
			v, ok := known[row[2]]
			require.True(t, ok, "%s is no constant of %s", row[2], dir)
			require.Equal(t, row[3], v.ExactString(), "%s.%s", pkg, row[2])
		}
	}
}

func TestWireDocumentPointsToParsers(t *testing.T) {
	links := regexp.MustCompile(`\]\(\.\./([^)]+)\)`).FindAllStringSubmatch(readWireDoc(t), -1)
	require.NotEmpty(t, links)
	for _, l := range links {
		_, err := os.Stat(l[1])
		require.NoError(t, err)
	}
	for _, drawn := range []string{
		"cascade/frame.go", "cascade/frame_control.go", "cascade/frame_parity.go", "internal/meshnet/direct_packet.go",
		"internal/meshnet/message.go", "internal/meshnet/service.go",
	} {
		b, err := os.ReadFile(drawn)
		require.NoError(t, err)
		require.Regexp(t, `//\s+\+-[-+]+\+`, string(b), "%s draws what it parses", drawn)
	}
}

// wireFields lists every field and enum value, one a line.
func wireFields() (lines []string) {
	var messages func(protoreflect.MessageDescriptors)
	enums := func(all protoreflect.EnumDescriptors) {
		for i := range all.Len() {
			for j := range all.Get(i).Values().Len() {
				v := all.Get(i).Values().Get(j)
				lines = append(lines, fmt.Sprintf("%s = %d", v.FullName(), v.Number()))
			}
		}
	}
	messages = func(all protoreflect.MessageDescriptors) {
		for i := range all.Len() {
			m := all.Get(i)
			for j := range m.Fields().Len() {
				f := m.Fields().Get(j)
				kind := f.Kind().String()
				if f.Message() != nil {
					kind = string(f.Message().FullName())
				}
				lines = append(lines, fmt.Sprintf("%s = %d %s %s", f.FullName(), f.Number(), f.Cardinality(), kind))
			}
			enums(m.Enums())
			messages(m.Messages())
		}
	}
	for _, f := range wireFiles {
		messages(f.Messages())
		enums(f.Enums())
	}
	slices.Sort(lines)
	return lines
}

// TestWireKeepsThePreviousRelease: fields and values are added, never changed or taken away, or two releases in a row
// do not work in one mesh. With a release, record it: MERIDIAN_WIRE_RECORD=1 go test -run PreviousRelease .
func TestWireKeepsThePreviousRelease(t *testing.T) {
	const golden = "testdata/wire/fields.txt"
	now := wireFields()
	if record, _ := strconv.ParseBool(os.Getenv("MERIDIAN_WIRE_RECORD")); record {
		require.NoError(t, os.WriteFile(golden, []byte(strings.Join(now, "\n")+"\n"), 0o644))
	}
	b, err := os.ReadFile(golden)
	require.NoError(t, err)
	for _, line := range strings.Split(strings.TrimSpace(string(b)), "\n") {
		if _, found := slices.BinarySearch(now, line); !found {
			t.Errorf("the previous release has %q", line)
		}
	}
}
