package directory

import (
	"math"
	"math/rand/v2"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/proto"

	"github.com/meridian-sfu/meridian/internal/mesh"
	pb "github.com/meridian-sfu/meridian/internal/meshpb/directorypb"
)

// fill sets every field of v to something that is not its zero value.
func fill(rng *rand.Rand, v reflect.Value) {
	switch v.Kind() {
	case reflect.String:
		v.SetString("s" + string(rune('a'+rng.IntN(26))) + string(rune('a'+rng.IntN(26))))
	case reflect.Bool:
		v.SetBool(true)
	case reflect.Uint8:
		v.SetUint(1 + rng.Uint64N(3))
	case reflect.Uint32, reflect.Uint64:
		v.SetUint(1 + rng.Uint64N(1<<31))
	case reflect.Int32, reflect.Int64:
		v.SetInt(1 + rng.Int64N(1<<30))
	case reflect.Float32:
		v.SetFloat(1 + float64(rng.IntN(1000))/8)
	case reflect.Slice:
		v.Set(reflect.MakeSlice(v.Type(), 1+rng.IntN(3), 3))
		for i := range v.Len() {
			fill(rng, v.Index(i))
		}
	case reflect.Map:
		v.Set(reflect.MakeMap(v.Type()))
		for range 2 {
			key, value := reflect.New(v.Type().Key()).Elem(), reflect.New(v.Type().Elem()).Elem()
			fill(rng, key)
			fill(rng, value)
			v.SetMapIndex(key, value)
		}
	case reflect.Pointer:
		v.Set(reflect.New(v.Type().Elem()))
		fill(rng, v.Elem())
	case reflect.Struct:
		if v.Type() == reflect.TypeFor[time.Time]() {
			v.Set(reflect.ValueOf(time.Unix(0, rng.Int64N(1<<60)).UTC()))
			return
		}
		for i := range v.NumField() {
			fill(rng, v.Field(i))
		}
	default:
		panic("cannot fill " + v.Type().String())
	}
}

func TestWireKeepsEveryField(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	for range 100 {
		var p mesh.Participant
		fill(rng, reflect.ValueOf(&p).Elem())
		require.Equal(t, p, participantFromWire(through(t, participantToWire(p))))
		var m mesh.Room
		fill(rng, reflect.ValueOf(&m).Elem())
		require.Equal(t, m, roomFromWire(through(t, roomToWire(m))))
		var d mesh.DataMessage
		fill(rng, reflect.ValueOf(&d).Elem())
		require.Equal(t, d, dataFromWire(through(t, dataToWire(d))))
		for _, c := range []Command{new(Evict), new(Mute), new(Change), new(Subscribe)} {
			v := reflect.ValueOf(c).Elem()
			fill(rng, v)
			filled := v.Interface().(Command)
			require.Equal(t, filled, orderFromWire(through(t, orderToWire(filled))))
		}
	}
	var zero mesh.Participant
	require.Equal(t, zero, participantFromWire(through(t, participantToWire(zero))))
	nobody := mesh.Participant{Subscribers: &mesh.SubscriberACL{Identities: map[mesh.Identity][]mesh.SourceID{}}}
	require.Equal(t, nobody, participantFromWire(through(t, participantToWire(nobody))), "nobody allowed is not everybody allowed")
	require.Equal(t, Change{}, orderFromWire(through(t, orderToWire(Change{}))))
}

func through[M proto.Message](t *testing.T, m M) M {
	t.Helper()
	b, err := proto.Marshal(m)
	require.NoError(t, err)
	out := m.ProtoReflect().New().Interface()
	require.NoError(t, proto.Unmarshal(b, out))
	return out.(M)
}

