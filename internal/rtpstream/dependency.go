package rtpstream

import "errors"

// ErrDependencyDescriptor is a dependency descriptor that makes no sense.
var ErrDependencyDescriptor = errors.New("rtpstream: dependency descriptor makes no sense")

// errNoStructure is a dependency descriptor that builds on a structure that was not seen.
var errNoStructure = errors.New("rtpstream: dependency descriptor of an unknown structure")

// Bounds of dependency structures: what the fields can say, and of spatial layers what AV1 has.
const (
	ddMaxTemplates = 64
	ddMaxTargets   = 32
	ddMaxSpatial   = 4
	ddMaxTemporal  = 8
	ddMaxDiffs     = 15 // more than a decoder has frames
)

// DependencyReader reads the dependency descriptors of one stream. Such a descriptor tells what a frame is predicted from
// and what it is good for, in an RTP header extension, whatever the codec and however its payload is encrypted.
//
//	 0                   1                   2
//	 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1 2 3
//	+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
//	|S|E| template  |         frame number          |
//	+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
//	|T|A|D|F|C| [structure] [active decode targets]
//	+-+-+-+-+-+  [DTIs] [frame differences] [chain differences]   nothing is aligned
//
// A structure comes with keyframes and lists templates; frames then name one of them. RTP Payload Format For AV1,
// appendix A.8.
//
// The zero value is ready. It is of one goroutine.
type DependencyReader struct {
	known     bool
	structure DependencyStructure
	next      DependencyStructure // where one is read before it is believed
}

// DependencyStructure is what frames are described by.
type DependencyStructure struct {
	Templates int // 1 to 64
	Targets   int // decode targets, 1 to 32
	Chains    int // 0 to 32
	Spatials  int // 1 to 4
	Temporals int // 1 to 8
	HasSizes  bool
	Sizes     [ddMaxSpatial]PictureSize // by spatial layer

	offset  uint8                         // template ID of the first template
	layers  [ddMaxTemplates]templateLayer // by template, as all below
	dtis    [ddMaxTemplates]uint64        // decode target indications, two bits each, that of target 0 lowest
	diffs   [ddMaxTemplates]uint8         // how many frames one is predicted from
	targets [ddMaxTargets]templateLayer   // the highest layers of each decode target
}

type templateLayer struct{ spatial, temporal uint8 }

// What a frame is to a decode target (decode target indication).
const (
	dtiAbsent = iota
	dtiDiscardable
	dtiSwitch
	dtiRequired
)

// DependencyDescriptor is what is told of one packet and its frame.
type DependencyDescriptor struct {
	Start, End   bool // first and last packet of the frame
	Template     uint8
	FrameNumber  uint16
	HasStructure bool // a new structure came with it: see DependencyReader.Structure
	SID, TID     uint8
	Active       uint32 // decode targets that go on being sent, bit for bit; with HasActive
	HasActive    bool
	NumDiffs     int   // frames it is predicted from
	SwitchUp     uint8 // with this frame, when it can be decoded, temporal layers up to this one can begin; 0 is none
	Discardable  bool  // nothing of any decode target is predicted from it
}

// Structure is the one of the latest descriptor that brought one, or nil. It changes with the next.
func (r *DependencyReader) Structure() *DependencyStructure {
	if !r.known {
		return nil
	}
	return &r.structure
}

// Parse reads one descriptor. A structure in it holds from here on, but only when all of the descriptor makes sense.
// Without a structure that its template is of it returns an error, and the mandatory fields alone.
func (r *DependencyReader) Parse(b []byte) (d DependencyDescriptor, err error) {
	if len(b) < 3 {
		return d, ErrDependencyDescriptor
	}
	in := bitReader{b: b}
	d.Start, d.End = in.flag(), in.flag()
	d.Template, d.FrameNumber = uint8(in.take(6)), uint16(in.take(16))
	s := &r.structure
	var customDTIs, customDiffs, customChains bool
	if len(b) > 3 {
		d.HasStructure, d.HasActive = in.flag(), in.flag()
		customDTIs, customDiffs, customChains = in.flag(), in.flag(), in.flag()
		if d.HasStructure {
			s = &r.next
			if !s.parse(&in) {
				return d, ErrDependencyDescriptor
			}
			d.Active = uint32(uint64(1)<<s.Targets - 1)
		}
	}
	if !d.HasStructure && !r.known {
		return d, errNoStructure
	}
	if d.HasActive {
		d.Active = in.take(s.Targets)
	}
	t := int(d.Template-s.offset) & (ddMaxTemplates - 1)
	if t >= s.Templates {
		return d, errNoStructure
	}
	d.SID, d.TID = s.layers[t].spatial, s.layers[t].temporal
	dtis := s.dtis[t]
	if customDTIs {
		dtis = s.takeDTIs(&in)
	}
	d.NumDiffs = int(s.diffs[t])
	if customDiffs {
		d.NumDiffs = 0
		for size := in.take(2); size != 0 && d.NumDiffs <= ddMaxDiffs; size = in.take(2) {
			in.take(4 * int(size))
			d.NumDiffs++
		}
	}
	if customChains {
		for range s.Chains {
			in.take(8)
		}
	}
	if in.past || d.NumDiffs > ddMaxDiffs {
		return d, ErrDependencyDescriptor
	}
	d.SwitchUp, d.Discardable = s.means(dtis, d.SID)
	if d.HasStructure {
		r.structure, r.known = *s, true
	}
	return d, nil
}

