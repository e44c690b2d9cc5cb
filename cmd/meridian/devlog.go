package main

import (
	"io"
	"strings"
	"sync"
)

// lineWriter keeps the lines of several processes whole.
type lineWriter struct {
	mu sync.Mutex
	w  io.Writer
}

func (l *lineWriter) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.w.Write(b)
}

func (l *lineWriter) prefixed(name string) io.Writer {
	return &prefixWriter{to: l, prefix: "[" + name + "] "}
}

// prefixWriter puts a name before every line. A line over maxLogLine is cut in pieces.
type prefixWriter struct {
	to      *lineWriter
	prefix  string
	pending []byte
}

const maxLogLine = 64 << 10

func (p *prefixWriter) Write(b []byte) (int, error) {
	p.pending = append(p.pending, b...)
	for {
		i := strings.IndexByte(string(p.pending), '\n')
		if i < 0 && len(p.pending) < maxLogLine {
			return len(b), nil
		}
		if i < 0 {
			i = len(p.pending) - 1
		}
		line := append([]byte(p.prefix), p.pending[:i+1]...)
		p.pending = p.pending[i+1:]
		if _, err := p.to.Write(line); err != nil {
			return 0, err
		}
	}
}
