package trunk

import (
	"os/exec"
	"runtime"
	"time"

	"golang.org/x/sys/unix"
)

// prefer puts this thread before all others of the machine, where that is permitted: what watches or emulates must not wait for
// what is measured. The goroutine must be locked to its thread and stay so.
func prefer(priority uint32) {
	attr := unix.SchedAttr{Size: unix.SizeofSchedAttr, Policy: unix.SCHED_FIFO, Priority: priority, Flags: unix.SCHED_FLAG_RESET_ON_FORK}
	if err := unix.SchedSetAttr(0, &attr, 0); err != nil {
		_ = unix.Setpriority(unix.PRIO_PROCESS, unix.Gettid(), -20)
	}
	_ = unix.Prctl(unix.PR_SET_TIMERSLACK, 1, 0, 0, 0) // else the kernel may wake it 50 µs late
}

// sleepUntil blocks this thread until a moment of the monotonic clock.
func sleepUntil(t int64) {
	ts := unix.NsecToTimespec(t)
	for unix.ClockNanosleep(unix.CLOCK_MONOTONIC, unix.TIMER_ABSTIME, &ts, nil) == unix.EINTR {
	}
}

// processors are the ones this process may use.
func processors() []int {
	var set unix.CPUSet
	if unix.SchedGetaffinity(0, &set) != nil {
		return nil
	}
	var cpus []int
	for cpu := 0; len(cpus) < set.Count(); cpu++ {
		if set.IsSet(cpu) {
			cpus = append(cpus, cpu)
		}
	}
	return cpus
}

// stayOn keeps this thread, and what it starts, on one processor.
func stayOn(cpu int) {
	var set unix.CPUSet
	set.Set(cpu)
	_ = unix.SchedSetaffinity(0, &set)
}

// wakeSlice is what a node asks of its processor at a time: who asks for little need not wait until another's time is over
// (sched(7), sched_runtime of SCHED_OTHER since Linux 6.12), as on a machine of its own. It does not get more of the processor by it.
const wakeSlice = 100 * time.Microsecond

// startOn starts a process that stays on one processor, on any if cpu is negative, and is woken at once.
func startOn(cmd *exec.Cmd, cpu int) error {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	if attr, err := unix.SchedGetAttr(0, 0); err == nil && attr.Policy == unix.SCHED_NORMAL {
		short := *attr
		short.Runtime = uint64(wakeSlice)
		if unix.SchedSetAttr(0, &short, 0) == nil {
			attr.Runtime = 0 // the usual
			defer func() { _ = unix.SchedSetAttr(0, attr, 0) }()
		}
	}
	if cpu < 0 {
		return cmd.Start()
	}
	var before unix.CPUSet
	if unix.SchedGetaffinity(0, &before) != nil {
		return cmd.Start()
	}
	stayOn(cpu) // a child begins with what its thread has
	defer func() { _ = unix.SchedSetaffinity(0, &before) }()
	return cmd.Start()
}
