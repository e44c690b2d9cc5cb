package trunk

import (
	"bufio"
	"bytes"
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// usage is what the process and the machine have spent so far.
type usage struct {
	CPU     time.Duration `json:"cpu"`     // user and system time of this process
	Machine time.Duration `json:"machine"` // of all processors together, 0 where it cannot be read
}

func readUsage() usage {
	var u usage
	var r unix.Rusage
	if unix.Getrusage(unix.RUSAGE_SELF, &r) == nil {
		u.CPU = time.Duration(r.Utime.Nano() + r.Stime.Nano())
	}
	if stat, err := os.ReadFile("/proc/stat"); err == nil {
		u.Machine = parseStat(stat)
	}
	return u
}

func (u usage) minus(o usage) usage { return usage{CPU: u.CPU - o.CPU, Machine: u.Machine - o.Machine} }

// parseStat reads the busy time of all processors from /proc/stat (proc_stat(5)): all but idle and iowait, and guest
// time, which user time holds already. 0 when it does not look like that.
func parseStat(stat []byte) time.Duration {
	line, _, _ := bytes.Cut(stat, []byte("\n"))
	fields := strings.Fields(string(line))
	if len(fields) < 9 || fields[0] != "cpu" {
		return 0
	}
	var ticks int64
	for _, i := range []int{1, 2, 3, 6, 7, 8} { // user nice system irq softirq steal
		n, err := strconv.ParseInt(fields[i], 10, 64)
		if err != nil {
			return 0
		}
		ticks += n
	}
	return time.Duration(ticks) * 10 * time.Millisecond // USER_HZ is 100 on every Linux port Go runs on
}

// readSteal is the processor time that the machine's host gave to others so far, of all processors; 0 where it cannot be read.
func readSteal() time.Duration {
	stat, err := os.ReadFile("/proc/stat")
	if err != nil {
		return 0
	}
	return parseSteal(stat)
}

func parseSteal(stat []byte) time.Duration {
	line, _, _ := bytes.Cut(stat, []byte("\n"))
	fields := strings.Fields(string(line))
	if len(fields) < 9 || fields[0] != "cpu" {
		return 0
	}
	ticks, err := strconv.ParseInt(fields[8], 10, 64)
	if err != nil {
		return 0
	}
	return time.Duration(ticks) * 10 * time.Millisecond
}

// loadAverage is the machine's load over the last minute, 0 where it cannot be read.
func loadAverage() float64 {
	b, err := os.ReadFile("/proc/loadavg")
	if err != nil {
		return 0
	}
	first, _, _ := strings.Cut(string(b), " ")
	f, err := strconv.ParseFloat(first, 64)
	if err != nil {
		return 0
	}
	return f
}

// socketDrops is how many datagrams the kernel dropped because the receive buffer of the socket on an IPv4 port was
// full; 0 where it cannot be read.
func socketDrops(port uint16) uint64 {
	b, err := os.ReadFile("/proc/net/udp")
	if err != nil {
		return 0
	}
	return parseDrops(b, port)
}

func parseDrops(table []byte, port uint16) uint64 {
	want := fmt.Sprintf(":%04X", port)
	for sc := bufio.NewScanner(bytes.NewReader(table)); sc.Scan(); {
		f := strings.Fields(sc.Text())
		if len(f) < 13 || !strings.HasSuffix(f[1], want) {
			continue
		}
		n, err := strconv.ParseUint(f[len(f)-1], 10, 64)
		if err == nil {
			return n
		}
	}
	return 0
}
