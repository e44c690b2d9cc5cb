package cascade

// Limits of what repair may take.
const (
	budgetPercent = 27        // bytes of repair to bytes of media: parity, copies of audio and retransmissions
	budgetAudio   = 120       // … or to bytes of audio, where that is more
	budgetStart   = 16 << 10  // bytes that may be spent before any are earned, and saved up at least
	budgetMax     = 160 << 10 // … and at most: in between, what about a second earns
	budgetKeep    = 0.9       // of what was earned, a round later
	budgetEven    = 8 << 10   // bytes over which the two shares are compared
	budgetPlenty  = 0.5       // of what may be saved up: with less, parity is planned leaner
)

// repairKind is what bytes are wanted for. When they are short, the lower kinds yield first.
type repairKind uint8

const (
	repairParity repairKind = iota
	repairAgain             // second copies of retransmissions
	repairVideo             // its retransmissions
	repairCopy              // of audio
	repairAudio             // its retransmissions
	numRepairKinds
)

// budgetLeft is the share of what may be saved up that each kind leaves to those above it. Audio that was lost may owe.
var budgetLeft = [numRepairKinds]float64{0.25, 0.1875, 0.125, 0.0625, -0.2}

// repairBudget is a token bucket which everything that is sent to make up for losses asks before it leaves. Nothing it
// gave away is ever forgotten. It has no lock and no clock.
type repairBudget struct {
	bytes  float64 // that may be spent; less than none where audio owes
	most   float64 // that may be saved up
	recent float64 // earned of late, in about a second
	earned float64 // since the latest round
	behind float64 // bytes that audio would have earned by its own share less those that all media did; none or less
}

func newRepairBudget() repairBudget { return repairBudget{bytes: budgetStart, most: budgetStart} }

// earn takes media that leaves.
func (b *repairBudget) earn(bytes int, audio bool) {
	n := float64(bytes) * budgetPercent / 100
	b.behind = max(b.behind-n, -budgetEven)
	if audio {
		b.behind += float64(bytes) * budgetAudio / 100
	}
	if b.behind > 0 {
		n, b.behind = n+b.behind, 0
	}
	b.earned += n
	b.bytes = min(b.bytes+n, b.most)
}

// round follows the rate of the media; called ten times a second.
func (b *repairBudget) round() {
	b.recent, b.earned = b.recent*budgetKeep+b.earned, 0
	b.most = min(max(b.recent, budgetStart), budgetMax)
	b.bytes = min(b.bytes, b.most)
}

// allows reports whether bytes may leave.
func (b *repairBudget) allows(kind repairKind, bytes int) bool {
	return b.bytes-float64(bytes) >= budgetLeft[kind]*b.most
}

// ask takes the bytes if they may leave.
func (b *repairBudget) ask(kind repairKind, bytes int) bool {
	if !b.allows(kind, bytes) {
		return false
	}
	b.bytes -= float64(bytes)
	return true
}

// thrift is the share of parity's bytes that is to be saved because they become short, 0 to 1: all before the last
// symbol would be refused.
func (b *repairBudget) thrift() float64 {
	least := budgetLeft[repairParity]
	return min(max((budgetPlenty-b.bytes/b.most)/(budgetPlenty-least), 0), 1)
}
