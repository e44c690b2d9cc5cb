package rtpstream

import "strings"

// DependencyDescriptorURI names the header extension of dependency descriptors in SDP.
const DependencyDescriptorURI = "https://aomediacodec.github.io/av1-rtp-spec/#dependency-descriptor-rtp-header-extension"

// MaxSpatial is how many spatial layers a stream may have.
const MaxSpatial = vp9MaxSpatial

// Structure is what a stream tells of its spatial layers.
type Structure struct {
	Spatials int // 1 to MaxSpatial
	HasSizes bool
	Sizes    [MaxSpatial]PictureSize // by spatial layer
}

type codec uint8

const (
	codecOther codec = iota
	codecVP8
	codecVP9
	codecAV1
	codecH264
)

func codecOf(mime string) codec {
	_, name, _ := strings.Cut(mime, "/")
	switch strings.ToUpper(name) {
	case "VP8":
		return codecVP8
	case "VP9":
		return codecVP9
	case "AV1":
		return codecAV1
	case "H264":
		return codecH264
	}
	return codecOther
}

// Structure is what the stream has told of its spatial layers so far, or nil. It is not to be changed.
func (s *Stream) Structure() *Structure { return s.structure.Load() }

// Describe sets the layer fields of a packet of video by what it says itself: its payload descriptor where that says it
// all (VP8, VP9), else its dependency descriptor, else what of the payload can be read. A producer that reads from a
// client calls it before Write.
func (s *Stream) Describe(p *Packet) {
	switch payload := p.Payload(); {
	case s.source.Info.Audio || len(payload) == 0:
	case s.codec == codecVP8:
		p.MarkVP8()
	case s.codec == codecVP9:
		s.describeVP9(p, payload)
	case s.describeDependencies(p):
	case s.codec == codecAV1:
		s.describeAV1(p, payload)
	case s.codec == codecH264:
		p.Keyframe = h264Keyframe(payload)
	}
}

// Complete is Describe for a producer that knows keyframes and layers already: it sets the other fields only.
func (s *Stream) Complete(p *Packet) {
	keyframe, spatial, temporal := p.Keyframe, p.Spatial, p.Temporal
	s.Describe(p)
	p.Keyframe, p.Spatial, p.Temporal = keyframe, spatial, temporal
	s.knowSpatial(spatial)
}

func (s *Stream) describeVP9(p *Packet, payload []byte) {
	d, err := ParseVP9(payload)
	if err != nil {
		return
	}
	p.Described, p.Keyframe = true, d.Keyframe()
	p.FrameStart, p.FrameEnd = d.Start, d.End
	if d.HasLayers {
		p.Spatial, p.Temporal = d.SID, d.TID
		if d.SwitchUp && d.TID > 0 { // encoders mean: predicted from lower temporal layers alone
			p.RiseFrom, p.RiseTo = d.TID-1, d.TID
		}
	}
	if d.HasStructure {
		s.know(Structure{Spatials: int(d.Structure.Spatials), HasSizes: d.Structure.HasSizes, Sizes: d.Structure.Sizes})
	}
	s.knowSpatial(p.Spatial)
}

// describeDependencies reports whether there was a dependency descriptor that could be read.
func (s *Stream) describeDependencies(p *Packet) bool {
	if s.dependencies == nil {
		return false
	}
	raw := p.Extension(s.source.Info.DependencyDescriptor)
	if raw == nil {
		return false
	}
	d, err := s.dependencies.Parse(raw)
	if err != nil {
		return false
	}
	p.Described, p.Keyframe = true, d.Keyframe()
	p.FrameStart, p.FrameEnd, p.Discardable = d.Start, d.End, d.Discardable
	p.Spatial, p.Temporal = d.SID, d.TID
	p.RiseFrom, p.RiseTo = d.TID, d.SwitchUp
	if d.HasStructure {
		now := s.dependencies.Structure()
		fresh := Structure{Spatials: now.Spatials, HasSizes: now.HasSizes}
		copy(fresh.Sizes[:], now.Sizes[:])
		s.know(fresh)
	}
	return true
}

func (s *Stream) describeAV1(p *Packet, payload []byte) {
	a, err := ParseAV1(payload)
	if err != nil {
		return
	}
	p.Keyframe = a.NewSequence
	if a.HasLayers {
		p.Spatial, p.Temporal = a.SID, a.TID
		s.knowSpatial(a.SID)
	}
}

// know takes what a keyframe tells of the stream.
func (s *Stream) know(fresh Structure) {
	if old := s.structure.Load(); old == nil || *old != fresh {
		s.structure.Store(&fresh)
	}
}

// knowSpatial takes a layer seen, where nothing was told.
func (s *Stream) knowSpatial(spatial uint8) {
	if old := s.structure.Load(); spatial < MaxSpatial && spatial > 0 && (old == nil || old.Spatials <= int(spatial)) {
		s.structure.Store(&Structure{Spatials: int(spatial) + 1})
	}
}
