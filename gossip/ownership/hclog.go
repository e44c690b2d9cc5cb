package ownership

import (
	"context"
	"io"
	stdlog "log"
	"log/slog"

	"github.com/hashicorp/go-hclog"
)

// hcLogger hands what Raft logs to slog under one constant message, one level lower than Raft means it: what an operator
// must know this package says itself.
type hcLogger struct {
	log  *slog.Logger
	name string
	args []any
}

var _ hclog.Logger = (*hcLogger)(nil)

func newHCLog(log *slog.Logger) hclog.Logger { return &hcLogger{log: log} }

func slogLevel(l hclog.Level) slog.Level {
	switch l {
	case hclog.Error:
		return slog.LevelWarn
	case hclog.Warn:
		return slog.LevelInfo
	default:
		return slog.LevelDebug
	}
}

// Log implements hclog.Logger.
func (h *hcLogger) Log(level hclog.Level, msg string, args ...any) {
	l := slogLevel(level)
	if h.log.Enabled(context.Background(), l) {
		h.log.Log(context.Background(), l, "raft", append([]any{"event", msg}, args...)...)
	}
}

func (h *hcLogger) Trace(string, ...any)          {} // Raft's finest level is per message: never wanted
func (h *hcLogger) Debug(msg string, args ...any) { h.Log(hclog.Debug, msg, args...) }
func (h *hcLogger) Info(msg string, args ...any)  { h.Log(hclog.Info, msg, args...) }
func (h *hcLogger) Warn(msg string, args ...any)  { h.Log(hclog.Warn, msg, args...) }
func (h *hcLogger) Error(msg string, args ...any) { h.Log(hclog.Error, msg, args...) }
func (h *hcLogger) IsTrace() bool                 { return false }
func (h *hcLogger) IsDebug() bool                 { return h.enabled(hclog.Debug) }
func (h *hcLogger) IsInfo() bool                  { return h.enabled(hclog.Info) }
func (h *hcLogger) IsWarn() bool                  { return h.enabled(hclog.Warn) }
func (h *hcLogger) IsError() bool                 { return h.enabled(hclog.Error) }
func (h *hcLogger) ImpliedArgs() []any            { return h.args }
func (h *hcLogger) Name() string                  { return h.name }
func (h *hcLogger) SetLevel(hclog.Level)          {} // slog's handler decides
func (h *hcLogger) GetLevel() hclog.Level         { return hclog.Debug }
func (h *hcLogger) Named(name string) hclog.Logger {
	return &hcLogger{log: h.log, name: name, args: h.args}
}

// ResetNamed implements hclog.Logger.
func (h *hcLogger) ResetNamed(name string) hclog.Logger { return h.Named(name) }

// With implements hclog.Logger.
func (h *hcLogger) With(args ...any) hclog.Logger {
	return &hcLogger{log: h.log.With(args...), name: h.name, args: append(h.args[:len(h.args):len(h.args)], args...)}
}

// StandardLogger implements hclog.Logger.
func (h *hcLogger) StandardLogger(*hclog.StandardLoggerOptions) *stdlog.Logger {
	return slog.NewLogLogger(h.log.Handler(), slog.LevelDebug)
}

// StandardWriter implements hclog.Logger.
func (h *hcLogger) StandardWriter(*hclog.StandardLoggerOptions) io.Writer {
	return h.StandardLogger(nil).Writer()
}

func (h *hcLogger) enabled(l hclog.Level) bool {
	return h.log.Enabled(context.Background(), slogLevel(l))
}
