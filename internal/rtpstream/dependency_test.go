package rtpstream

import (
	"testing"

	"github.com/stretchr/testify/require"
)

// bitWriter writes bits, the most significant first.
type bitWriter struct {
	b []byte
	n int
}

func (w *bitWriter) put(n int, v uint32) *bitWriter {
	for i := n - 1; i >= 0; i-- {
		if w.n&7 == 0 {
			w.b = append(w.b, 0)
		}
		w.b[w.n>>3] |= byte(v>>i&1) << (7 - w.n&7)
		w.n++
	}
	return w
}

// symbols writes decode target indications as the specification's tables do: one letter for each target.
func (w *bitWriter) symbols(s string) *bitWriter {
	for _, c := range s {
		w.put(2, map[rune]uint32{'-': 0, 'D': 1, 'S': 2, 'R': 3}[c])
	}
	return w
}

func mandatory(start, end bool, template uint8, frame uint16) *bitWriter {
	flag := map[bool]uint32{true: 1}
	return new(bitWriter).put(1, flag[start]).put(1, flag[end]).put(6, uint32(template)).put(16, uint32(frame))
}

// l1t3 begins one spatial and three temporal layers, template IDs from 60 on, as RTP Payload Format For AV1, appendix A
// has it: one chain, DTIs by table.
func l1t3(frame uint16) *bitWriter {
	w := mandatory(true, true, 60, frame).put(5, 0b10000)
	w.put(6, 60).put(5, 2)                              // offset, three targets
	w.put(2, 0).put(2, 1).put(2, 1).put(2, 0).put(2, 3) // T0 T0 T1 T2 T2
	w.symbols("SSS").symbols("SSS").symbols("-DS").symbols("--D").symbols("--D")
	w.put(1, 0)                     // a keyframe is predicted from nothing
	w.put(1, 1).put(4, 3).put(1, 0) // the others from 4, 2, 1 and 1 frames back
	w.put(1, 1).put(4, 1).put(1, 0)
	w.put(1, 1).put(4, 0).put(1, 0)
	w.put(1, 1).put(4, 0).put(1, 0)
	w.put(2, 1) // ns(4): one chain; ns(1) for each target takes no bits
	for range 5 {
		w.put(4, 4)
	}
	return w.put(1, 1).put(16, 639).put(16, 359)
}

// spatial begins two spatial layers of two temporal ones; the upper one needs the lower one in keyframes only (L2T2_KEY).
func spatial(frame uint16) *bitWriter {
	w := mandatory(true, true, 0, frame).put(5, 0b10000)
	w.put(6, 0).put(5, 3)                                         // targets: S0T0 S0T1 S1T0 S1T1
	w.put(2, 0).put(2, 1).put(2, 2).put(2, 0).put(2, 1).put(2, 3) // S0T0 twice, S0T1, S1T0 twice, S1T1
	w.symbols("SSSS").symbols("SS--").symbols("-D--").symbols("--SS").symbols("--SS").symbols("---D")
	w.put(1, 0)
	for _, back := range []uint32{4, 2, 1, 4, 2} {
		w.put(1, 1).put(4, back-1).put(1, 0)
	}
	w.put(2, 2) // ns(5): two chains
	for _, chain := range []uint32{0, 0, 1, 1} {
		w.put(1, chain) // ns(2)
	}
	for range 6 {
		w.put(4, 1).put(4, 1)
	}
	return w.put(1, 1).put(16, 319).put(16, 179).put(16, 639).put(16, 359)
}

// endless is a frame predicted from more frames than a decoder has.
func endless() []byte {
	w := mandatory(true, true, 62, 9).put(5, 0b00010)
	for range ddMaxDiffs + 1 {
		w.put(2, 1).put(4, 1)
	}
	return w.put(16, 0).b
}

