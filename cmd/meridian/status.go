package main

import (
	"encoding/json"
	"os"

	"github.com/spf13/cobra"

	"github.com/meridian-sfu/meridian/node/api"
)

func newStatusCommand() *cobra.Command {
	var base, adminToken string
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "status",
		Short: "Show a mesh as one of its nodes sees it: nodes, links, rooms, owners",
		Long: `Asks one node what it knows of the mesh. Links are those of the asked node: ask each node with --url to see all.
Outside dev a node answers only with its admin token (http.admin_token), given by --admin-token or MERIDIAN_ADMIN_TOKEN.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if adminToken == "" {
				adminToken = os.Getenv("MERIDIAN_ADMIN_TOKEN")
			}
			var s api.Status
			if err := askMesh(cmd, base, "/v1/status", adminToken, &s); err != nil {
				return err
			}
			if asJSON {
				enc := json.NewEncoder(cmd.OutOrStdout())
				enc.SetIndent("", "  ")
				return enc.Encode(s)
			}
			return printStatus(cmd.OutOrStdout(), &s)
		},
	}
	f := cmd.Flags()
	f.StringVar(&base, "url", defaultURL, "URL of any node of the mesh")
	f.StringVar(&adminToken, "admin-token", "", "the node's admin token (better: MERIDIAN_ADMIN_TOKEN)")
	f.BoolVar(&asJSON, "json", false, "print JSON")
	return cmd
}
