package wan

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"time"
)

// Namespaces are named mwan.<pid>.<start time of that process>.<run>.<host>: who owns one, and whether that lives, is
// in its name, so that runs beside each other do not sweep each other away.
const namePrefix = "mwan."

const ipCommand = "ip"

func ownPrefix(run uint64) string {
	return fmt.Sprintf("%s%d.%s.%d.", namePrefix, os.Getpid(), startTime(os.Getpid()), run)
}

// startTime returns field 22 of /proc/<pid>/stat, "" for a process that does not exist.
func startTime(pid int) string {
	stat, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
	if err != nil {
		return ""
	}
	name := strings.LastIndexByte(string(stat), ')') // field 2 may hold anything
	fields := strings.Fields(string(stat[name+1:]))
	if len(fields) < 20 {
		return ""
	}
	return fields[19]
}

// stale says whether a namespace of that name was left by a process that is gone.
func stale(namespace string) bool {
	rest, ok := strings.CutPrefix(namespace, namePrefix)
	parts := strings.SplitN(rest, ".", 4)
	if !ok || len(parts) != 4 {
		return false
	}
	pid, err := strconv.Atoi(parts[0])
	return err == nil && pid > 0 && startTime(pid) != parts[1]
}

// Sweep removes hosts that a run left that did not come to its Close, and kills what still runs in them. It leaves
// those of living processes alone.
func Sweep() error {
	entries, err := os.ReadDir(netnsDir)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("wan: sweep: %w", err)
	}
	var errs []error
	for _, e := range entries {
		if !stale(e.Name()) {
			continue
		}
		killInside(e.Name())
		err := run(context.Background(), "netns", "del", e.Name())
		if _, gone := os.Stat(netnsDir + "/" + e.Name()); err != nil && gone == nil { // else another run swept it
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}

// killInside kills all processes of a namespace of ours and waits until they are gone, for two seconds at most.
func killInside(namespace string) {
	for range 200 {
		out, err := exec.CommandContext(context.Background(), ipCommand, "netns", "pids", namespace).Output() // #nosec G204 -- a name of ours
		if err != nil {
			return
		}
		var alive bool
		for _, field := range strings.Fields(string(out)) {
			pid, err := strconv.Atoi(field)
			if err != nil || pid == os.Getpid() { // a thread of ours is in there right now (Host.Do)
				continue
			}
			alive = true
			if p, err := os.FindProcess(pid); err == nil {
				_ = p.Kill() // may be gone already
			}
		}
		if !alive {
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
}

// run calls the ip command; the error has its words.
func run(ctx context.Context, args ...string) error {
	return output(exec.CommandContext(ctx, ipCommand, args...))
}

// runBatch runs lines of ip commands inside a namespace.
func runBatch(ctx context.Context, namespace, lines string) error {
	cmd := exec.CommandContext(ctx, ipCommand, "-n", namespace, "-batch", "-")
	cmd.Stdin = strings.NewReader(lines)
	return output(cmd)
}

func output(cmd *exec.Cmd) error {
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("wan: %s: %w: %s", strings.Join(cmd.Args, " "), err, bytes.TrimSpace(out))
	}
	return nil
}
