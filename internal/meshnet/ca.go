package meshnet

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"os"
	"path/filepath"
	"time"

	"github.com/meridian-sfu/meridian/internal/mesh"
)

// Names of the files CA.Save writes.
const (
	CACertFile = "ca.crt"
	CAKeyFile  = "ca.key"
)

// clockSkew is how much earlier than now a certificate begins, so that a node whose clock is behind accepts it.
const clockSkew = 5 * time.Minute

// CA is a mesh's certificate authority: whoever holds its key decides who belongs to the mesh. Safe for concurrent use.
type CA struct {
	cert    *x509.Certificate
	key     *ecdsa.PrivateKey
	certPEM []byte
}

// NewCA makes a certificate authority of the given name that is valid for ttl from now.
func NewCA(name string, ttl time.Duration) (*CA, error) {
	if name == "" {
		return nil, errors.New("meshnet: a CA needs a name")
	}
	if ttl <= 0 {
		return nil, fmt.Errorf("meshnet: CA validity must be positive, not %s", ttl)
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("meshnet: make CA key: %w", err)
	}
	tmpl, err := template(name, time.Now().Add(ttl))
	if err != nil {
		return nil, err
	}
	tmpl.IsCA = true
	tmpl.BasicConstraintsValid = true
	tmpl.MaxPathLenZero = true
	tmpl.KeyUsage = x509.KeyUsageCertSign | x509.KeyUsageCRLSign
	der, err := x509.CreateCertificate(rand.Reader, tmpl, tmpl, key.Public(), key)
	if err != nil {
		return nil, fmt.Errorf("meshnet: sign CA certificate: %w", err)
	}
	return newCA(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), key)
}

// LoadCA reads what Save wrote. Errors name the file and the cause.
func LoadCA(certFile, keyFile string) (*CA, error) {
	certPEM, err := os.ReadFile(certFile)
	if err != nil {
		return nil, fmt.Errorf("meshnet: read CA certificate: %w", err)
	}
	keyPEM, err := os.ReadFile(keyFile)
	if err != nil {
		return nil, fmt.Errorf("meshnet: read CA key: %w", err)
	}
	key, err := parseKey(keyPEM)
	if err != nil {
		return nil, fmt.Errorf("meshnet: CA key %s: %w", keyFile, err)
	}
	ca, err := newCA(certPEM, key)
	if err != nil {
		return nil, fmt.Errorf("meshnet: CA certificate %s: %w", certFile, err)
	}
	return ca, nil
}

func newCA(certPEM []byte, key *ecdsa.PrivateKey) (*CA, error) {
	cert, err := parseCert(certPEM)
	switch {
	case err != nil:
		return nil, err
	case !cert.IsCA:
		return nil, errors.New("not a CA certificate")
	case !key.PublicKey.Equal(cert.PublicKey):
		return nil, errors.New("the key does not belong to the certificate")
	}
	return &CA{cert: cert, key: key, certPEM: certPEM}, nil
}

// CertPEM returns the CA's certificate, the trust root every node needs. The caller must not change it.
func (ca *CA) CertPEM() []byte { return ca.certPEM }

// Save writes ca.crt and ca.key (mode 0600) into dir, which is made if missing. It never overwrites: an error that is
// fs.ErrExist names the file in the way.
func (ca *CA) Save(dir string) error {
	keyPEM, err := encodeKey(ca.key)
	if err != nil {
		return err
	}
	return writePair(filepath.Join(dir, CACertFile), ca.certPEM, filepath.Join(dir, CAKeyFile), keyPEM)
}

// Issue makes a key and a certificate for node id, valid for ttl from now but not longer than the CA itself.
func (ca *CA) Issue(id mesh.NodeID, ttl time.Duration) (certPEM, keyPEM []byte, err error) {
	if _, err := mesh.ParseNodeID(string(id)); err != nil {
		return nil, nil, fmt.Errorf("meshnet: issue: %w", err)
	}
	now := time.Now()
	switch {
	case ttl <= 0:
		return nil, nil, fmt.Errorf("meshnet: issue %s: validity must be positive, not %s", id, ttl)
	case now.After(ca.cert.NotAfter):
		return nil, nil, fmt.Errorf("meshnet: issue %s: the CA's own: %w", id, ErrExpiredCertificate)
	}
	return ca.issue(id, now.Add(ttl))
}

func (ca *CA) issue(id mesh.NodeID, notAfter time.Time) (certPEM, keyPEM []byte, err error) {
	if notAfter.After(ca.cert.NotAfter) {
		notAfter = ca.cert.NotAfter
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, nil, fmt.Errorf("meshnet: make key of %s: %w", id, err)
	}
	tmpl, err := template(string(id), notAfter)
	if err != nil {
		return nil, nil, err
	}
	tmpl.DNSNames = []string{string(id)}
	tmpl.BasicConstraintsValid = true
	tmpl.KeyUsage = x509.KeyUsageDigitalSignature
	tmpl.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, ca.cert, key.Public(), ca.key)
	if err != nil {
		return nil, nil, fmt.Errorf("meshnet: sign certificate of %s: %w", id, err)
	}
	if keyPEM, err = encodeKey(key); err != nil {
		return nil, nil, err
	}
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), keyPEM, nil
}

// SaveIdentity writes ID.crt and ID.key (mode 0600) into dir, which is made if missing, and returns their names.
// It never overwrites: an error that is fs.ErrExist names the file in the way.
func SaveIdentity(dir string, id mesh.NodeID, certPEM, keyPEM []byte) (certFile, keyFile string, err error) {
	certFile = filepath.Join(dir, string(id)+".crt")
	keyFile = filepath.Join(dir, string(id)+".key")
	return certFile, keyFile, writePair(certFile, certPEM, keyFile, keyPEM)
}

func template(name string, notAfter time.Time) (*x509.Certificate, error) {
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 127)) // RFC 5280 §4.1.2.2: at most 20 octets
	if err != nil {
		return nil, fmt.Errorf("meshnet: make serial number: %w", err)
	}
	notBefore := time.Now().Add(-clockSkew)
	if notAfter.Before(notBefore) {
		notBefore = notAfter.Add(-clockSkew)
	}
	return &x509.Certificate{
		SerialNumber: serial,
		Subject:      pkix.Name{CommonName: name, Organization: []string{"Meridian mesh"}},
		NotBefore:    notBefore,
		NotAfter:     notAfter,
	}, nil
}