func TestFrameBounds(t *testing.T) {
	good := func() mesh.Participant { return mesh.Participant{ID: "PA_1", Identity: "alice", Node: "a"} }
	report := func(change func(*mesh.Participant)) *pb.Frame {
		p := good()
		change(&p)
		return &pb.Frame{Version: 1, Room: "r", Body: &pb.Frame_Report{Report: &pb.Report{Participants: []*pb.Participant{participantToWire(p)}}}}
	}
	require.NoError(t, checkFrame(report(func(*mesh.Participant) {}), "a"))
	long := strings.Repeat("x", 10_000)
	for name, change := range map[string]func(*mesh.Participant){
		"another node":  func(p *mesh.Participant) { p.Node = "b" },
		"no ID":         func(p *mesh.Participant) { p.ID = "" },
		"no identity":   func(p *mesh.Participant) { p.Identity = "" },
		"long identity": func(p *mesh.Participant) { p.Identity = mesh.Identity(long) },
		"long name":     func(p *mesh.Participant) { p.Name = long },
		"metadata":      func(p *mesh.Participant) { p.Metadata = strings.Repeat("x", mesh.MaxMetadataBytes+1) },
		"attributes": func(p *mesh.Participant) {
			p.Attributes = map[string]string{"k": strings.Repeat("x", mesh.MaxAttributesBytes)}
		},
		"quality":          func(p *mesh.Participant) { p.Quality.Score = float32(math.NaN()) },
		"state":            func(p *mesh.Participant) { p.State = 9 },
		"sources":          func(p *mesh.Participant) { p.Sources = make([]mesh.Source, mesh.MaxSourcesPerMember+1) },
		"source ID":        func(p *mesh.Participant) { p.Sources = []mesh.Source{{}} },
		"format":           func(p *mesh.Participant) { p.Sources = []mesh.Source{{ID: "T", FMTP: long}} },
		"encodings":        func(p *mesh.Participant) { p.Sources = []mesh.Source{{ID: "T", Encodings: make([]mesh.Encoding, 100)}} },
		"capability count": func(p *mesh.Participant) { p.Capabilities = make([]int32, 1000) },
	} {
		require.ErrorIs(t, checkFrame(report(change), "a"), errFrame, name)
	}
	require.ErrorIs(t, checkFrame(&pb.Frame{Version: 1, Room: long, Body: &pb.Frame_Detach{}}, "a"), errFrame)
	require.ErrorIs(t, checkFrame(&pb.Frame{Body: &pb.Frame_Detach{}}, "a"), errFrame)
	require.NoError(t, checkFrame(&pb.Frame{Version: 7}, "a"), "a body of a later release is skipped")
	p := good()
	p.Name = string([]byte{0xff})
	require.Error(t, checkOwn(p, "a"), "not UTF-8")
}

// FuzzFrame: whatever a node sends is an error or harmless, and what passes fits our types.
func FuzzFrame(f *testing.F) {
	rng := rand.New(rand.NewPCG(3, 4))
	for range 4 {
		var p mesh.Participant
		fill(rng, reflect.ValueOf(&p).Elem())
		p.Node, p.Quality.Score = "a", 4
		batch := []*pb.Participant{participantToWire(p)}
		for _, frame := range []*pb.Frame{
			{Version: 1, Room: "r", Epoch: 1, Body: &pb.Frame_Report{Report: &pb.Report{Snapshot: true, Participants: batch}}},
			{Version: 1, Room: "r", Epoch: 1, Body: &pb.Frame_Update{Update: &pb.Update{Sequence: 1, Participants: batch, Reported: []string{"a"}}}},
			{Version: 1, Room: "r", Body: &pb.Frame_Command{Command: &pb.Command{Participant: "p", Order: orderToWire(Mute{Source: "s"})}}},
			{Version: 1, Body: &pb.Frame_Response{Response: &pb.Response{Id: 1, Participants: batch}}},
		} {
			b, err := proto.Marshal(frame)
			require.NoError(f, err)
			f.Add(b)
		}
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		var frame pb.Frame
		if proto.Unmarshal(b, &frame) != nil || checkFrame(&frame, "a") != nil {
			return
		}
		for _, w := range append(frame.GetReport().GetParticipants(), frame.GetUpdate().GetParticipants()...) {
			p := participantFromWire(w)
			if frame.GetReport() != nil && p.Node != "a" {
				t.Fatal("a record of another node passed")
			}
			if again := participantFromWire(participantToWire(p)); again.ID != p.ID || len(again.Sources) != len(p.Sources) {
				t.Fatal("a record that passed does not come back")
			}
		}
		_ = orderFromWire(frame.GetCommand().GetOrder())
		_ = orderFromWire(frame.GetRequest().GetModerate().GetOrder())
		_ = dataFromWire(frame.GetData())
	})
}
