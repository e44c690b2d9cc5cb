package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.yaml.in/yaml/v3"

	"github.com/meridian-sfu/meridian/internal/mesh"
)

const sample = "../../deploy/meridian.yaml"

// The sample names every key there is, and every key in it is known.
func TestSampleConfigNamesEveryKey(t *testing.T) {
	text, err := os.ReadFile(sample)
	require.NoError(t, err)
	_, err = parseConfig(text)
	require.NoError(t, err)

	var tree map[string]any
	require.NoError(t, yaml.Unmarshal(text, &tree))
	for _, path := range configKeys() {
		at := any(tree)
		for part := range strings.SplitSeq(path, ".") {
			m, ok := at.(map[string]any)
			require.Truef(t, ok, "%s does not name key %s", sample, path)
			at, ok = m[part]
			require.Truef(t, ok, "%s does not name key %s", sample, path)
		}
	}
}

func TestSampleConfigWorksOnceKeysAreThere(t *testing.T) {
	text, err := os.ReadFile(sample)
	require.NoError(t, err)
	keys := filepath.Join(t.TempDir(), "keys.yaml")
	require.NoError(t, os.WriteFile(keys, []byte("app: "+strings.Repeat("s", 32)+"\n"), 0o600))
	name := filepath.Join(t.TempDir(), "meridian.yaml")
	require.NoError(t, os.WriteFile(name, []byte(strings.ReplaceAll(string(text), "/etc/meridian/keys.yaml", keys)), 0o600))
	cfg, err := loadConfig(name)
	require.NoError(t, err)
	require.Equal(t, mesh.NodeID("us-east-1"), cfg.ID)
	require.Equal(t, 3*time.Second, cfg.Mesh.Linger)
	require.Equal(t, "203.0.113.10:7946", cfg.Mesh.Advertise.String())
}

func TestConfigErrorsSayTheWayOut(t *testing.T) {
	for name, tc := range map[string]struct{ text, want string }{
		"unknown key":     {"mesh:\n  sedes: [a:1]\n", `line 2: unknown key "sedes": did you mean "mesh.seeds"?`},
		"unknown far key": {"mesh:\n  frobnicate_everything: 1\n", "deploy/meridian.yaml lists all keys"},
		"empty":           {"", "the file is empty"},
		"bad duration":    {"mesh:\n  linger: soon\n", `"soon" is no duration`},
		"bad address":     {"mesh:\n  listen: here\n", `mesh.listen: "here" is no address and port`},
		"no yaml":         {"mesh: [", "did not find"},
		"missing things":  {"log:\n  level: info\n", "node.id"},
		"unknown region":  {"node:\n  id: a\n  region: atlantis\n", "say where region \"atlantis\" is"},
		"no seeds":        {"node:\n  id: a\n  region: us-east\n", "mesh.bootstrap: true"},
		"short secret":    {"keys:\n  app: short\n", "at least 32"},
		"unspecified adv": {"mesh:\n  listen: 0.0.0.0:7946\n", "mesh.advertise"},
		"keys twice":      {"keys:\n  a: b\nkeys_file: /nonexistent\n", "keys_file"},
		"http url":        {"http:\n  url: https://x.example\n", "must begin with wss://"},
		"emulated delays": {"mesh:\n  emulated_delays: {nowhere: 10ms}\n", "mesh.emulated_delays"},
		"proxies":         {"http:\n  trusted_proxies: [everyone]\n", `"everyone" is no address or network`},
		"latitude off":    {"node:\n  latitude: 123\n", "no place on Earth"},
		"port off":        {"media:\n  udp_port: 70000\n", "media.udp_port: 70000 is no port"},
	} {
		t.Run(name, func(t *testing.T) {
			file := filepath.Join(t.TempDir(), "meridian.yaml")
			require.NoError(t, os.WriteFile(file, []byte(tc.text), 0o600))
			_, err := loadConfig(file)
			require.ErrorContains(t, err, tc.want)
			require.ErrorContains(t, err, file)
			var exit *exitError
			require.ErrorAs(t, err, &exit)
			require.Equal(t, exitUsage, exit.code)
		})
	}
	_, err := loadConfig("/nonexistent/meridian.yaml")
	require.ErrorContains(t, err, "meridian dev")
}

func TestKeysFileErrorsDoNotShowSecrets(t *testing.T) {
	name := filepath.Join(t.TempDir(), "keys.yaml")
	require.NoError(t, os.WriteFile(name, []byte("very-secret-thing"), 0o600))
	_, err := readKeys(name)
	require.Error(t, err)
	require.NotContains(t, err.Error(), "very-secret")
}

func TestParseRegions(t *testing.T) {
	nodes, err := parseRegions("us-east*2, eu-west", 7880)
	require.NoError(t, err)
	require.Len(t, nodes, 3)
	require.Equal(t, mesh.NodeID("us-east-2"), nodes[1].id)
	require.Equal(t, 7900, nodes[2].port)
	for _, bad := range []string{"", "US", "us-east*0", "us-east*x", "us-east*51"} {
		_, err := parseRegions(bad, 7880)
		require.Errorf(t, err, "%q", bad)
	}
	_, err = parseRegions("us-east*40", 65400)
	require.ErrorContains(t, err, "ports")
}

func TestParseDelays(t *testing.T) {
	nodes, err := parseRegions("us-east,eu-west", 7880)
	require.NoError(t, err)
	delays, err := parseDelays("us-east:eu-west=40ms", nodes)
	require.NoError(t, err)
	require.Equal(t, 40*time.Millisecond, delays[[2]mesh.Region{"eu-west", "us-east"}])
	for _, bad := range []string{"us-east=40ms", "us-east:mars=1ms", "us-east:eu-west=-1ms", "us-east:eu-west"} {
		_, err := parseDelays(bad, nodes)
		require.Errorf(t, err, "%q", bad)
	}
}
