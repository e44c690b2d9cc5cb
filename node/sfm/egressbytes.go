package sfm

// EgressBytes is how many bytes of RTP were given to clients so far. Safe for concurrent use.
func (s *SFM) EgressBytes() uint64 {
	return s.metrics.audioOut.total.Load() + s.metrics.videoOut.total.Load()
}
