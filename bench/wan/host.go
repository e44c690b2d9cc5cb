package wan

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"os/exec"
	"path/filepath"
)

// netnsDir is where the ip command keeps named namespaces.
const netnsDir = "/var/run/netns"

// Device is the name of every host's way out.
const Device = "wan0"

// Host is one network namespace. All methods may be called concurrently.
type Host struct {
	name, namespace string
	addr            netip.Addr
	life            context.Context // ends when the Net closes
}

// hostAddr gives host i its address.
func hostAddr(i int) [4]byte { return [4]byte{10, 77, 0, byte(i + 1)} } // #nosec G115 -- MaxHosts

// hostAt is the inverse of hostAddr; ok is false for addresses outside.
func hostAt(a [4]byte) (i int, ok bool) {
	return int(a[3]) - 1, a[0] == 10 && a[1] == 77 && a[2] == 0 && a[3] > 0
}

// Name returns the name in the Topology.
func (h *Host) Name() string { return h.name }

// Addr returns the host's address in the network, 10.77.0.x.
func (h *Host) Addr() netip.Addr { return h.addr }

// Namespace returns the name of the namespace, as ip netns exec takes it.
func (h *Host) Namespace() string { return h.namespace }

// Command is exec.CommandContext inside the host. The process leads a group of its own, which is killed when ctx
// ends; it is killed, too, when this process dies or the Net is closed.
func (h *Host) Command(ctx context.Context, name string, args ...string) *exec.Cmd {
	// Not by the namespace alone: a process that starts while the Net closes is not in there yet.
	ctx, cancel := context.WithCancel(ctx)
	context.AfterFunc(h.life, cancel)
	cmd := exec.CommandContext(ctx, ipCommand, append([]string{"netns", "exec", h.namespace, name}, args...)...) // #nosec G204 -- its purpose
	ownGroup(cmd)
	return cmd
}

// Do calls f on this goroutine while its thread is inside the host: sockets that f opens stay there. Goroutines
// started by f are not inside. It returns f's error, or why the host could not be entered.
func (h *Host) Do(f func() error) error {
	if err := inside(h.path(), f); err != nil {
		return fmt.Errorf("wan: host %s: %w", h.name, err)
	}
	return nil
}

// ListenUDP opens a UDP socket on the host's address. Port 0 takes a free port.
func (h *Host) ListenUDP(port uint16) (conn *net.UDPConn, err error) {
	err = h.Do(func() (err error) {
		conn, err = net.ListenUDP("udp4", net.UDPAddrFromAddrPort(netip.AddrPortFrom(h.addr, port)))
		return err
	})
	return conn, err
}

// ListenTCP opens a TCP listener on the host's address. Port 0 takes a free port.
func (h *Host) ListenTCP(port uint16) (ln *net.TCPListener, err error) {
	err = h.Do(func() (err error) {
		ln, err = net.ListenTCP("tcp4", net.TCPAddrFromAddrPort(netip.AddrPortFrom(h.addr, port)))
		return err
	})
	return ln, err
}

// DialContext dials from the host, for http.Transport. addr must be an IP address with a port: there are no names.
func (h *Host) DialContext(ctx context.Context, network, addr string) (conn net.Conn, err error) {
	if _, err := netip.ParseAddrPort(addr); err != nil {
		return nil, fmt.Errorf("wan: dial: %w", err)
	}
	err = h.Do(func() (err error) {
		var d net.Dialer
		conn, err = d.DialContext(ctx, network, addr)
		return err
	})
	return conn, err
}

func (h *Host) path() string { return filepath.Join(netnsDir, h.namespace) }

// make creates the namespace with its device, and returns the router's end of it, -1 if there is none yet.
func (h *Host) make(mtu int) (fd int, err error) {
	ctx := context.Background() // every command ends by itself
	if err := run(ctx, "netns", "add", h.namespace); err != nil {
		return -1, err
	}
	fd, device, err := openDevice()
	if err != nil {
		return -1, err
	}
	// A TUN device may move: no thread of ours needs to go there.
	if err := run(ctx, "link", "set", "dev", device, "netns", h.namespace, "name", Device); err != nil {
		return fd, err
	}
	// IPv6 stays off: the router would drop what it announces. The queue holds what comes while the router is late. A
	// default route makes browsers believe in a network.
	return fd, runBatch(ctx, h.namespace, fmt.Sprintf(`link set lo up
link set dev %[1]s addrgenmode none
link set dev %[1]s mtu %[2]d txqueuelen 20000 up
addr add %[3]s/16 dev %[1]s
route add default dev %[1]s src %[3]s
`, Device, mtu, h.addr))
}
