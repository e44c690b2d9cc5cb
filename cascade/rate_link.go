package cascade

import "time"

// reported takes what the peer says of what came.
func (l *link) reported(r rateReport, now time.Duration) {
	_, _ = r, now
}
