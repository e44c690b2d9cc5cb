package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"github.com/meridian-sfu/meridian/node/api"
)

// defaultURL is where the commands that ask a mesh look when not told: the first node of 'meridian dev'.
const defaultURL = "http://127.0.0.1:7880"

func newEdgeCommand() *cobra.Command {
	var base, region, clientIP string
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "edge",
		Short: "Ask a mesh for the edges nearest to you",
		Example: `  meridian edge --url https://any-node.example.org
  meridian edge --client-ip 81.2.69.142   # a mesh under 'meridian dev' believes it`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			query := url.Values{}
			if region != "" {
				query.Set("region", region)
			}
			if clientIP != "" {
				query.Set("client_ip", clientIP)
			}
			var answer api.Edges
			if err := askMesh(cmd, base, "/v1/edges?"+query.Encode(), "", &answer); err != nil {
				return err
			}
			if asJSON {
				enc := json.NewEncoder(cmd.OutOrStdout())
				enc.SetIndent("", "  ")
				return enc.Encode(answer)
			}
			if len(answer.Edges) == 0 {
				return errors.New("the mesh has no healthy edge")
			}
			w := tabwriter.NewWriter(cmd.OutOrStdout(), 0, 0, 2, ' ', 0)
			_, _ = fmt.Fprintln(w, "NODE\tREGION\tURL\tDISTANCE\tEXPECTED RTT\tLOAD\t")
			for _, e := range answer.Edges {
				distance, expected, state := "unknown", "unknown", ""
				if e.DistanceKM != nil {
					distance = fmt.Sprintf("%.0f km", *e.DistanceKM)
				}
				if e.ExpectedRTTMs != nil {
					expected = fmt.Sprintf("%.0f ms", *e.ExpectedRTTMs)
				}
				if e.Draining {
					state = "draining"
				}
				_, _ = fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\t%.0f %%\t%s\n", e.Node, e.Region, e.URL, distance, expected, 100*e.Load, state)
			}
			return w.Flush()
		},
	}
	f := cmd.Flags()
	f.StringVar(&base, "url", defaultURL, "URL of any node of the mesh")
	f.StringVar(&region, "region", "", "put this region first")
	f.StringVar(&clientIP, "client-ip", "", "ask for this client address (believed in dev only)")
	f.BoolVar(&asJSON, "json", false, "print JSON")
	return cmd
}

// askMesh gets JSON from a node, with errors that say what to do.
func askMesh(cmd *cobra.Command, base, path, bearer string, into any) error {
	u, err := url.Parse(base)
	if err != nil || u.Host == "" || (u.Scheme != "http" && u.Scheme != "https") {
		return usageError("--url: %q is no http:// or https:// URL", base)
	}
	if err := getJSON(cmd.Context(), strings.TrimSuffix(base, "/")+path, bearer, into); err != nil {
		return &exitError{exitUnreachable, fmt.Errorf("%w\nis a node running at %s? ('meridian dev' starts a mesh; --url names another)", err, base)}
	}
	return nil
}
