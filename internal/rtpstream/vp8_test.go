package rtpstream

import (
	"bytes"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestParseVP8(t *testing.T) {
	for name, tc := range map[string]struct {
		raw      []byte
		want     VP8Descriptor
		keyframe bool
		err      error
	}{
		"empty":                 {err: ErrVP8Descriptor},
		"bare keyframe":         {raw: []byte{0x10, 0x00}, want: VP8Descriptor{Size: 1, Start: true}, keyframe: true},
		"bare interframe":       {raw: []byte{0x10, 0x01}, want: VP8Descriptor{Size: 1, Start: true}},
		"inside a partition":    {raw: []byte{0x00, 0x00}, want: VP8Descriptor{Size: 1}},
		"second partition":      {raw: []byte{0x11, 0x00}, want: VP8Descriptor{Size: 1, Start: true, Partition: 1}},
		"start without payload": {raw: []byte{0x10}, want: VP8Descriptor{Size: 1, Start: true}},
		"extension missing":     {raw: []byte{0x90}, err: ErrVP8Descriptor},
		"picture ID missing":    {raw: []byte{0x90, 0x80}, err: ErrVP8Descriptor},
		"long picture ID cut":   {raw: []byte{0x90, 0x80, 0x81}, err: ErrVP8Descriptor},
		"TL0 missing":           {raw: []byte{0x90, 0x40}, err: ErrVP8Descriptor},
		"TID missing":           {raw: []byte{0x90, 0x20}, err: ErrVP8Descriptor},
		"short picture ID":      {raw: []byte{0x90, 0x80, 0x7f, 0}, want: VP8Descriptor{Size: 3, Start: true, HasPictureID: true, PictureID: 127}, keyframe: true},
		"everything": {
			raw: []byte{0xb0, 0xf0, 0x81, 0x02, 9, 0x7f, 1},
			want: VP8Descriptor{
				Size: 6, NonReference: true, Start: true, HasPictureID: true, LongPictureID: true, PictureID: 258,
				HasTL0: true, TL0: 9, HasTID: true, TID: 1, LayerSync: true, HasKeyIndex: true, KeyIndex: 31,
			},
		},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := ParseVP8(tc.raw)
			require.ErrorIs(t, err, tc.err)
			if err != nil {
				return
			}
			require.Equal(t, tc.want, got)
			require.Equal(t, tc.keyframe, got.Keyframe(tc.raw))
			require.Equal(t, tc.raw[:got.Size], got.Append(nil))
		})
	}
}

func FuzzVP8(f *testing.F) {
	f.Add([]byte{0xb0, 0xf0, 0x81, 0x02, 9, 0x7f, 1})
	f.Add([]byte{0x10, 0})
	f.Fuzz(func(t *testing.T, raw []byte) {
		d, err := ParseVP8(raw)
		if err != nil {
			return
		}
		_ = d.Keyframe(raw)
		again, err := ParseVP8(d.Append(nil))
		if err != nil {
			t.Fatal(err)
		}
		again.Size = d.Size // reserved bits and an empty extension octet may be left out
		if again != d {
			t.Fatalf("%+v became %+v", d, again)
		}
		if !bytes.Equal(d.Append(nil), again.Append(nil)) {
			t.Fatal("not stable")
		}
	})
}
