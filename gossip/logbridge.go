package gossip

import (
	"context"
	"log"
	"log/slog"
	"strings"
)

// logBridge turns memberlist's lines ("[WARN] memberlist: …") into slog records with a constant message.
type logBridge struct{ log *slog.Logger }

func newLogBridge(l *slog.Logger) *log.Logger { return log.New(logBridge{l}, "", 0) }

// Write implements io.Writer: one call per line.
func (b logBridge) Write(p []byte) (int, error) {
	line := strings.TrimSpace(string(p))
	level := slog.LevelDebug
	if tag, rest, ok := strings.Cut(line, "] "); ok && strings.HasPrefix(tag, "[") {
		line = strings.TrimPrefix(rest, "memberlist: ")
		if (tag == "[WARN" || tag == "[ERR" || tag == "[ERROR") && !strings.Contains(line, harmless) {
			level = slog.LevelWarn
		}
	}
	b.log.Log(context.Background(), level, "memberlist", "detail", line)
	return len(p), nil
}

// harmless is a warning that does not hold here: the transport encrypts.
const harmless = "without encryption"
