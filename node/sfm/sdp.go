package sfm

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/pion/sdp/v3"

	"github.com/meridian-sfu/meridian/internal/mesh"
	"github.com/meridian-sfu/meridian/internal/rtpstream"
)

// Bounds on a client's description.
const (
	maxSDPBytes = 512 << 10
	maxSections = 512
)

// section is what is looked at of one m-line.
type section struct {
	mid, media, direction string
	track                 string // track ID of the msid (RFC 8830)
	rejected              bool
}

func (s section) kind() mesh.MediaKind {
	switch s.media {
	case "audio":
		return mesh.Audio
	case "video":
		return mesh.Video
	}
	return 0
}

// sends reports whether the one who wrote the description sends on the m-line.
func (s section) sends() bool { return s.direction == "sendonly" || s.direction == "sendrecv" }

var errSDP = errors.New("sfm: session description makes no sense")

// parseRemote checks a client's description as far as Pion relies on it: Pion cannot take one back that it accepted
// half-way. It returns the m-lines, and the text to go on with.
func parseRemote(text string) ([]section, string, error) {
	if len(text) > maxSDPBytes {
		return nil, "", fmt.Errorf("%w: %d bytes", errSDP, len(text))
	}
	var d sdp.SessionDescription
	if err := d.UnmarshalString(text); err != nil {
		return nil, "", fmt.Errorf("%w: %w", errSDP, err)
	}
	sections, err := checkRemote(&d)
	if err != nil {
		return nil, "", err
	}
	changed := false
	for _, m := range d.MediaDescriptions {
		changed = keepOneSSRC(m) || changed
	}
	if !changed {
		return sections, text, nil
	}
	out, err := d.Marshal()
	if err != nil {
		return nil, "", fmt.Errorf("%w: %w", errSDP, err)
	}
	return sections, string(out), nil
}

// keepOneSSRC leaves one stream and its retransmissions on an m-line that names several by SSRC: simulcast from before
// there were RIDs, which Pion takes for another dialect of SDP and refuses. It reports whether it changed something.
func keepOneSSRC(m *sdp.MediaDescription) bool {
	repair := map[string]string{} // SSRC of the retransmissions → SSRC of the stream
	streams := []string{}
	for _, a := range m.Attributes {
		if f := strings.Fields(a.Value); a.Key == "ssrc-group" && len(f) == 3 && f[0] == "FID" {
			repair[f[2]] = f[1]
		}
	}
	for _, a := range m.Attributes {
		ssrc, _, _ := strings.Cut(a.Value, " ")
		switch {
		case a.Key == "rid":
			return false
		case a.Key == "ssrc" && repair[ssrc] == "" && !slices.Contains(streams, ssrc):
			streams = append(streams, ssrc)
		}
	}
	if len(streams) <= 1 {
		return false
	}
	m.Attributes = slices.DeleteFunc(m.Attributes, func(a sdp.Attribute) bool {
		ssrc, _, _ := strings.Cut(a.Value, " ")
		if a.Key == "ssrc" {
			return ssrc != streams[0] && repair[ssrc] != streams[0]
		}
		f := strings.Fields(a.Value)
		return a.Key == "ssrc-group" && (len(f) != 3 || f[0] != "FID" || f[1] != streams[0])
	})
	return true
}

func checkRemote(d *sdp.SessionDescription) ([]section, error) {
	if len(d.MediaDescriptions) == 0 || len(d.MediaDescriptions) > maxSections {
		return nil, fmt.Errorf("%w: %d media sections", errSDP, len(d.MediaDescriptions))
	}
	_, ufrag := d.Attribute("ice-ufrag")
	_, password := d.Attribute("ice-pwd")
	_, fingerprint := d.Attribute("fingerprint")
	seen := map[string]bool{}
	out := make([]section, 0, len(d.MediaDescriptions))
	for _, m := range d.MediaDescriptions {
		s := section{media: m.MediaName.Media, rejected: m.MediaName.Port.Value == 0}
		for _, a := range m.Attributes {
			switch a.Key {
			case "mid":
				s.mid = a.Value
			case "sendonly", "recvonly", "sendrecv", "inactive":
				s.direction = a.Key
			case "msid":
				if _, track, ok := strings.Cut(a.Value, " "); ok {
					s.track = track
				}
			case "ssrc":
				if _, msid, ok := strings.Cut(a.Value, " msid:"); ok && s.track == "" {
					_, s.track, _ = strings.Cut(msid, " ")
				}
			case "ice-ufrag":
				ufrag = true
			case "ice-pwd":
				password = true
			case "fingerprint":
				fingerprint = true
			case "extmap":
				id, _, _ := strings.Cut(strings.Split(a.Value, " ")[0], "/")
				if n, err := strconv.ParseUint(id, 10, 8); err != nil || n == 0 {
					return nil, fmt.Errorf("%w: header extension %q", errSDP, a.Value)
				}
			case "bundle-only":
				s.rejected = false
			}
		}
		if s.mid == "" || len(s.mid) > 64 || seen[s.mid] {
			return nil, fmt.Errorf("%w: media section with MID %q", errSDP, s.mid)
		}
		seen[s.mid] = true
		out = append(out, s)
	}
	if !ufrag || !password || !fingerprint {
		return nil, fmt.Errorf("%w: ICE credentials or fingerprint missing", errSDP)
	}
	return out, nil
}