func TestDependencyDescriptor(t *testing.T) {
	var r DependencyReader
	_, err := r.Parse([]byte{0xbc, 0, 1})
	require.ErrorIs(t, err, errNoStructure)

	d, err := r.Parse(l1t3(7).b)
	require.NoError(t, err)
	require.Equal(t, DependencyDescriptor{
		Start: true, End: true, Template: 60, FrameNumber: 7, HasStructure: true, Active: 0b111, SwitchUp: 2,
	}, d)
	require.True(t, d.Keyframe())
	s := r.Structure()
	require.Equal(t, 5, s.Templates)
	require.Equal(t, 3, s.Targets)
	require.Equal(t, 1, s.Chains)
	require.Equal(t, 1, s.Spatials)
	require.Equal(t, 3, s.Temporals)
	require.Equal(t, PictureSize{640, 360}, s.Sizes[0])
	require.Equal(t, []templateLayer{{0, 0}, {0, 1}, {0, 2}}, s.targets[:3], "what each target decodes")

	for name, tc := range map[string]struct {
		raw  []byte
		want DependencyDescriptor
		err  error
	}{
		"two octets":      {raw: []byte{0xbc, 0}, err: ErrDependencyDescriptor},
		"base layer":      {raw: []byte{0xbd, 0, 8}, want: DependencyDescriptor{Start: true, Template: 61, FrameNumber: 8, NumDiffs: 1, SwitchUp: 2}},
		"middle layer":    {raw: []byte{0x7e, 1, 0}, want: DependencyDescriptor{End: true, Template: 62, FrameNumber: 256, TID: 1, NumDiffs: 1, SwitchUp: 2}},
		"highest layer":   {raw: []byte{0xff, 0, 9}, want: DependencyDescriptor{Start: true, End: true, Template: 63, FrameNumber: 9, TID: 2, NumDiffs: 1, Discardable: true}},
		"wrapped ID":      {raw: []byte{0xc0, 0, 9}, want: DependencyDescriptor{Start: true, End: true, FrameNumber: 9, TID: 2, NumDiffs: 1, Discardable: true}},
		"unknown ID":      {raw: []byte{0xc1, 0, 9}, err: errNoStructure},
		"extended, empty": {raw: []byte{0xff, 0, 9, 0}, want: DependencyDescriptor{Start: true, End: true, Template: 63, FrameNumber: 9, TID: 2, NumDiffs: 1, Discardable: true}},
		"active targets": {
			raw:  mandatory(true, true, 61, 9).put(5, 0b01000).put(3, 0b011).b,
			want: DependencyDescriptor{Start: true, End: true, Template: 61, FrameNumber: 9, HasActive: true, Active: 0b011, NumDiffs: 1, SwitchUp: 2},
		},
		"all of its own": { // DTIs, two differences of 4 and 12 bits, one chain
			raw:  mandatory(true, true, 62, 9).put(5, 0b00111).symbols("-RD").put(2, 1).put(4, 1).put(2, 3).put(12, 300).put(2, 0).put(8, 3).b,
			want: DependencyDescriptor{Start: true, End: true, Template: 62, FrameNumber: 9, TID: 1, NumDiffs: 2},
		},
		"cut":             {raw: mandatory(true, true, 62, 9).put(5, 0b00100).b, err: ErrDependencyDescriptor},
		"endless":         {raw: endless(), err: ErrDependencyDescriptor},
		"structure cut":   {raw: l1t3(3).b[:12], err: ErrDependencyDescriptor},
		"too many layers": {raw: mandatory(true, true, 0, 3).put(5, 0b10000).put(6, 0).put(5, 0).put(8, 0b10101010).put(2, 3).b, err: ErrDependencyDescriptor},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := r.Parse(tc.raw)
			require.ErrorIs(t, err, tc.err)
			if err == nil {
				require.Equal(t, tc.want, got)
			}
			require.Equal(t, 5, r.Structure().Templates, "what makes no sense changes nothing")
		})
	}
}

func TestDependencyDescriptorSpatial(t *testing.T) {
	var r DependencyReader
	d, err := r.Parse(spatial(0).b)
	require.NoError(t, err)
	require.True(t, d.Keyframe())
	s := r.Structure()
	require.Equal(t, 2, s.Spatials)
	require.Equal(t, 2, s.Temporals)
	require.Equal(t, []PictureSize{{320, 180}, {640, 360}}, s.Sizes[:2])
	for raw, want := range map[[3]byte]DependencyDescriptor{
		{0xc1, 0, 4}: {Start: true, End: true, Template: 1, FrameNumber: 4, NumDiffs: 1, SwitchUp: 1},
		{0xc3, 0, 1}: {Start: true, End: true, Template: 3, FrameNumber: 1, SID: 1, NumDiffs: 1, SwitchUp: 1},
		{0xc5, 0, 3}: {Start: true, End: true, Template: 5, FrameNumber: 3, SID: 1, TID: 1, NumDiffs: 1, Discardable: true},
	} {
		d, err := r.Parse(raw[:])
		require.NoError(t, err)
		require.Equal(t, want, d)
		require.False(t, d.Keyframe())
	}
}

// The non-symmetric code of AV1 bitstream §4.10.7: of five values three take two bits, two take three.
func TestBitsBelow(t *testing.T) {
	for want, bits := range []string{"00", "01", "10", "110", "111"} {
		w := new(bitWriter)
		for _, b := range bits {
			w.put(1, uint32(b-'0'))
		}
		r := bitReader{b: w.b}
		require.EqualValues(t, want, r.below(5))
		require.Equal(t, len(bits), r.at)
	}
}

func FuzzDependencyDescriptor(f *testing.F) {
	f.Add(l1t3(7).b, []byte{0xbd, 0, 8})
	f.Add(spatial(7).b, []byte{0xc4, 0, 8})
	f.Add(l1t3(7).b, mandatory(true, true, 62, 9).put(5, 0b00111).symbols("-RD").put(2, 1).put(4, 1).put(2, 0).put(8, 3).b)
	f.Fuzz(func(t *testing.T, first, second []byte) {
		var r DependencyReader
		for _, raw := range [][]byte{first, second} {
			d, err := r.Parse(raw)
			s := r.Structure()
			if err != nil {
				continue
			}
			if s == nil || s.Templates < 1 || s.Templates > ddMaxTemplates || s.Targets > ddMaxTargets || s.Chains > s.Targets {
				t.Fatalf("%+v", s)
			}
			if int(d.SID) >= s.Spatials || int(d.TID) >= s.Temporals || int(d.SwitchUp) >= s.Temporals || d.NumDiffs > ddMaxDiffs {
				t.Fatalf("%+v of %+v", d, s)
			}
			again, err := r.Parse(raw)
			if err != nil || again != d {
				t.Fatalf("%+v became %+v (%v)", d, again, err)
			}
		}
	})
}

func TestLayerParsersAllocs(t *testing.T) {
	var r DependencyReader
	structure, frame := l1t3(7).b, []byte{0xbd, 0, 8}
	vp9 := []byte{0xba, 0x80, 0x01, 0x00, 0x50, 1, 64, 0, 180, 2, 128, 1, 104, 5, 0, 2, 208}
	av1 := []byte{0x28, 2, 0x08, 0, 0x34, 0x48, 1}
	require.Zero(t, testing.AllocsPerRun(100, func() {
		_, _ = r.Parse(structure)
		_, _ = r.Parse(frame)
		_, _ = ParseVP9(vp9)
		_, _ = ParseAV1(av1)
	}))
}
