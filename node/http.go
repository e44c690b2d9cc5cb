package node

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"strings"
	"time"

	"github.com/meridian-sfu/meridian/node/signal"
	"github.com/meridian-sfu/meridian/web"
)

// buildHTTP binds the port and lays out who answers which path: signalling, the API, else the page.
func (n *Node) buildHTTP() (err error) {
	lc := net.ListenConfig{}
	if n.listener, err = lc.Listen(context.Background(), "tcp", n.cfg.HTTP.Listen.String()); err != nil {
		return fmt.Errorf("node: http.listen: %w (is another program using the port?)", err)
	}
	mux := http.NewServeMux()
	for _, path := range n.api.Paths() {
		mux.Handle(path, n.api.Handler())
	}
	page := http.FileServerFS(web.FS())
	mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		if r.Method != http.MethodGet && r.Method != http.MethodHead {
			http.Error(w, "method not allowed", http.StatusMethodNotAllowed)
			return
		}
		h := w.Header()
		h.Set("Access-Control-Allow-Origin", "*") // clients look at / to see whether the server is there
		h.Set("Content-Security-Policy", "default-src 'self'; connect-src *; img-src 'self' data: blob:; media-src 'self' blob:; "+
			"style-src 'self' 'unsafe-inline'; worker-src 'self' blob:; frame-ancestors 'self'")
		h.Set("X-Content-Type-Options", "nosniff")
		h.Set("Referrer-Policy", "no-referrer")
		if strings.HasPrefix(r.URL.Path, "/assets/") {
			h.Set("Cache-Control", "public, max-age=31536000, immutable") // their names carry a hash of their content
		} else {
			h.Set("Cache-Control", "no-cache")
		}
		page.ServeHTTP(w, r)
	})
	n.http = &http.Server{
		Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if signal.Handles(r.URL.Path) {
				n.signal.ServeHTTP(w, r)
				return
			}
			mux.ServeHTTP(w, r)
		}),
		ReadHeaderTimeout: 10 * time.Second,
		IdleTimeout:       2 * time.Minute,
		MaxHeaderBytes:    64 << 10,
	}
	return nil
}

func (n *Node) runHTTP(ctx context.Context) error {
	served := make(chan error, 1)
	go func() { served <- n.http.Serve(n.listener) }()
	select {
	case err := <-served:
		return err
	case <-ctx.Done():
	}
	stop, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
	defer cancel()
	if err := n.http.Shutdown(stop); err != nil {
		_ = n.http.Close()
	}
	if err := <-served; !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}
