package trunk

import (
	"os/exec"
	"runtime"

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

// startOn starts a process that stays on one processor; on any if cpu is negative.
func startOn(cmd *exec.Cmd, cpu int) error {
	if cpu < 0 {
		return cmd.Start()
	}
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	var before unix.CPUSet
	if unix.SchedGetaffinity(0, &before) != nil {
		return cmd.Start()
	}
	stayOn(cpu) // a child begins with what its thread has
	defer func() { _ = unix.SchedSetaffinity(0, &before) }()
	return cmd.Start()
}
