//go:build !linux || (!amd64 && !arm64)

package meshnet

import "net"

// newBatchSocket is nil where batches are not known.
func newBatchSocket(net.PacketConn, *sessions) directSocket { return nil }
