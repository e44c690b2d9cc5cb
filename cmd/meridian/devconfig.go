package main

import (
	"fmt"
	"os"
	"path/filepath"
	"time"

	"go.yaml.in/yaml/v3"

	"github.com/meridian-sfu/meridian/internal/mesh"
	"github.com/meridian-sfu/meridian/internal/meshnet"
)

func devCA(dir string) (*meshnet.CA, error) {
	certFile, keyFile := filepath.Join(dir, "ca.crt"), filepath.Join(dir, "ca.key")
	if _, err := os.Stat(certFile); err == nil {
		return meshnet.LoadCA(certFile, keyFile)
	}
	ca, err := meshnet.NewCA("Meridian dev mesh", 30*day)
	if err != nil {
		return nil, err
	}
	return ca, ca.Save(dir)
}

// writeDevNode issues a certificate and writes the node's configuration, the same file an operator would write.
func writeDevNode(dir string, ca *meshnet.CA, n *devNode, all []*devNode, delay map[[2]mesh.Region]time.Duration, logLevel string) (string, error) {
	home := filepath.Join(dir, string(n.id))
	if err := os.MkdirAll(home, 0o700); err != nil {
		return "", err
	}
	certPEM, keyPEM, err := ca.Issue(n.id, 30*day)
	if err != nil {
		return "", err
	}
	var f fileConfig
	f.Node.ID, f.Node.Region = string(n.id), string(n.region)
	f.DataDir = filepath.Join(home, "data")
	f.Keys = map[string]string{devKey: devSecret}
	f.Mesh.Listen = n.mesh()
	f.Mesh.CA, f.Mesh.Cert, f.Mesh.Key = filepath.Join(dir, "ca.crt"), filepath.Join(home, "node.crt"), filepath.Join(home, "node.key")
	f.Mesh.Profile = "dev"
	if n == all[0] {
		f.Mesh.Bootstrap = true
	}
	for _, o := range all {
		if o == n {
			continue
		}
		if n != all[0] { // the first begins the mesh, the others join by whoever answers
			f.Mesh.Seeds = append(f.Mesh.Seeds, o.mesh())
		}
		if d := delay[[2]mesh.Region{n.region, o.region}]; d > 0 {
			if f.Mesh.Delays == nil {
				f.Mesh.Delays = map[string]string{}
			}
			f.Mesh.Delays[o.mesh()] = d.String()
		}
	}
	f.HTTP.Listen, f.HTTP.URL = fmt.Sprintf("127.0.0.1:%d", n.port), fmt.Sprintf("ws://127.0.0.1:%d", n.port)
	f.HTTP.OpenStatus, f.HTTP.OpenTokens, f.HTTP.AllowFakeAddress = true, true, true
	udp, tcp := n.port+2, n.port+3
	f.Media.UDPPort, f.Media.TCPPort, f.Media.IncludeLoopback = &udp, &tcp, true
	f.Log.Level = logLevel
	text, err := yaml.Marshal(&f)
	if err != nil {
		return "", err
	}
	for name, data := range map[string][]byte{f.Mesh.Cert: certPEM, f.Mesh.Key: keyPEM, filepath.Join(home, "meridian.yaml"): text} {
		if err := os.WriteFile(name, data, 0o600); err != nil {
			return "", err
		}
	}
	return filepath.Join(home, "meridian.yaml"), nil
}