// Keyframe reports whether the packet is the first of a picture that a decoder can start at.
func (d *DependencyDescriptor) Keyframe() bool { return d.Start && d.SID == 0 && d.NumDiffs == 0 }

// parse reads a structure and reports whether it makes sense.
//
//	template ID offset 6 · decode targets − 1: 5 · templates' layers: 2 each · DTIs: 2 for each template and target
//	· frame differences: (1 4)* 1 for each template · chains · sizes: 1, and with it 16 16 for each spatial layer
//
// RTP Payload Format For AV1, appendix A.8.2.
func (s *DependencyStructure) parse(in *bitReader) bool {
	*s = DependencyStructure{offset: uint8(in.take(6)), Targets: int(in.take(5)) + 1, Spatials: 1, Temporals: 1}
	at := templateLayer{}
	for next := uint32(0); next != 3; {
		if s.Templates == ddMaxTemplates || at.spatial >= ddMaxSpatial || at.temporal >= ddMaxTemporal {
			return false
		}
		s.layers[s.Templates] = at
		s.Templates++
		s.Spatials, s.Temporals = max(s.Spatials, int(at.spatial)+1), max(s.Temporals, int(at.temporal)+1)
		switch next = in.take(2); next {
		case 1:
			at.temporal++
		case 2:
			at = templateLayer{spatial: at.spatial + 1}
		}
	}
	for t := range s.Templates {
		s.dtis[t] = s.takeDTIs(in)
		for d := range s.Targets {
			if s.dtis[t]>>(2*d)&3 != dtiAbsent {
				l := &s.targets[d]
				l.spatial, l.temporal = max(l.spatial, s.layers[t].spatial), max(l.temporal, s.layers[t].temporal)
			}
		}
	}
	for t := range s.Templates {
		for in.flag() {
			if s.diffs[t] == ddMaxDiffs {
				return false
			}
			in.take(4)
			s.diffs[t]++
		}
	}
	if s.Chains = int(in.below(uint32(s.Targets) + 1)); s.Chains > 0 {
		for range s.Targets {
			in.below(uint32(s.Chains)) // which chain protects the target
		}
		for range s.Templates * s.Chains {
			in.take(4)
		}
	}
	if s.HasSizes = in.flag(); s.HasSizes {
		for l := range s.Spatials {
			s.Sizes[l] = PictureSize{plusOne(in.take(16)), plusOne(in.take(16))}
		}
	}
	return !in.past
}

// plusOne is a size of which one less was told.
func plusOne(v uint32) uint16 { return uint16(min(v+1, 1<<16-1)) }

// takeDTIs reads a decode target indication for each target.
func (s *DependencyStructure) takeDTIs(in *bitReader) (all uint64) {
	for d := range s.Targets {
		all |= uint64(in.take(2)) << (2 * d)
	}
	return all
}

// means tells what a frame of a spatial layer is good for. Targets without that layer have nothing to do with it.
func (s *DependencyStructure) means(dtis uint64, spatial uint8) (switchUp uint8, discardable bool) {
	discardable = true
	for d := range s.Targets {
		switch dtis >> (2 * d) & 3 {
		case dtiSwitch:
			discardable = false
			if s.targets[d].spatial == spatial {
				switchUp = max(switchUp, s.targets[d].temporal)
			}
		case dtiRequired:
			discardable = false
		}
	}
	return switchUp, discardable
}
