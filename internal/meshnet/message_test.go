package meshnet

import (
	"bytes"
	"encoding/binary"
	"io"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/types/known/wrapperspb"
)

func TestMessageRoundTrip(t *testing.T) {
	var buf bytes.Buffer
	for _, s := range []string{"", "hello", strings.Repeat("x", 100_000)} {
		require.NoError(t, WriteMessage(&buf, wrapperspb.String(s)))
	}
	for _, s := range []string{"", "hello", strings.Repeat("x", 100_000)} {
		var m wrapperspb.StringValue
		require.NoError(t, ReadMessage(&buf, 1<<20, &m))
		require.Equal(t, s, m.Value)
	}
	require.ErrorIs(t, ReadMessage(&buf, 1<<20, &wrapperspb.StringValue{}), io.EOF)
}

func TestMessageLimits(t *testing.T) {
	require.ErrorIs(t, WriteMessage(io.Discard, wrapperspb.String(strings.Repeat("x", MaxMessageBytes))), ErrMessageTooLarge)
	var buf bytes.Buffer
	require.NoError(t, WriteMessage(&buf, wrapperspb.String("0123456789")))
	full := buf.Bytes()
	require.ErrorIs(t, ReadMessage(bytes.NewReader(full), 5, &wrapperspb.StringValue{}), ErrMessageTooLarge)
	for cut := 1; cut < len(full); cut++ {
		require.ErrorIs(t, ReadMessage(bytes.NewReader(full[:cut]), 100, &wrapperspb.StringValue{}), io.ErrUnexpectedEOF, "cut at %d", cut)
	}
	require.Error(t, ReadMessage(bytes.NewReader([]byte{0, 0, 0, 1, 0xff}), 100, &wrapperspb.StringValue{}), "not protobuf")
}

// A length is a claim: nothing is allocated for bytes that do not come.
func TestMessageLyingLength(t *testing.T) {
	var head [4]byte
	binary.BigEndian.PutUint32(head[:], MaxMessageBytes)
	per := testing.Benchmark(func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			_ = ReadMessage(bytes.NewReader(head[:]), MaxMessageBytes, &wrapperspb.StringValue{})
		}
	}).AllocedBytesPerOp()
	require.Less(t, per, int64(64<<10))
}

func FuzzReadMessage(f *testing.F) {
	f.Add([]byte{0, 0, 0, 2, 10, 0})
	f.Add([]byte{0xff, 0xff, 0xff, 0xff})
	f.Add([]byte{0, 0, 16, 0, 1, 2, 3})
	f.Fuzz(func(t *testing.T, b []byte) {
		const limit = 4096
		r := bytes.NewReader(b)
		var m wrapperspb.StringValue
		if ReadMessage(r, limit, &m) == nil && len(m.Value) > limit {
			t.Fatal("message beyond the limit")
		}
		if read := len(b) - r.Len(); read > limit+4 {
			t.Fatalf("read %d bytes", read)
		}
	})
}

func FuzzReadHeader(f *testing.F) {
	f.Add(appendHeader(nil, "directory"))
	f.Add([]byte{1, 0})
	f.Add([]byte{2, 3, 'a', 'b', 'c'})
	f.Add([]byte{1, 255})
	f.Fuzz(func(t *testing.T, b []byte) {
		name, err := readHeader(bytes.NewReader(b))
		if err != nil {
			return
		}
		if name == "" || len(name) > maxServiceName || !bytes.HasPrefix(b, appendHeader(nil, name)) {
			t.Fatalf("accepted %q as %q", b, name)
		}
	})
}
