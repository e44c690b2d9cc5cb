package cascade

import "time"

// flowIDs hands out the numbers of the flows this node opens on one link, small ones first. Peer's goroutine only.
type flowIDs struct {
	next  uint32 // 1 is the first
	limit int
	open  int
	freed []freedID // oldest first
}

type freedID struct {
	id uint32
	at time.Duration
}

func (f *flowIDs) take(now time.Duration) (uint32, bool) {
	if f.open >= f.limit {
		return 0, false
	}
	if len(f.freed) > 0 && now-f.freed[0].at >= flowQuarantine {
		id := f.freed[0].id
		f.freed = f.freed[1:]
		f.open++
		return id, true
	}
	if f.next+1 >= maxFlowIDs {
		return 0, false
	}
	f.next++
	f.open++
	return f.next, true
}

func (f *flowIDs) give(id uint32, now time.Duration) {
	f.open--
	f.freed = append(f.freed, freedID{id, now})
}
