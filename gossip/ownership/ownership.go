package ownership

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/hashicorp/raft"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/meridian-sfu/meridian/internal/mesh"
)

const (
	transferTimeout = time.Second // for handing leadership over when this node stops
	raftRPCTimeout  = 5 * time.Second
)

// Ownership is one node's part in the group that knows which node owns which room. All methods but Run may be called
// from any goroutine at any time.
type Ownership struct {
	cfg  Config
	deps Deps
	log  *slog.Logger
	m    *metrics
	self mesh.NodeID

	store     *store
	fsm       *fsm
	view      *view
	layer     *streamLayer
	proposals chan proposal
	committed chan committing
	slots     chan struct{} // one per service stream being served
	begun     chan struct{} // closed when Raft runs
	closeOnce sync.Once
	closeErr  error

	mu       sync.Mutex
	raft     *raft.Raft      // guarded by mu; nil until Run
	ctx      context.Context // guarded by mu; of all goroutines; nil until Run
	started  bool            // guarded by mu
	stopping bool            // guarded by mu; no goroutine may be added
	cluster  string          // guarded by mu; the group this node is in or watches
	bound    string          // guarded by mu; the group the data folder is bound to
	waiting  bool            // guarded by mu; it would start a group if nobody else does
	attached bool            // guarded by mu; the view is fed by this node's own fsm
	remote   groupInfo       // guarded by mu; what the voter this node watches said last
	lastLead mesh.NodeID     // guarded by mu; for the log
	wg       sync.WaitGroup  // every goroutine; added to under mu or in Run
}

// New opens the data folder and registers at the network, which must not run yet. It starts nothing. Its errors name
// the data folder when that is missing, damaged or in use by another process. A caller that never calls Run calls Close.
func New(cfg Config, deps Deps, log *slog.Logger, reg prometheus.Registerer) (*Ownership, error) {
	if err := errors.Join(cfg.Validate(), deps.validate()); err != nil {
		return nil, fmt.Errorf("ownership: config: %w", err)
	}
	m, err := newMetrics(reg)
	if err != nil {
		return nil, err
	}
	st, err := openStore(cfg.DataDir, log)
	if err != nil {
		return nil, err
	}
	o := &Ownership{
		cfg: cfg, deps: deps, log: log, m: m, self: deps.Net.NodeID(),
		store: st, view: newView(),
		proposals: make(chan proposal),
		committed: make(chan committing, maxInFlight),
		slots:     make(chan struct{}, maxServiceStreams),
		begun:     make(chan struct{}),
		cluster:   st.cluster,
		bound:     st.cluster,
	}
	o.fsm = newFSM(func(err error) {
		m.undecodable.Inc()
		log.Error("log entry of another release ignored", "err", err)
	})
	o.layer = newStreamLayer(deps.Net, deps.Members)
	o.layer.cluster, o.layer.join, o.layer.refused = o.clusterID, o.bind, o.refuse
	deps.Net.HandleRaft(o.layer.handle)
	deps.Net.HandleService(serviceName, o.serve)
	return o, nil
}

// Run takes part until ctx ends, then hands leadership over if it has it, and returns after the last goroutine. It
// returns nil after ctx ended, an error wrapping ErrForeignCluster when the data folder belongs to a group that lost
// against the mesh's (see doc.go), or what kept Raft from starting. It may be called once.
func (o *Ownership) Run(ctx context.Context) error {
	loops, cancel := context.WithCancelCause(context.WithoutCancel(ctx))
	defer cancel(nil)
	o.mu.Lock()
	if o.started {
		o.mu.Unlock()
		return errors.New("ownership: Run was called before")
	}
	o.started = true
	o.mu.Unlock()

	transport := raft.NewNetworkTransportWithConfig(&raft.NetworkTransportConfig{
		Stream: o.layer, MaxPool: raftPoolPerPeer, Timeout: raftRPCTimeout, Logger: newHCLog(o.log),
	})
	r, err := raft.NewRaft(o.raftConfig(), o.fsm, o.store.logs, o.store.bolt, o.store.snapshots, transport)
	if err != nil {
		return errors.Join(fmt.Errorf("ownership: start raft from %s: %w", o.store.dir, err),
			o.layer.Close(), transport.Close(), o.Close())
	}
	o.mu.Lock()
	o.raft, o.ctx = r, loops
	for _, loop := range []func(context.Context){
		o.view.dispatch, o.sourceLoop, o.voterLoop, o.warmLoop, o.proposeLoop, o.commitLoop,
		func(ctx context.Context) {
			if err := o.clusterLoop(ctx); err != nil {
				cancel(err)
			}
		},
	} {
		o.wg.Go(func() { loop(loops) })
	}
	o.mu.Unlock()
	close(o.begun)

	select {
	case <-ctx.Done():
	case <-loops.Done(): // the cluster loop found a reason to stop
	}
	o.transferLeadership(r)
	cause := context.Cause(loops)
	cancel(nil)
	o.mu.Lock()
	o.stopping = true
	o.mu.Unlock()
	stopped := r.Shutdown()
	err = o.layer.Close()
	err = errors.Join(cause, err, stopped.Error(), transport.Close())
	o.wg.Wait()
	return errors.Join(err, o.Close())
}

// Close frees the data folder. Run does it by itself.
func (o *Ownership) Close() error {
	o.closeOnce.Do(func() { o.closeErr = o.store.close() })
	return o.closeErr
}

func (o *Ownership) raftConfig() *raft.Config {
	c := raft.DefaultConfig()
	c.LocalID = raft.ServerID(o.self)
	c.HeartbeatTimeout = o.cfg.HeartbeatTimeout
	c.ElectionTimeout = o.cfg.ElectionTimeout
	c.LeaderLeaseTimeout = o.cfg.LeaderLeaseTimeout
	c.CommitTimeout = o.cfg.CommitTimeout
	c.SnapshotThreshold = o.cfg.SnapshotThreshold
	c.TrailingLogs = o.cfg.SnapshotThreshold
	c.ShutdownOnRemove = false // a removed voter goes on as a watcher, and may be chosen again
	c.Logger = newHCLog(o.log)
	return c
}

// transferLeadership gives the group a new leader before this one goes, so that nobody waits for an election.
func (o *Ownership) transferLeadership(r *raft.Raft) {
	if r.State() != raft.Leader || len(votersOf(r)) < 2 {
		return
	}
	done := make(chan error, 1)
	o.wg.Go(func() { done <- r.LeadershipTransfer().Error() })
	timer := time.NewTimer(transferTimeout)
	defer timer.Stop()
	select {
	case err := <-done:
		if err != nil {
			o.log.Warn("leadership could not be handed over", "err", err)
		}
	case <-timer.C:
		o.log.Warn("leadership could not be handed over in time")
	}
}

// running returns Raft while Run runs.
func (o *Ownership) running() (*raft.Raft, context.Context, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.raft == nil || o.stopping {
		return nil, nil, ErrClosed
	}
	return o.raft, o.ctx, nil
}

func (o *Ownership) clusterID() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.cluster
}

func (o *Ownership) refuse(reason string) { o.m.refused.WithLabelValues(reason).Inc() }

// sleep waits for d and reports whether ctx still lasts.
func sleep(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}
