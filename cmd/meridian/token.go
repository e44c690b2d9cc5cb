package main

import (
	"encoding/json"
	"time"

	"github.com/spf13/cobra"

	"github.com/meridian-sfu/meridian/internal/mesh"
	"github.com/meridian-sfu/meridian/internal/token"
)

func newTokenCommand() *cobra.Command {
	var key, secret, config, room, identity, name, metadata string
	var ttl time.Duration
	var admin, hidden, noPublish, noSubscribe, asJSON bool
	cmd := &cobra.Command{
		Use:   "token --room ROOM --identity WHO",
		Short: "Make an access token for a participant or a server",
		Long: `Makes a LiveKit-compatible access token (JWT, HS256) signed with one of the mesh's API keys. The key comes from --key and
--secret, or is the first one of --config; without either it is the key of 'meridian dev'.`,
		Example: `  meridian token --room standup --identity alice
  meridian token --admin --room standup --config meridian.yaml --ttl 10m`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if (key == "") != (secret == "") {
				return usageError("--key and --secret go together")
			}
			if key == "" && config != "" {
				cfg, err := loadConfig(config)
				if err != nil {
					return err
				}
				key, secret = firstKey(cfg.Keys)
			} else if key == "" {
				key, secret = devKey, devSecret
			}
			if ttl <= 0 {
				return usageError("--ttl must be positive, not %s", ttl)
			}
			claims := token.Claims{Name: name, Metadata: metadata}
			if room != "" {
				if _, err := mesh.ParseRoomName(room); err != nil {
					return usageError("--room: %w", err)
				}
				claims.Grant.Room = room
			}
			if admin {
				claims.Grant.RoomAdmin, claims.Grant.RoomList, claims.Grant.RoomCreate = true, true, true
			}
			if identity != "" {
				if _, err := mesh.ParseIdentity(identity); err != nil {
					return usageError("--identity: %w", err)
				}
				if room == "" {
					return usageError("--identity needs --room: a participant joins one room")
				}
				claims.Identity, claims.Grant.RoomJoin = mesh.Identity(identity), true
			}
			if !admin && identity == "" {
				return usageError("say who joins with --identity and --room, or make a server token with --admin")
			}
			claims.Grant.Hidden = hidden
			if noPublish {
				claims.Grant.CanPublish = new(bool)
			}
			if noSubscribe {
				claims.Grant.CanSubscribe = new(bool)
			}
			jwt, err := token.Mint(key, secret, claims, ttl, time.Now())
			if err != nil {
				return err
			}
			if asJSON {
				return json.NewEncoder(cmd.OutOrStdout()).Encode(map[string]string{"token": jwt, "room": room, "identity": identity})
			}
			cmd.Println(jwt)
			return nil
		},
	}
	f := cmd.Flags()
	f.StringVar(&key, "key", "", "API key")
	f.StringVar(&secret, "secret", "", "the key's secret")
	f.StringVar(&config, "config", "", "take the first key of this node configuration")
	f.StringVar(&room, "room", "", "room the token is for")
	f.StringVar(&identity, "identity", "", "identity of the participant")
	f.StringVar(&name, "name", "", "display name of the participant")
	f.StringVar(&metadata, "metadata", "", "metadata of the participant")
	f.DurationVar(&ttl, "ttl", 6*time.Hour, "how long the token is valid")
	f.BoolVar(&admin, "admin", false, "allow the server API: list, create and moderate rooms")
	f.BoolVar(&hidden, "hidden", false, "others are not told of this participant")
	f.BoolVar(&noPublish, "no-publish", false, "may not publish")
	f.BoolVar(&noSubscribe, "no-subscribe", false, "may not subscribe")
	f.BoolVar(&asJSON, "json", false, "print JSON")
	return cmd
}
