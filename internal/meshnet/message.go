package meshnet

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"

	"google.golang.org/protobuf/proto"
)

// MaxMessageBytes is the largest message WriteMessage sends.
const MaxMessageBytes = 4 << 20

// WriteMessage writes m behind its length with a single Write:
//
//	+------------------------+------------------+
//	| length (4, big-endian) | protobuf (length)|
//	+------------------------+------------------+
//
// It returns ErrMessageTooLarge beyond MaxMessageBytes, else what the encoder or w says.
func WriteMessage(w io.Writer, m proto.Message) error {
	b, err := proto.MarshalOptions{}.MarshalAppend(make([]byte, 4, 256), m)
	if err != nil {
		return fmt.Errorf("meshnet: encode message: %w", err)
	}
	if n := len(b) - 4; n > MaxMessageBytes {
		return fmt.Errorf("meshnet: %w: %d bytes, at most %d", ErrMessageTooLarge, n, MaxMessageBytes)
	}
	binary.BigEndian.PutUint32(b, uint32(len(b)-4))
	_, err = w.Write(b)
	return err
}

// ReadMessage reads what WriteMessage wrote into m. It never holds more memory than twice what arrived, whatever the
// length says, and refuses lengths above maxBytes with ErrMessageTooLarge before reading on. It returns io.EOF when r
// ends before a message, io.ErrUnexpectedEOF within one.
func ReadMessage(r io.Reader, maxBytes int, m proto.Message) error {
	var head [4]byte
	if _, err := io.ReadFull(r, head[:]); err != nil {
		return err
	}
	n := int64(binary.BigEndian.Uint32(head[:]))
	if n > int64(min(maxBytes, MaxMessageBytes)) {
		return fmt.Errorf("meshnet: %w: %d bytes, at most %d", ErrMessageTooLarge, n, min(maxBytes, MaxMessageBytes))
	}
	var buf bytes.Buffer // grows with what arrives: the length is only a claim
	if _, err := io.CopyN(&buf, r, n); err != nil {
		if errors.Is(err, io.EOF) {
			err = io.ErrUnexpectedEOF
		}
		return err
	}
	if err := proto.Unmarshal(buf.Bytes(), m); err != nil {
		return fmt.Errorf("meshnet: decode message: %w", err)
	}
	return nil
}
