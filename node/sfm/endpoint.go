package sfm

import (
	"context"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/meridian-sfu/meridian/internal/mesh"
	"github.com/meridian-sfu/meridian/internal/rtpstream"
)

// maxCommands is how many commands may wait for an endpoint: far more than a sane client and room cause at once.
const maxCommands = 1024

// demandTick is how often falling demand is looked at.
const demandTick = 500 * time.Millisecond

// Endpoint is our end of one client: its peer connections, the sources it publishes and the ones it receives. Methods
// are safe for concurrent use; they enqueue and return.
type Endpoint struct {
	sfm *SFM
	cfg EndpointConfig
	h   Handler
	log *slog.Logger

	ctx      context.Context
	cancel   context.CancelCauseFunc
	wg       sync.WaitGroup
	done     chan struct{}
	commands chan func()
	demand   chan struct{} // capacity 1: some source's demand changed

	egress *egress

	reliable, lossy *outChannel

	// Owned by the loop.
	pub           *connection // of the client's media, or everything; nil before the first offer
	sub           *connection // of what we send; pub with a single peer connection
	publishing    *publishing
	subscriptions []*subscription // in the order asked for
	offers        offerState      // dual peer connection
	doubt         pathDoubt       // dual peer connection
	sections      sectionState    // single peer connection
	state         atomic.Uint32   // State; written by the loop
	connected     bool            // was once
	began         time.Time
}

func newEndpoint(s *SFM, cfg EndpointConfig, h Handler) *Endpoint {
	ctx, cancel := context.WithCancelCause(context.Background())
	e := &Endpoint{
		sfm: s, cfg: cfg, h: h, log: s.log.With("participant", string(cfg.ID)),
		ctx: ctx, cancel: cancel, done: make(chan struct{}), began: time.Now(),
		commands: make(chan func(), maxCommands), demand: make(chan struct{}, 1),
		publishing: newPublishing(),
	}
	e.egress = newEgress(s)
	e.reliable = newOutChannel(s.metrics, true)
	e.lossy = newOutChannel(s.metrics, false)
	return e
}

// run starts the endpoint's goroutines.
func (e *Endpoint) run() {
	e.wg.Go(e.loop)
	e.wg.Go(func() { e.egress.run(e.ctx) })
	go func() { // ends last: it waits for all others
		e.wg.Wait()
		e.sfm.ended(e)
		close(e.done)
	}()
}

// HandleOffer takes an offer of the client: on its publisher connection, or on the only one.
func (e *Endpoint) HandleOffer(d Description) { e.do(func() { e.handleOffer(d) }) }

// HandleAnswer takes the client's answer to our offer on the subscriber connection.
func (e *Endpoint) HandleAnswer(d Description) { e.do(func() { e.handleAnswer(d) }) }

// AddCandidate takes an RTCIceCandidateInit as JSON. It may come before the description it belongs to.
func (e *Endpoint) AddCandidate(t Target, candidateJSON string) {
	e.do(func() { e.addCandidate(t, candidateJSON) })
}

// Expect announces a source the client is going to publish, before or after the offer that holds it.
func (e *Endpoint) Expect(src mesh.Source) { e.do(func() { e.expect(src) }) }

// Unpublish takes nothing more of a source. Handler.Unpublished is not called.
func (e *Endpoint) Unpublish(id mesh.SourceID) { e.do(func() { e.unpublish(id) }) }

// Subscribe sends a source to the client. A second time for the same source replaces the first.
func (e *Endpoint) Subscribe(s Subscribe) { e.do(func() { e.subscribe(s) }) }

// Unsubscribe stops sending a source.
func (e *Endpoint) Unsubscribe(id mesh.SourceID) { e.do(func() { e.unsubscribe(id) }) }

// SetWanted says what the client wants of a source it is subscribed to.
func (e *Endpoint) SetWanted(id mesh.SourceID, w Wanted) { e.do(func() { e.setWanted(id, w) }) }

// SetPermission changes what the client may do from now on. What it may not do any more is for the caller to end.
func (e *Endpoint) SetPermission(publish, subscribe bool) {
	e.do(func() { e.setPermission(publish, subscribe) })
}

// RestartICE makes new ICE credentials for the subscriber connection. Clients restart the others themselves.
func (e *Endpoint) RestartICE() { e.do(e.restartICE) }

// CheckPath is RestartICE if nothing comes from the client within pathPatience: a client that lost its signalling alone
// keeps its media as it is.
func (e *Endpoint) CheckPath() { e.do(e.checkPath) }

