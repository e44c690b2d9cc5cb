package rtpstream

// AllEncodings is every encoding a source may have.
const AllEncodings EncodingSet = 1<<MaxEncodings - 1

// Limited is a sink that is told when Source.Available has changed, on the goroutine that changed it, which it must not
// hold up.
type Limited interface{ AvailableChanged() }

// Available is the encodings that can come. It is all of them unless the way here does not carry the larger ones for
// now: then consumers had better choose among those that can, and go on to say what they would rather have.
func (s *Source) Available() EncodingSet { return AllEncodings &^ EncodingSet(s.withheld.Load()) }

// SetAvailable is for the producer.
func (s *Source) SetAvailable(set EncodingSet) {
	withheld := uint32(AllEncodings &^ set)
	if s.withheld.Swap(withheld) == withheld {
		return
	}
	s.mu.Lock()
	subs := append([]*Subscription(nil), s.subs...)
	s.mu.Unlock()
	for _, sub := range subs {
		if l, ok := sub.sink.(Limited); ok {
			l.AvailableChanged()
		}
	}
}
