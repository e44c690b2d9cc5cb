package rtpstream

import (
	"testing"

	"github.com/stretchr/testify/require"
)

// The octets are written down from RTP Payload Format For AV1 §4.4 and AV1 bitstream §5.3.
func TestParseAV1(t *testing.T) {
	for name, tc := range map[string]struct {
		raw  []byte
		want AV1Payload
		err  error
	}{
		"empty":                   {err: ErrAV1Payload},
		"a header alone":          {raw: []byte{0x10}, err: ErrAV1Payload},
		"continues a new one":     {raw: []byte{0x98, 0}, err: ErrAV1Payload},
		"inside an OBU":           {raw: []byte{0xd0, 0x34, 0x28}, want: AV1Payload{Continues: true, Unfinished: true}},
		"a frame without layers":  {raw: []byte{0x10, 0x30, 1}, want: AV1Payload{}},
		"a frame of T1 S2":        {raw: []byte{0x10, 0x34, 0x30, 1}, want: AV1Payload{HasLayers: true, TID: 1, SID: 2}},
		"a sequence header first": {raw: []byte{0x28, 2, 0x08, 0, 0x34, 0x48, 1}, want: AV1Payload{NewSequence: true, HasLayers: true, TID: 2, SID: 1}},
		"lengths everywhere":      {raw: []byte{0x08, 1, 0x08, 3, 0x34, 0x08, 7}, want: AV1Payload{NewSequence: true, HasLayers: true, SID: 1}},
		"a rest, then a frame":    {raw: []byte{0xa0, 2, 0x34, 0xff, 0x34, 0x20}, want: AV1Payload{Continues: true, HasLayers: true, TID: 1}},
		"longer than it is":       {raw: []byte{0x00, 5, 0x30}, err: ErrAV1Payload},
		"a length without end":    {raw: []byte{0x00, 0x80, 0x80, 0x80, 0x80, 0}, err: ErrAV1Payload},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := ParseAV1(tc.raw)
			require.ErrorIs(t, err, tc.err)
			if err == nil {
				require.Equal(t, tc.want, got)
			}
		})
	}
}

func FuzzAV1(f *testing.F) {
	f.Add([]byte{0x10, 0x34, 0x30, 1})
	f.Add([]byte{0x28, 2, 0x08, 0, 0x34, 0x48, 1})
	f.Add([]byte{0x08, 1, 0x08, 3, 0x34, 0x08, 7})
	f.Add([]byte{0xa0, 2, 0x34, 0xff, 0x34, 0x20})
	f.Fuzz(func(t *testing.T, raw []byte) {
		a, err := ParseAV1(raw)
		if err != nil {
			return
		}
		if a.TID > 7 || a.SID > 3 || !a.HasLayers && a.TID+a.SID != 0 || a.Continues && a.NewSequence {
			t.Fatalf("%+v", a)
		}
	})
}
