package main

import (
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/meridian-sfu/meridian/node/api"
)

// printStatus writes a status for people.
func printStatus(out io.Writer, s *api.Status) error {
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	p := func(format string, args ...any) { _, _ = fmt.Fprintf(w, format, args...) }
	state := ""
	if s.Draining {
		state = ", draining"
	}
	p("Asked %s (%s), version %s, up %s%s\n", s.Node, s.Region, s.Version, time.Duration(s.UptimeSec*float64(time.Second)).Round(time.Second), state)
	leader := string(s.Ownership.Leader)
	if leader == "" {
		leader = "none: calls go on, new rooms are provisional"
	}
	voters := make([]string, len(s.Ownership.Voters))
	for i, v := range s.Ownership.Voters {
		voters[i] = string(v)
	}
	p("Ownership: leader %s, term %d, voters %s; this node is %s\n", leader, s.Ownership.Term, strings.Join(voters, " "), s.Ownership.State)

	p("\nNODE\tREGION\tSTATE\tRTT\tPARTICIPANTS\tCPU\tURL\n")
	for _, n := range s.Nodes {
		state := n.State
		if n.Draining {
			state += ", draining"
		}
		p("%s\t%s\t%s\t%s\t%d\t%.0f %%\t%s\n", n.ID, n.Region, state, rtt(n.RTTMs), n.Participants, 100*n.CPU, n.URL)
	}
	if len(s.Links) > 0 {
		p("\nLINK TO\tSTATE\tRTT\tLOSS\tAFTER REPAIR\tLANES\tSENDING\tCARRIES\tQUEUE\tWITHHELD\tRECEIVING\tDROPPED\n")
	}
	for _, l := range s.Links {
		carries := "all"
		if l.Estimate > 0 {
			carries = bitrate(l.Estimate)
		}
		p("%s\t%s\t%s\t%.2f %%\t%.2f %%\t%d\t%s\t%s\t%.0f ms\t%d\t%s\t%d\n", l.Peer, l.State, rtt(l.RTTMs), 100*l.Loss, 100*l.ResidualLoss, l.Lanes,
			bitrate(l.SendBitrate), carries, l.QueueMs, l.Withheld, bitrate(l.ReceiveBitrate), l.PacketsDropped)
	}
	if flows := countFlows(s); flows > 0 {
		p("\nFLOW\tKIND\tROOM\tFROM\tLINK\tENCODINGS\n")
		for _, l := range s.Links {
			for _, f := range l.Flows {
				way := "to"
				if f.Direction == "receive" {
					way = "from"
				}
				p("%s\t%s\t%s\t%s\t%s %s\t%s\n", f.Source, f.Kind, f.Room, f.Origin, way, l.Peer, strings.Join(f.Encodings, " "))
			}
		}
	}
	if len(s.Rooms) > 0 {
		p("\nROOM\tOWNER\tEPOCH\tPARTICIPANTS\n")
	}
	for _, r := range s.Rooms {
		owner := string(r.Owner)
		if r.Provisional {
			owner = "provisional"
		}
		people := make([]string, len(r.Participants))
		for i, m := range r.Participants {
			people[i] = fmt.Sprintf("%s@%s", m.Identity, m.Node)
		}
		p("%s\t%s\t%d\t%s\n", r.Name, owner, r.Epoch, strings.Join(people, " "))
	}
	return w.Flush()
}

func countFlows(s *api.Status) int {
	flows := 0
	for _, l := range s.Links {
		flows += len(l.Flows)
	}
	return flows
}

func bitrate(bits uint64) string {
	switch {
	case bits >= 1e6:
		return fmt.Sprintf("%.1f Mbit/s", float64(bits)/1e6)
	case bits > 0:
		return fmt.Sprintf("%.0f kbit/s", float64(bits)/1e3)
	}
	return "-"
}

func rtt(ms float64) string {
	if ms == 0 {
		return "-"
	}
	return fmt.Sprintf("%.1f ms", ms)
}
