package testnet

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"io"
	"math/big"
	"net"
	"net/netip"
	"testing"
	"testing/synctest"
	"time"

	"github.com/quic-go/quic-go"
	"github.com/stretchr/testify/require"
)

func serverTLS(t *testing.T) *tls.Config {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour), DNSNames: []string{"node"}}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	require.NoError(t, err)
	return &tls.Config{
		Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}},
		NextProtos:   []string{"echo"}, MinVersion: tls.VersionTLS13,
	}
}

// echo runs one QUIC connection between two sockets: a stream there and back.
func echo(t *testing.T, client, server net.PacketConn) (handshake time.Duration) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	serverSide := &quic.Transport{Conn: server}
	defer func() { _ = serverSide.Close() }()
	ln, err := serverSide.Listen(serverTLS(t), nil)
	require.NoError(t, err)
	go func() {
		conn, err := ln.Accept(ctx)
		if err != nil {
			return
		}
		stream, err := conn.AcceptStream(ctx)
		if err != nil {
			return
		}
		_, _ = io.Copy(stream, stream)
		_ = stream.Close()
	}()
	clientSide := &quic.Transport{Conn: client}
	defer func() { _ = clientSide.Close() }()
	start := time.Now()
	conn, err := clientSide.Dial(ctx, server.LocalAddr(),
		&tls.Config{InsecureSkipVerify: true, NextProtos: []string{"echo"}, ServerName: "node"}, nil) // #nosec G402 -- a test
	require.NoError(t, err)
	handshake = time.Since(start)
	stream, err := conn.OpenStreamSync(ctx)
	require.NoError(t, err)
	payload := make([]byte, 100_000)
	for i := range payload {
		payload[i] = byte(i * 7)
	}
	go func() {
		_, _ = stream.Write(payload)
		_ = stream.Close()
	}()
	got, err := io.ReadAll(stream)
	require.NoError(t, err)
	require.Equal(t, payload, got)
	require.NoError(t, conn.CloseWithError(0, ""))
	_ = ln.Close()
	return handshake
}

func TestQUICOverSwitch(t *testing.T) {
	for name, link := range map[string]Link{
		"50 ms":         {Delay: 50 * time.Millisecond},
		"50 ms, losses": {Delay: 50 * time.Millisecond, Jitter: 5 * time.Millisecond, Loss: 0.03, Burst: 2, Rate: 20_000_000},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := NewSwitch(3)
				defer func() { require.NoError(t, s.Close()) }()
				require.NoError(t, s.SetDefault(link))
				took := echo(t, listen(t, s, hostA), listen(t, s, hostB))
				require.GreaterOrEqual(t, took, 100*time.Millisecond) // one round trip on the bubble's clock
			})
		})
	}
}

func TestQUICOverDelayConn(t *testing.T) {
	var conns [2]*DelayConn
	for i := range conns {
		pc, err := net.ListenUDP("udp", net.UDPAddrFromAddrPort(netip.MustParseAddrPort("127.0.0.1:0")))
		require.NoError(t, err)
		conns[i] = NewDelayConn(pc, uint64(i))
		defer func() { _ = conns[i].Close() }()
	}
	for i := range conns {
		other, _ := addrPort(conns[1-i].LocalAddr())
		require.NoError(t, conns[i].Set(other, Link{Delay: 50 * time.Millisecond}))
	}
	require.GreaterOrEqual(t, echo(t, conns[0], conns[1]), 100*time.Millisecond)
}
