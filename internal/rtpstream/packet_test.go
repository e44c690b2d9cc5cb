package rtpstream

import (
	"errors"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestPacketParse(t *testing.T) {
	ext := func(profile uint16, words ...byte) []byte {
		b := rtpBytes(7, 9)
		b[0] |= 0x10
		b = append(b, byte(profile>>8), byte(profile), 0, byte(len(words)/4))
		return append(append(b, words...), 1, 2, 3)
	}
	padded := func(pad byte) []byte {
		b := rtpBytes(7, 9, 1, 2, 3, pad)
		b[0] |= 0x20
		return b
	}
	csrc := rtpBytes(7, 9, 0, 0, 0, 1, 5)
	csrc[0] |= 1
	for name, tc := range map[string]struct {
		raw     []byte
		err     error
		payload []byte
		extID   uint8
		ext     []byte
	}{
		"plain":                        {raw: rtpBytes(7, 9, 1, 2), payload: []byte{1, 2}},
		"no payload":                   {raw: rtpBytes(7, 9), payload: []byte{}},
		"contributing sources":         {raw: csrc, payload: []byte{5}},
		"short":                        {raw: rtpBytes(7, 9)[:11], err: ErrPacketTooShort},
		"version 1":                    {raw: append([]byte{0x40}, rtpBytes(7, 9)[1:]...), err: ErrBadVersion},
		"sources missing":              {raw: append([]byte{0x8f}, rtpBytes(7, 9)[1:]...), err: ErrPacketTooShort},
		"extension head missing":       {raw: append([]byte{0x90}, rtpBytes(7, 9)[1:]...), err: ErrPacketTooShort},
		"padding":                      {raw: padded(2), payload: []byte{1, 2}},
		"padding is everything":        {raw: padded(4), payload: []byte{}},
		"padding of nothing":           {raw: padded(0), err: ErrBadPadding},
		"padding too long":             {raw: padded(5), err: ErrBadPadding},
		"one-byte extension":           {raw: ext(0xBEDE, 0x10, 0x55, 0x21, 6, 7, 0, 0, 0), payload: []byte{1, 2, 3}, extID: 2, ext: []byte{6, 7}},
		"one-byte extension, absent":   {raw: ext(0xBEDE, 0x10, 0x55, 0, 0), payload: []byte{1, 2, 3}, extID: 3},
		"one-byte extension, overlong": {raw: ext(0xBEDE, 0x3f, 0x55, 0, 0), payload: []byte{1, 2, 3}, extID: 3},
		"one-byte extension, stop":     {raw: ext(0xBEDE, 0xf0, 0x55, 0x30, 1), payload: []byte{1, 2, 3}, extID: 3},
		"two-byte extension":           {raw: ext(0x1000, 3, 1, 9, 0), payload: []byte{1, 2, 3}, extID: 3, ext: []byte{9}},
		"two-byte extension, overlong": {raw: ext(0x1000, 3, 9, 9, 0), payload: []byte{1, 2, 3}, extID: 3},
	} {
		t.Run(name, func(t *testing.T) {
			var pl Pool
			p, err := fill(&pl, tc.raw)
			require.ErrorIs(t, err, tc.err)
			if tc.err != nil {
				return
			}
			require.Equal(t, tc.payload, p.Payload())
			require.Equal(t, tc.ext, p.Extension(tc.extID))
			require.Equal(t, tc.raw, p.Raw())
			require.EqualValues(t, 7, p.SequenceNumber)
			require.EqualValues(t, 9, p.Timestamp)
			require.EqualValues(t, NoAudioLevel, p.AudioLevel)
		})
	}
	var pl Pool
	require.ErrorIs(t, pl.Get().Parse(MaxPacketBytes+1), ErrPacketTooLong)
}

func FuzzPacketParse(f *testing.F) {
	f.Add(rtpBytes(1, 2, 3))
	f.Add([]byte{0xbf, 0x60, 0, 1, 0, 0, 0, 1, 0, 0, 0, 2, 0xbe, 0xde, 0, 1, 0x10, 1, 2, 3, 4})
	f.Fuzz(func(t *testing.T, raw []byte) {
		if len(raw) > MaxPacketBytes {
			return
		}
		var pl Pool
		p, err := fill(&pl, raw)
		if err != nil {
			if !errors.Is(err, ErrPacketTooShort) && !errors.Is(err, ErrBadVersion) && !errors.Is(err, ErrBadPadding) {
				t.Fatal(err)
			}
			return
		}
		_ = p.Payload()
		for id := range 256 {
			_ = p.Extension(uint8(id))
		}
		p.MarkVP8()
		p.Release()
	})
}

func TestPacketCounting(t *testing.T) {
	var pl Pool
	p := pl.Get()
	p.Retain()
	p.Release()
	p.Release()
	require.Panics(t, p.Release, "double release")
	q := &Packet{pool: &pl}
	require.Panics(t, func() { q.Retain() }, "retain after the last release")
}
