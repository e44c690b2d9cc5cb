//go:build !linux

package fairness

import (
	"context"
	"errors"
	"net"
	"net/netip"
)

var errPlatform = errors.New("fairness: network namespaces are a feature of Linux")

func dialTCP(context.Context, netip.AddrPort, string) (*net.TCPConn, error) { return nil, errPlatform }
func canControl(string) error                                               { return errPlatform }
func inspect(*net.TCPConn) (tcpSample, error)                               { return tcpSample{}, errPlatform }