// negotiated is what an answer of ours says of one m-line the client sends on.
type negotiated struct {
	mid, mime, fmtp string
	clockRate       uint32
	rids            []string // from lowest to highest; empty with one encoding
	extensions      []mesh.HeaderExtension
}

// readAnswer returns what our answer agreed to, by MID. Rejected m-lines are missing.
func readAnswer(d *sdp.SessionDescription) map[string]negotiated {
	out := map[string]negotiated{}
	for _, m := range d.MediaDescriptions {
		if m.MediaName.Port.Value == 0 || len(m.MediaName.Formats) == 0 {
			continue
		}
		var n negotiated
		format := m.MediaName.Formats[0]
		for _, a := range m.Attributes {
			value, rest, _ := strings.Cut(a.Value, " ")
			switch a.Key {
			case "mid":
				n.mid = a.Value
			case "rtpmap":
				if name, clock, ok := strings.Cut(rest, "/"); ok && value == format {
					clock, _, _ = strings.Cut(clock, "/")
					rate, _ := strconv.ParseUint(clock, 10, 32) // our own text
					n.mime, n.clockRate = m.MediaName.Media+"/"+name, uint32(rate)
				}
			case "fmtp":
				if value == format {
					n.fmtp = rest
				}
			case "rid":
				n.rids = append(n.rids, value)
			case "extmap":
				if id, err := strconv.ParseUint(value, 10, 8); err == nil {
					n.extensions = append(n.extensions, mesh.HeaderExtension{ID: uint8(id), URI: rest})
				}
			}
		}
		n.rids = sortRIDs(n.rids)
		out[n.mid] = n
	}
	return out
}

// sortRIDs brings restriction IDs from lowest to highest. Known names have a known order; others come as offered.
func sortRIDs(rids []string) []string {
	rank := map[string]int{"q": 0, "h": 1, "f": 2, "2": 0, "1": 1, "0": 2}
	known := !slices.ContainsFunc(rids, func(r string) bool { _, ok := rank[r]; return !ok })
	if known {
		slices.SortFunc(rids, func(a, b string) int { return rank[a] - rank[b] })
	}
	if len(rids) > rtpstream.MaxEncodings {
		rids = rids[:rtpstream.MaxEncodings]
	}
	return rids
}

// outgoing says what to change in a description of ours on its way out. Pion keeps its own text.
type outgoing struct {
	silent map[string]bool        // MIDs we do not send on
	opus   map[string]mesh.Source // audio the client sends, by MID
}

// apply returns the changed text.
//   - Pion says "sendonly" on a section that has no sender yet; a browser would make a track of it.
//   - The opus parameters in an answer tell the publisher how to encode.
//   - The CNAME is the publisher, so that a source's audio and video belong together (RFC 3550 §6.5.1).
func (o outgoing) apply(d *sdp.SessionDescription) (string, error) {
	for _, m := range d.MediaDescriptions {
		mid, _ := m.Attribute("mid")
		src, publishes := o.opus[mid]
		for i, a := range m.Attributes {
			switch {
			case a.Key == "sendonly" && o.silent[mid]:
				m.Attributes[i].Key = "inactive"
			case a.Key == "sendrecv" && o.silent[mid]:
				m.Attributes[i].Key = "recvonly"
			case a.Key == "fmtp" && publishes:
				if pt, rest, _ := strings.Cut(a.Value, " "); strings.Contains(rest, "useinbandfec") || pt == m.MediaName.Formats[0] {
					m.Attributes[i].Value = pt + " " + opusParameters(src)
				}
			case a.Key == "ssrc":
				if ssrc, value, ok := strings.Cut(a.Value, " cname:"); ok {
					if publisher, _, ok := strings.Cut(value, "|"); ok {
						m.Attributes[i].Value = ssrc + " cname:" + publisher
					}
				}
			}
		}
	}
	text, err := d.Marshal()
	if err != nil {
		return "", fmt.Errorf("sfm: marshal description: %w", err)
	}
	return string(text), nil
}

// opusParameters tells a publisher how to encode a source (RFC 7587 §6.1).
func opusParameters(src mesh.Source) string {
	out := "minptime=10;useinbandfec=1"
	if !src.DisableDTX {
		out += ";usedtx=1"
	}
	if src.Stereo {
		out += ";stereo=1;maxaveragebitrate=510000"
	}
	return out
}
