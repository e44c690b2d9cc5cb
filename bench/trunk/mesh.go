package trunk

import (
	"context"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/meridian-sfu/meridian/internal/mesh"
	"github.com/meridian-sfu/meridian/internal/meshnet"
)

// credentials are a node's certificate under the throw-away CA of a bench.
type credentials struct {
	CA   []byte `json:"ca"`
	Cert []byte `json:"cert"`
	Key  []byte `json:"key"`
}

func issue(ca *meshnet.CA, id mesh.NodeID) (credentials, error) {
	cert, key, err := ca.Issue(id, 24*time.Hour)
	if err != nil {
		return credentials{}, fmt.Errorf("trunk: certificate of %s: %w", id, err)
	}
	return credentials{CA: ca.CertPEM(), Cert: cert, Key: key}, nil
}

// network makes a node's meshnet over a wire. It answers peers once run is called.
func (j *job) network(w *wire, log *slog.Logger) (*meshnet.Network, error) {
	id, err := meshnet.NewIdentity(j.Credentials.CA, j.Credentials.Cert, j.Credentials.Key)
	if err != nil {
		return nil, err
	}
	return meshnet.New(meshnet.DefaultConfig(), id, w.UDPConn, log, nil)
}

// background runs a component until it is stopped.
type background struct {
	cancel context.CancelFunc
	wg     sync.WaitGroup
}

func (b *background) start(ctx context.Context, run func(context.Context) error) {
	ctx, b.cancel = context.WithCancel(ctx)
	b.wg.Go(func() { _ = run(ctx) }) // what ends early is missed by ready, or by the meter
}

func (b *background) stop() {
	b.cancel()
	b.wg.Wait()
}

// waitFor returns when ready does, or with what was missing when ctx ends.
func waitFor(ctx context.Context, ready func() (missing string)) error {
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for {
		missing := ready()
		if missing == "" {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("%w: waiting for %s", context.Cause(ctx), missing)
		case <-tick.C:
		}
	}
}
