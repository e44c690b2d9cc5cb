package node

import "sync"

// roomQueueLength is how many commands of clients may wait for a room. More make the clients wait, not the room.
const roomQueueLength = 1024

// commandQueue orders everything that happens to one room. The directory and the room's own effects are never made to
// wait (post), so that two rooms of the house cannot wait for each other; clients are (postWait).
type commandQueue struct {
	mu      sync.Mutex
	pending []func() // guarded by mu
	closed  bool     // guarded by mu
	wake    chan struct{}
	room    *sync.Cond // signalled when pending shrank below roomQueueLength, or on close
}

func newCommandQueue() *commandQueue {
	q := &commandQueue{wake: make(chan struct{}, 1)}
	q.room = sync.NewCond(&q.mu)
	return q
}

// post appends a command. It reports false when the room is over.
func (q *commandQueue) post(f func()) bool {
	q.mu.Lock()
	if q.closed {
		q.mu.Unlock()
		return false
	}
	q.pending = append(q.pending, f)
	q.mu.Unlock()
	q.signal()
	return true
}

// postWait appends a command once there is room for it.
func (q *commandQueue) postWait(f func()) bool {
	q.mu.Lock()
	for len(q.pending) >= roomQueueLength && !q.closed {
		q.room.Wait()
	}
	q.mu.Unlock()
	return q.post(f)
}

// call runs f in the room's goroutine and waits for it. It reports false, and f was not run, when the room is over.
// The room's own goroutine must not use it.
func (q *commandQueue) call(f func()) bool {
	done := make(chan struct{})
	if !q.postWait(func() { f(); close(done) }) {
		return false
	}
	<-done
	return true
}

func (q *commandQueue) signal() {
	select {
	case q.wake <- struct{}{}:
	default:
	}
}

// take returns all pending commands, and false when the queue is closed and empty.
func (q *commandQueue) take() ([]func(), bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	batch := q.pending
	q.pending = nil
	q.room.Broadcast()
	return batch, len(batch) > 0 || !q.closed
}

// close refuses further commands; those pending are still run.
func (q *commandQueue) close() {
	q.mu.Lock()
	q.closed = true
	q.room.Broadcast()
	q.mu.Unlock()
	q.signal()
}

// run carries out commands in order until close.
func (q *commandQueue) run() {
	for {
		batch, open := q.take()
		for _, f := range batch {
			f()
		}
		if !open {
			return
		}
		if len(batch) == 0 {
			<-q.wake
		}
	}
}
