package load

import (
	"bytes"
	"os"
	"strconv"
	"time"

	"golang.org/x/sys/unix"
)

// process is what one or more processes have used so far.
type process struct {
	cpu time.Duration
	rss int64 // bytes
	ok  bool  // could be read
}

// readProcesses adds up processes of this machine.
func readProcesses(pids []int) process {
	total := process{ok: len(pids) > 0}
	for _, pid := range pids {
		dir := "/proc/" + strconv.Itoa(pid)
		stat, err := os.ReadFile(dir + "/stat")
		if err != nil {
			return process{}
		}
		statm, err := os.ReadFile(dir + "/statm")
		if err != nil {
			return process{}
		}
		p, ok := parseProcess(stat, statm, os.Getpagesize())
		if !ok {
			return process{}
		}
		total.cpu += p.cpu
		total.rss += p.rss
	}
	return total
}

// parseProcess reads /proc/PID/stat and statm (proc_pid_stat(5), proc_pid_statm(5)).
func parseProcess(stat, statm []byte, page int) (process, bool) {
	end := bytes.LastIndexByte(stat, ')') // the name may hold anything
	if end < 0 {
		return process{}, false
	}
	fields := bytes.Fields(stat[end+1:])
	sizes := bytes.Fields(statm)
	if len(fields) < 13 || len(sizes) < 2 {
		return process{}, false
	}
	user, err1 := strconv.ParseInt(string(fields[11]), 10, 64)
	system, err2 := strconv.ParseInt(string(fields[12]), 10, 64)
	resident, err3 := strconv.ParseInt(string(sizes[1]), 10, 64)
	if err1 != nil || err2 != nil || err3 != nil {
		return process{}, false
	}
	return process{
		cpu: time.Duration(user+system) * 10 * time.Millisecond, // USER_HZ is 100 on every Linux port Go runs on
		rss: resident * int64(page), ok: true,
	}, true
}

// ownCPU is the processor time of this process so far.
func ownCPU() time.Duration {
	var u unix.Rusage
	if unix.Getrusage(unix.RUSAGE_SELF, &u) != nil {
		return 0
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
