package api

import (
	"net/http"

	"github.com/meridian-sfu/meridian/internal/mesh"
)

func (a *API) healthz(w http.ResponseWriter, _ *http.Request) {
	writeJSON(w, http.StatusOK, map[string]string{"status": "ok"})
}

// readiness is the answer of GET /readyz.
type readiness struct {
	Ready   bool     `json:"ready"`
	Reasons []string `json:"reasons,omitempty"` // why not
}

func (a *API) readyz(w http.ResponseWriter, _ *http.Request) {
	reasons := a.deps.Ready()
	status := http.StatusOK
	if len(reasons) > 0 {
		status = http.StatusServiceUnavailable
		w.Header().Set("Retry-After", "1")
	}
	writeJSON(w, status, readiness{Ready: len(reasons) == 0, Reasons: reasons})
}

func (a *API) status(w http.ResponseWriter, r *http.Request) {
	s := a.deps.Status(r.Context())
	// Scripts iterate over these: an empty list is a list.
	s.Nodes, s.Links, s.Rooms = orEmpty(s.Nodes), orEmpty(s.Links), orEmpty(s.Rooms)
	s.Ownership.Voters = orEmpty(s.Ownership.Voters)
	writeJSON(w, http.StatusOK, s)
}

func (a *API) room(w http.ResponseWriter, r *http.Request) {
	name, err := mesh.ParseRoomName(r.PathValue("name"))
	if err != nil {
		writeError(w, http.StatusBadRequest, err.Error(), "ask for /debug/rooms/{name}; GET /v1/status lists the rooms")
		return
	}
	s := a.deps.Status(r.Context())
	for _, room := range s.Rooms {
		if room.Name != name {
			continue
		}
		detail := RoomDetail{Node: s.Node, Room: room, Links: []LinkStatus{}}
		for _, l := range s.Links {
			var flows []FlowStatus
			for _, f := range l.Flows {
				if f.Room == name {
					flows = append(flows, f)
				}
			}
			if l.Flows = flows; len(flows) > 0 {
				detail.Links = append(detail.Links, l)
			}
		}
		writeJSON(w, http.StatusOK, detail)
		return
	}
	writeError(w, http.StatusNotFound, "this node does not know the room", "ask its owner: GET /v1/status on any node that has participants in it names it")
}

func orEmpty[T any](s []T) []T {
	if s == nil {
		return []T{}
	}
	return s
}