// SendData sends one message on the client's reliable or lossy channel. Lossy messages are dropped when the client does
// not keep up or has no channel yet; reliable ones wait for the channel, within bounds. It returns ErrDataTooLarge,
// ErrClosed, or ErrSlowReader, after which the endpoint closes. The payload must not be changed afterwards.
func (e *Endpoint) SendData(reliable bool, payload []byte) error {
	if e.ctx.Err() != nil {
		return ErrClosed
	}
	c := e.lossy
	if reliable {
		c = e.reliable
	}
	err := c.send(payload)
	if err == ErrSlowReader { //nolint:errorlint // our own sentinel, never wrapped
		e.cancel(ErrSlowReader)
	}
	return err
}

// Stats returns what the endpoint did so far. It waits for the endpoint's goroutine, so a Handler must not call it.
func (e *Endpoint) Stats() EndpointStats {
	got := make(chan EndpointStats, 1)
	e.do(func() { got <- e.collectStats() })
	select {
	case s := <-got:
		return s
	case <-e.done:
		return EndpointStats{State: Failed}
	}
}

// Close ends the endpoint. It is idempotent and does not wait: see Done.
func (e *Endpoint) Close() { e.cancel(ErrClosed) }

// Done is closed after the endpoint's last goroutine ended.
func (e *Endpoint) Done() <-chan struct{} { return e.done }

// Err tells why the endpoint ended: ErrClosed after Close. It is nil before.
func (e *Endpoint) Err() error { return context.Cause(e.ctx) }

// do enqueues a command of our own program. A full queue ends the endpoint.
func (e *Endpoint) do(f func()) {
	select {
	case <-e.ctx.Done():
	case e.commands <- f:
	default:
		e.cancel(ErrOverloaded)
	}
}

// post enqueues an event of the connection, waiting for room: back-pressure for what the network sends.
func (e *Endpoint) post(f func()) {
	select {
	case <-e.ctx.Done():
	case e.commands <- f:
	}
}

func (e *Endpoint) loop() {
	defer e.shutdown()
	e.startNegotiation()
	tick := time.NewTicker(demandTick)
	defer tick.Stop()
	for {
		select {
		case <-e.ctx.Done():
			return
		case f := <-e.commands:
			f()
		case <-e.demand:
			e.tellDemand()
		case <-tick.C:
			e.tellDemand()
			e.judgePath()
		}
		// What several commands in a row ask for is negotiated once.
		if len(e.commands) == 0 && e.ctx.Err() == nil {
			e.settle()
		}
	}
}

// shutdown runs as the last thing of the loop.
func (e *Endpoint) shutdown() {
	for _, s := range e.subscriptions {
		s.sender.close()
	}
	for _, r := range e.publishing.bySource {
		r.close()
	}
	e.reliable.close()
	e.lossy.close()
	for _, c := range []*connection{e.pub, e.sub} {
		if c != nil {
			e.releasePath(c)
			_ = c.pc.Close() // closing twice is fine, and there is nobody to tell
		}
	}
}

func (e *Endpoint) setState(s State) {
	if State(e.state.Load()) == s {
		return
	}
	e.state.Store(uint32(s))
	e.sfm.metrics.states[s].Inc()
	if s == Connected && !e.connected {
		e.connected = true
		e.sfm.metrics.connect.Observe(time.Since(e.began).Seconds())
	}
	e.h.StateChanged(s)
}

func (e *Endpoint) collectStats() EndpointStats {
	out := EndpointStats{State: State(e.state.Load())}
	for id, r := range e.publishing.bySource {
		for i := range r.media.Info.Encodings {
			out.Published = append(out.Published, StreamStats{
				Source: id, Encoding: uint8(i), Stats: r.media.Stream(uint8(i)).Stats(),
			})
		}
	}
	for _, s := range e.subscriptions {
		stats, rtt := s.sender.stats()
		stats.Bound = s.transceiver != nil
		out.Subscriptions = append(out.Subscriptions, stats)
		if rtt > 0 {
			out.RTT = rtt
		}
	}
	return out
}

// demandChanged wakes the loop to look at the demand of its sources. It never blocks.
func (e *Endpoint) demandChanged() {
	select {
	case e.demand <- struct{}{}:
	default:
	}
}

// tellDemand tells the handler of changed demand.
func (e *Endpoint) tellDemand() {
	for _, r := range e.publishing.list {
		if r.source.Kind != mesh.Video {
			continue
		}
		d := r.media.Demand()
		if d.Encodings != 0 {
			// Clients cannot be told of layers. The smallest encoding is what others begin with.
			d = rtpstream.Everything(d.Encodings.With(0))
		}
		if d, changed := r.demand.update(d, e.sfm.now()); changed {
			e.h.DemandChanged(r.source.ID, d)
		}
	}
}

var _ rtpstream.Feedback = (*receiver)(nil)
