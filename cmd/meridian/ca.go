package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"

	"github.com/meridian-sfu/meridian/internal/mesh"
	"github.com/meridian-sfu/meridian/internal/meshnet"
)

const day = 24 * time.Hour

func newCACommand() *cobra.Command {
	ca := &cobra.Command{
		Use:   "ca",
		Short: "Make the mesh CA and certificates for nodes",
		Long: `Nodes of a mesh know each other by certificates of one mesh CA, the only trust root between them. Keep ca.key off the
nodes: it is needed only to issue certificates.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	ca.AddCommand(newCAInitCommand(), newCAIssueCommand())
	return ca
}

func newCAInitCommand() *cobra.Command {
	var dir, name string
	var days int
	cmd := &cobra.Command{
		Use:     "init",
		Short:   "Make a new mesh CA: ca.crt and ca.key",
		Example: "  meridian ca init --dir ./mesh-ca",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if days < 1 {
				return usageError("--days must be at least 1, not %d", days)
			}
			ca, err := meshnet.NewCA(name, time.Duration(days)*day)
			if err != nil {
				return err
			}
			if err := os.MkdirAll(dir, 0o700); err != nil {
				return fmt.Errorf("ca init: %w", err)
			}
			if err := ca.Save(dir); err != nil {
				return err
			}
			cmd.Printf("made %s and %s; next: meridian ca issue --dir %s --node NODE-ID\n", filepath.Join(dir, "ca.crt"), filepath.Join(dir, "ca.key"), dir)
			return nil
		},
	}
	cmd.Flags().StringVar(&dir, "dir", "mesh-ca", "folder for ca.crt and ca.key")
	cmd.Flags().StringVar(&name, "name", "Meridian mesh", "name of the CA, as its certificate shows it")
	cmd.Flags().IntVar(&days, "days", 3650, "days the CA is valid")
	return cmd
}

func newCAIssueCommand() *cobra.Command {
	var dir, node, out string
	var days int
	cmd := &cobra.Command{
		Use:     "issue --node ID",
		Short:   "Issue a node's certificate: ID.crt and ID.key",
		Example: "  meridian ca issue --dir ./mesh-ca --node us-east-1 --out ./us-east-1",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			id, err := mesh.ParseNodeID(node)
			if err != nil {
				return usageError("--node: %w", err)
			}
			if days < 1 {
				return usageError("--days must be at least 1, not %d", days)
			}
			ca, err := meshnet.LoadCA(filepath.Join(dir, "ca.crt"), filepath.Join(dir, "ca.key"))
			if errors.Is(err, os.ErrNotExist) {
				return fmt.Errorf("%w\nno mesh CA in %s: make one with 'meridian ca init --dir %s'", err, dir, dir)
			} else if err != nil {
				return err
			}
			certPEM, keyPEM, err := ca.Issue(id, time.Duration(days)*day)
			if err != nil {
				return err
			}
			if out == "" {
				out = dir
			}
			if err := os.MkdirAll(out, 0o700); err != nil {
				return fmt.Errorf("ca issue: %w", err)
			}
			certFile, keyFile := filepath.Join(out, node+".crt"), filepath.Join(out, node+".key")
			if err := writeNew(keyFile, keyPEM, 0o600); err != nil {
				return err
			}
			if err := writeNew(certFile, certPEM, 0o644); err != nil {
				return err
			}
			cmd.Printf("made %s and %s, valid for %d days\n", certFile, keyFile, days)
			return nil
		},
	}
	cmd.Flags().StringVar(&dir, "dir", "mesh-ca", "folder with ca.crt and ca.key")
	cmd.Flags().StringVar(&node, "node", "", "node ID, as in the node's configuration (required)")
	cmd.Flags().StringVar(&out, "out", "", "folder for the certificate and key (default: the CA's)")
	cmd.Flags().IntVar(&days, "days", 365, "days the certificate is valid")
	_ = cmd.MarkFlagRequired("node")
	return cmd
}

// writeNew writes a file that must not exist yet.
func writeNew(name string, data []byte, mode os.FileMode) error {
	f, err := os.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, mode)
	if errors.Is(err, os.ErrExist) {
		return fmt.Errorf("%s exists already: move it away or choose another --out", name)
	} else if err != nil {
		return err
	}
	if _, err := f.Write(data); err != nil {
		_ = f.Close()
		return err
	}
	return f.Close()
}
