package meshnet

import (
	"crypto/hmac"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"os"
	"slices"

	"github.com/quic-go/quic-go"

	"github.com/meridian-sfu/meridian/internal/mesh"
)

// Identity is who a node is (its certificate and key) and whom it believes (the mesh CA). It never changes and is safe
// for concurrent use.
type Identity struct {
	id    mesh.NodeID
	cert  tls.Certificate
	roots *x509.CertPool
	reset quic.StatelessResetKey // derived from the key, so it survives a restart
}

// LoadIdentity reads a node's identity. It refuses a certificate that is expired, of another CA or names no node;
// errors name the file and the cause.
func LoadIdentity(caFile, certFile, keyFile string) (*Identity, error) {
	var pems [3][]byte
	for i, f := range []struct{ what, name string }{{"CA certificate", caFile}, {"node certificate", certFile}, {"node key", keyFile}} {
		b, err := os.ReadFile(f.name)
		if err != nil {
			return nil, fmt.Errorf("meshnet: read %s: %w", f.what, err)
		}
		pems[i] = b
	}
	id, err := NewIdentity(pems[0], pems[1], pems[2])
	if err != nil {
		return nil, fmt.Errorf("%w (CA %s, certificate %s, key %s)", err, caFile, certFile, keyFile)
	}
	return id, nil
}

// NewIdentity makes an identity of PEM data. The CA may hold several certificates (rotation).
// It returns ErrForeignCertificate, ErrExpiredCertificate or ErrNamelessCertificate, wrapped.
func NewIdentity(caPEM, certPEM, keyPEM []byte) (*Identity, error) {
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(caPEM) {
		return nil, errors.New("meshnet: CA certificate: holds no PEM certificate")
	}
	key, err := parseKey(keyPEM)
	if err != nil {
		return nil, fmt.Errorf("meshnet: node key: %w", err)
	}
	cert, err := tls.X509KeyPair(certPEM, keyPEM)
	if err != nil {
		return nil, fmt.Errorf("meshnet: node certificate: %w", err)
	}
	i := &Identity{cert: cert, roots: roots}
	for _, usage := range []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth} {
		if i.id, err = i.verify([]*x509.Certificate{cert.Leaf}, usage); err != nil {
			return nil, fmt.Errorf("meshnet: node certificate: %w", err)
		}
	}
	raw, err := key.Bytes()
	if err != nil {
		return nil, fmt.Errorf("meshnet: node key: %w", err)
	}
	mac := hmac.New(sha256.New, raw)
	mac.Write([]byte("meridian stateless reset key"))
	i.reset = quic.StatelessResetKey(mac.Sum(nil))
	return i, nil
}

// NodeID returns the node the certificate names.
func (i *Identity) NodeID() mesh.NodeID { return i.id }

// verify checks a peer's chain against the mesh CA and returns the node it names.
func (i *Identity) verify(chain []*x509.Certificate, usage x509.ExtKeyUsage) (mesh.NodeID, error) {
	if len(chain) == 0 {
		return "", fmt.Errorf("%w: no certificate was shown", ErrForeignCertificate)
	}
	inter := x509.NewCertPool()
	for _, c := range chain[1:] {
		inter.AddCert(c)
	}
	if _, err := chain[0].Verify(x509.VerifyOptions{
		Roots: i.roots, Intermediates: inter, KeyUsages: []x509.ExtKeyUsage{usage},
	}); err != nil {
		return "", certificateError(err)
	}
	return certNodeID(chain[0])
}

// certNodeID returns the node a certificate names: its common name, repeated as a DNS name.
func certNodeID(c *x509.Certificate) (mesh.NodeID, error) {
	id, err := mesh.ParseNodeID(c.Subject.CommonName)
	if err != nil {
		return "", fmt.Errorf("%w: common name: %w", ErrNamelessCertificate, err)
	}
	if !slices.Contains(c.DNSNames, string(id)) {
		return "", fmt.Errorf("%w: common name %q is not among its DNS names", ErrNamelessCertificate, id)
	}
	return id, nil
}

// serverTLS is what the listener shows and demands. refused is told of every peer that fails.
func (i *Identity) serverTLS(alpns []string, refused func(error)) *tls.Config {
	conf := &tls.Config{
		MinVersion:             tls.VersionTLS13,
		Certificates:           []tls.Certificate{i.cert},
		ClientAuth:             tls.RequireAnyClientCert, // verified below, by node ID and not by host name
		NextProtos:             alpns,
		SessionTicketsDisabled: true, // a resumed session would skip the certificate
		VerifyConnection: func(cs tls.ConnectionState) error {
			_, err := i.verify(cs.PeerCertificates, x509.ExtKeyUsageClientAuth)
			if err != nil {
				refused(err)
			}
			return err
		},
	}
	conf.GetConfigForClient = func(hello *tls.ClientHelloInfo) (*tls.Config, error) {
		if !slices.ContainsFunc(hello.SupportedProtos, func(p string) bool { return slices.Contains(alpns, p) }) {
			refused(ErrALPN)
		}
		return nil, nil
	}
	return conf
}

// clientTLS is what a dial shows and demands; it speaks any of alpns. An empty want accepts any node of the mesh.
func (i *Identity) clientTLS(want mesh.NodeID, alpns []string) *tls.Config {
	return &tls.Config{
		MinVersion:             tls.VersionTLS13,
		Certificates:           []tls.Certificate{i.cert},
		InsecureSkipVerify:     true, // only the host name check: VerifyConnection checks chain and node ID
		NextProtos:             alpns,
		SessionTicketsDisabled: true,
		VerifyConnection: func(cs tls.ConnectionState) error {
			id, err := i.verify(cs.PeerCertificates, x509.ExtKeyUsageServerAuth)
			if err != nil {
				return err
			}
			if want != "" && id != want {
				return fmt.Errorf("%w: %s instead of %s", ErrWrongNode, id, want)
			}
			return nil
		},
	}
}
