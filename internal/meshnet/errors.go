package meshnet

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"net"

	"github.com/quic-go/quic-go"
)

// Errors callers branch on. They are wrapped: test with errors.Is.
var (
	// ErrForeignCertificate: the peer's certificate was not signed by this mesh's CA.
	ErrForeignCertificate = errors.New("certificate of another mesh")
	// ErrExpiredCertificate: a certificate is not valid now (clock or renewal).
	ErrExpiredCertificate = errors.New("certificate expired or not yet valid")
	// ErrNamelessCertificate: a certificate does not name a node.
	ErrNamelessCertificate = errors.New("certificate names no node")
	// ErrWrongNode: another node of the mesh answers at the address.
	ErrWrongNode = errors.New("another node answers at this address")
	// ErrCertificateRefused: the peer refused our certificate.
	ErrCertificateRefused = errors.New("peer refused our certificate")
	// ErrALPN: the peer does not speak the asked protocol.
	ErrALPN = errors.New("peer does not speak this protocol")
	// ErrTimeout: no answer in time.
	ErrTimeout = errors.New("no answer in time")
	// ErrUnknownNode: the resolver knows no address of the node.
	ErrUnknownNode = errors.New("node is not known")
	// ErrUnknownService: the peer has no such service.
	ErrUnknownService = errors.New("peer has no such service")
	// ErrClosed: the network, connection or stream was closed by this side.
	ErrClosed = fmt.Errorf("meshnet: %w", net.ErrClosed)
	// ErrMessageTooLarge: a message exceeds the given limit.
	ErrMessageTooLarge = errors.New("message too large")
	// ErrDatagramTooLarge: a datagram exceeds Conn.MaxDatagramBytes.
	ErrDatagramTooLarge = errors.New("datagram too large")
)

// Codes of connections and streams closed by this package. Services use codes from 16 on.
const (
	CodeOK             = 0
	CodeUnknownService = 1
	CodeBadHeader      = 2
	CodeBusy           = 3
	CodeShutdown       = 4
)

// ResetError says that a stream was reset, by which side and with which code.
type ResetError struct {
	Code   uint64
	Remote bool
}

// Error implements error.
func (e *ResetError) Error() string {
	side := "this side"
	if e.Remote {
		side = "the peer"
	}
	return fmt.Sprintf("stream reset by %s (code %d)", side, e.Code)
}

// Is makes errors.Is(err, ErrUnknownService) and errors.Is(err, ErrClosed) work.
func (e *ResetError) Is(target error) bool {
	switch target {
	case ErrUnknownService:
		return e.Remote && e.Code == CodeUnknownService
	case ErrClosed, net.ErrClosed:
		return !e.Remote
	}
	return false
}

// streamError translates what quic-go says of a stream.
func streamError(err error) error {
	if se, ok := errors.AsType[*quic.StreamError](err); ok {
		return &ResetError{Code: uint64(se.ErrorCode), Remote: se.Remote}
	}
	return connError(err)
}

// TLS alerts as QUIC transport error codes (RFC 9001 §4.8: 0x100 + alert).
const (
	alertBadCertificate     = 0x100 + 42
	alertCertificateExpired = 0x100 + 45
	alertCertificateUnknown = 0x100 + 46
	alertUnknownCA          = 0x100 + 48
	alertNoALPN             = 0x100 + 120
)

// connError adds our sentinel to what quic-go says of a connection, keeping the cause in the chain.
func connError(err error) error {
	if err == nil {
		return nil
	}
	if te, ok := errors.AsType[*quic.TransportError](err); ok {
		switch te.ErrorCode {
		case alertNoALPN:
			return fmt.Errorf("%w: %w", ErrALPN, err)
		case alertBadCertificate, alertCertificateExpired, alertCertificateUnknown, alertUnknownCA:
			if te.Remote {
				return fmt.Errorf("%w: %w", ErrCertificateRefused, err)
			}
		}
		return err
	}
	_, idle := errors.AsType[*quic.IdleTimeoutError](err)
	_, shake := errors.AsType[*quic.HandshakeTimeoutError](err)
	if idle || shake || errors.Is(err, context.DeadlineExceeded) {
		return fmt.Errorf("%w: %w", ErrTimeout, err)
	}
	return err
}

// certificateError adds our sentinel to what crypto/x509 says.
func certificateError(err error) error {
	if ce, ok := errors.AsType[x509.CertificateInvalidError](err); ok && ce.Reason == x509.Expired {
		return fmt.Errorf("%w: %w", ErrExpiredCertificate, err)
	}
	return fmt.Errorf("%w: %w", ErrForeignCertificate, err)
}

// failureReason names err for the metric of failed handshakes.
func failureReason(err error) string {
	switch {
	case errors.Is(err, ErrForeignCertificate):
		return reasonForeignCA
	case errors.Is(err, ErrExpiredCertificate):
		return reasonExpired
	case errors.Is(err, ErrWrongNode):
		return reasonWrongNode
	case errors.Is(err, ErrALPN):
		return reasonALPN
	case errors.Is(err, ErrTimeout):
		return reasonTimeout
	}
	return reasonOther
}
