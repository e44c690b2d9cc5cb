package sfm

import (
	"context"
	"fmt"
	"log/slog"

	"github.com/pion/logging"
)

// pionLog lends Pion our logger. What Pion warns of is mostly what clients do, so it goes to the debug level.
type pionLog struct{ log *slog.Logger }

// NewLogger returns the logger of one of Pion's parts.
func (l pionLog) NewLogger(scope string) logging.LeveledLogger {
	return pionScope{l.log.With("source", "pion-"+scope)}
}

type pionScope struct{ log *slog.Logger }

func (pionScope) Trace(string)          {}
func (pionScope) Tracef(string, ...any) {}
func (pionScope) Debug(string)          {}
func (pionScope) Debugf(string, ...any) {}
func (pionScope) Info(string)           {}
func (pionScope) Infof(string, ...any)  {}

func (s pionScope) Warn(msg string)                { s.write("%s", msg) }
func (s pionScope) Warnf(format string, a ...any)  { s.write(format, a...) }
func (s pionScope) Error(msg string)               { s.write("%s", msg) }
func (s pionScope) Errorf(format string, a ...any) { s.write(format, a...) }

func (s pionScope) write(format string, a ...any) {
	if s.log.Enabled(context.Background(), slog.LevelDebug) {
		s.log.Debug("pion warns", "err", fmt.Sprintf(format, a...))
	}
}
