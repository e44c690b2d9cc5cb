package meshnet

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"io/fs"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/meridian-sfu/meridian/internal/mesh"
)

func TestCASaveLoad(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "ca")
	ca := testCA(t)
	require.NoError(t, ca.Save(dir))
	info, err := os.Stat(filepath.Join(dir, CAKeyFile))
	require.NoError(t, err)
	require.Equal(t, fs.FileMode(0o600), info.Mode().Perm())
	require.ErrorIs(t, ca.Save(dir), fs.ErrExist)

	again, err := LoadCA(filepath.Join(dir, CACertFile), filepath.Join(dir, CAKeyFile))
	require.NoError(t, err)
	cert, key, err := again.Issue("eu-1", time.Hour)
	require.NoError(t, err)
	id, err := NewIdentity(ca.CertPEM(), cert, key)
	require.NoError(t, err)
	require.Equal(t, mesh.NodeID("eu-1"), id.NodeID())

	// A lone file in the way stops both.
	require.NoError(t, os.Remove(filepath.Join(dir, CAKeyFile)))
	require.ErrorIs(t, ca.Save(dir), fs.ErrExist)
	_, err = os.Stat(filepath.Join(dir, CAKeyFile))
	require.ErrorIs(t, err, fs.ErrNotExist)
}

func TestCARefuses(t *testing.T) {
	_, err := NewCA("", time.Hour)
	require.Error(t, err)
	_, err = NewCA("x", 0)
	require.Error(t, err)
	ca := testCA(t)
	_, _, err = ca.Issue("Not A Label", time.Hour)
	require.ErrorIs(t, err, mesh.ErrInvalidName)
	_, _, err = ca.Issue("a", -time.Hour)
	require.Error(t, err)

	dir := t.TempDir()
	require.NoError(t, ca.Save(dir))
	other := filepath.Join(t.TempDir(), "other")
	require.NoError(t, testCA(t).Save(other))
	_, err = LoadCA(filepath.Join(dir, CACertFile), filepath.Join(other, CAKeyFile))
	require.ErrorContains(t, err, "does not belong")
	_, err = LoadCA(filepath.Join(dir, CAKeyFile), filepath.Join(dir, CAKeyFile))
	require.ErrorContains(t, err, "no PEM certificate")

	// A node's certificate is no CA.
	cert, key, err := ca.Issue("a", time.Hour)
	require.NoError(t, err)
	cf, kf, err := SaveIdentity(dir, "a", cert, key)
	require.NoError(t, err)
	_, err = LoadCA(cf, kf)
	require.ErrorContains(t, err, "not a CA")
}

func TestIssueEndsWithCA(t *testing.T) {
	cert, _, err := testCA(t).Issue("a", 1000*time.Hour)
	require.NoError(t, err)
	c, err := parseCert(cert)
	require.NoError(t, err)
	require.Less(t, time.Until(c.NotAfter), 2*time.Hour)
	require.Greater(t, time.Since(c.NotBefore), 4*time.Minute, "starts earlier against clock skew")
}

func TestNewIdentity(t *testing.T) {
	ca, foreign := testCA(t), testCA(t)
	cert, key, err := ca.Issue("a", time.Hour)
	require.NoError(t, err)
	_, otherKey, err := ca.Issue("a", time.Hour)
	require.NoError(t, err)
	expired, expiredKey, err := ca.issue("a", time.Now().Add(-time.Minute))
	require.NoError(t, err)
	nameless, namelessKey := issueRaw(t, ca, func(c *x509.Certificate) { c.Subject.CommonName = "Not A Label" })
	unlisted, unlistedKey := issueRaw(t, ca, func(c *x509.Certificate) { c.DNSNames = []string{"b"} })
	clientOnly, clientOnlyKey := issueRaw(t, ca, func(c *x509.Certificate) {
		c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}
	})

	for _, tc := range []struct {
		name          string
		ca, cert, key []byte
		is            error
		says          string
	}{
		{name: "good", ca: ca.CertPEM(), cert: cert, key: key},
		{name: "two roots", ca: append(append([]byte{}, foreign.CertPEM()...), ca.CertPEM()...), cert: cert, key: key},
		{name: "foreign CA", ca: foreign.CertPEM(), cert: cert, key: key, is: ErrForeignCertificate},
		{name: "expired", ca: ca.CertPEM(), cert: expired, key: expiredKey, is: ErrExpiredCertificate},
		{name: "no node name", ca: ca.CertPEM(), cert: nameless, key: namelessKey, is: ErrNamelessCertificate},
		{name: "name not in SAN", ca: ca.CertPEM(), cert: unlisted, key: unlistedKey, is: ErrNamelessCertificate},
		{name: "one direction only", ca: ca.CertPEM(), cert: clientOnly, key: clientOnlyKey, is: ErrForeignCertificate},
		{name: "wrong key", ca: ca.CertPEM(), cert: cert, key: otherKey, says: "private key does not match"},
		{name: "garbage CA", ca: []byte("x"), cert: cert, key: key, says: "CA certificate"},
		{name: "garbage certificate", ca: ca.CertPEM(), cert: []byte("x"), key: key, says: "node certificate"},
		{name: "garbage key", ca: ca.CertPEM(), cert: cert, key: []byte("x"), says: "node key"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			id, err := NewIdentity(tc.ca, tc.cert, tc.key)
			switch {
			case tc.is != nil:
				require.ErrorIs(t, err, tc.is)
			case tc.says != "":
				require.ErrorContains(t, err, tc.says)
			default:
				require.NoError(t, err)
				require.Equal(t, mesh.NodeID("a"), id.NodeID())
			}
		})
	}
}

func TestLoadIdentity(t *testing.T) {
	dir := t.TempDir()
	ca := testCA(t)
	require.NoError(t, ca.Save(dir))
	cert, key, err := ca.Issue("a", time.Hour)
	require.NoError(t, err)
	cf, kf, err := SaveIdentity(dir, "a", cert, key)
	require.NoError(t, err)
	info, err := os.Stat(kf)
	require.NoError(t, err)
	require.Equal(t, fs.FileMode(0o600), info.Mode().Perm())
	_, _, err = SaveIdentity(dir, "a", cert, key)
	require.ErrorIs(t, err, fs.ErrExist)

	caf := filepath.Join(dir, CACertFile)
	id, err := LoadIdentity(caf, cf, kf)
	require.NoError(t, err)
	require.Equal(t, mesh.NodeID("a"), id.NodeID())
	_, err = LoadIdentity(caf, filepath.Join(dir, "gone.crt"), kf)
	require.ErrorIs(t, err, fs.ErrNotExist)
	require.ErrorContains(t, err, "gone.crt")
	_, err = LoadIdentity(caf, kf, cf)
	require.ErrorContains(t, err, kf, "names the file")
}

// issueRaw signs a certificate that Issue would refuse to make.
func issueRaw(t *testing.T, ca *CA, change func(*x509.Certificate)) (certPEM, keyPEM []byte) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	tmpl, err := template("a", time.Now().Add(time.Hour))
	require.NoError(t, err)
	tmpl.DNSNames = []string{"a"}
	tmpl.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth}
	change(tmpl)
	der, err := x509.CreateCertificate(rand.Reader, tmpl, ca.cert, key.Public(), ca.key)
	require.NoError(t, err)
	keyPEM, err = encodeKey(key)
	require.NoError(t, err)
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), keyPEM
}
