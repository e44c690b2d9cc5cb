package rtpstream

import (
	"testing"

	"github.com/stretchr/testify/require"
)

// The octets are written down from the figures of RFC 9628 §4.2.
func TestParseVP9(t *testing.T) {
	for name, tc := range map[string]struct {
		raw      []byte
		want     VP9Descriptor
		keyframe bool
		err      error
	}{
		"empty":                    {err: ErrVP9Descriptor},
		"one layer, keyframe":      {raw: []byte{0x08}, want: VP9Descriptor{Size: 1, Start: true}, keyframe: true},
		"one layer, interframe":    {raw: []byte{0x48}, want: VP9Descriptor{Size: 1, Start: true, InterPicture: true}},
		"inside a keyframe":        {raw: []byte{0x00}, want: VP9Descriptor{Size: 1}},
		"picture ID missing":       {raw: []byte{0x80}, err: ErrVP9Descriptor},
		"long picture ID cut":      {raw: []byte{0x80, 0x81}, err: ErrVP9Descriptor},
		"short picture ID":         {raw: []byte{0x84, 0x7f}, want: VP9Descriptor{Size: 2, HasPictureID: true, PictureID: 127, End: true}},
		"layers missing":           {raw: []byte{0x20}, err: ErrVP9Descriptor},
		"TL0PICIDX missing":        {raw: []byte{0x20, 0x00}, err: ErrVP9Descriptor},
		"references missing":       {raw: []byte{0x50}, err: ErrVP9Descriptor},
		"four references":          {raw: []byte{0x50, 0x03, 0x05, 0x07, 0x08}, err: ErrVP9Descriptor},
		"structure missing":        {raw: []byte{0x0a}, err: ErrVP9Descriptor},
		"structure without sizes":  {raw: []byte{0x0a, 0x50, 1, 64}, err: ErrVP9Descriptor},
		"structure, group missing": {raw: []byte{0x0a, 0x08}, err: ErrVP9Descriptor},
		"structure, group cut":     {raw: []byte{0x0a, 0x08, 2, 0x08, 1, 1, 0x04}, err: ErrVP9Descriptor},
		"not flexible": { // I P L B E, PID 258, TID 2 U SID 1 D, TL0PICIDX 9
			raw: []byte{0xec, 0x81, 0x02, 0x53, 9},
			want: VP9Descriptor{
				Size: 5, HasPictureID: true, LongPictureID: true, PictureID: 258, InterPicture: true, HasLayers: true,
				Start: true, End: true, TID: 2, SID: 1, SwitchUp: true, InterLayer: true, HasTL0: true, TL0: 9,
			},
		},
		"flexible, two references": { // I P L F E Z, PID 5, TID 1 SID 2, 1 and 4 pictures back
			raw: []byte{0xf5, 0x05, 0x24, 0x03, 0x08},
			want: VP9Descriptor{
				Size: 5, HasPictureID: true, PictureID: 5, InterPicture: true, HasLayers: true, Flexible: true,
				End: true, Discardable: true, TID: 1, SID: 2, NumDiffs: 2, Diffs: [3]uint8{1, 4},
			},
		},
		"three spatial layers begin": { // I L F B V, PID 1, TID 0 SID 0, N_S 2 Y
			raw: []byte{0xba, 0x80, 0x01, 0x00, 0x50, 1, 64, 0, 180, 2, 128, 1, 104, 5, 0, 2, 208},
			want: VP9Descriptor{
				Size: 17, HasPictureID: true, LongPictureID: true, PictureID: 1, HasLayers: true, Flexible: true, Start: true,
				HasStructure: true, Structure: VP9Structure{
					Spatials: 3, HasSizes: true, Sizes: [8]PictureSize{{320, 180}, {640, 360}, {1280, 720}},
				},
			},
			keyframe: true,
		},
		"a group of two pictures": { // V, G; N_G 2: TID 0 with one reference, TID 1 U with two
			raw: []byte{0x0a, 0x08, 2, 0x04, 2, 0x38, 1, 2},
			want: VP9Descriptor{
				Size: 8, Start: true, HasStructure: true, Structure: VP9Structure{Spatials: 1, Pictures: 2},
			},
			keyframe: true,
		},
		"upper layer of a keyframe": { // L F B, SID 1 D
			raw:  []byte{0x38, 0x03},
			want: VP9Descriptor{Size: 2, HasLayers: true, Flexible: true, Start: true, SID: 1, InterLayer: true},
		},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := ParseVP9(tc.raw)
			require.ErrorIs(t, err, tc.err)
			if err != nil {
				return
			}
			require.Equal(t, tc.want, got)
			require.Equal(t, tc.keyframe, got.Keyframe())
		})
	}
}

func FuzzVP9(f *testing.F) {
	f.Add([]byte{0x48, 1})
	f.Add([]byte{0xec, 0x81, 0x02, 0x53, 9})
	f.Add([]byte{0xf5, 0x05, 0x24, 0x03, 0x08, 0xff})
	f.Add([]byte{0xba, 0x80, 0x01, 0x00, 0x50, 1, 64, 0, 180, 2, 128, 1, 104, 5, 0, 2, 208})
	f.Add([]byte{0x0a, 0x08, 2, 0x04, 2, 0x38, 1, 2})
	f.Fuzz(func(t *testing.T, raw []byte) {
		d, err := ParseVP9(raw)
		if err != nil {
			return
		}
		if d.Size < 1 || d.Size > len(raw) || d.NumDiffs > vp9MaxDiffs || d.SID >= vp9MaxSpatial || d.TID > 7 {
			t.Fatalf("%+v of %d octets", d, len(raw))
		}
		if d.HasStructure != (d.Structure.Spatials > 0) || d.Structure.Spatials > vp9MaxSpatial {
			t.Fatalf("%+v", d.Structure)
		}
		short, err := ParseVP9(raw[:d.Size])
		if err != nil || short != d {
			t.Fatalf("%+v became %+v without its payload (%v)", d, short, err)
		}
		if _, err := ParseVP9(raw[:d.Size-1]); err == nil && d.Size > 1 {
			t.Fatal("an octet less says as much")
		}
	})
}
