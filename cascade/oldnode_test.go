package cascade

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"sync"
	"time"

	"google.golang.org/protobuf/encoding/protowire"

	"github.com/meridian-sfu/meridian/internal/mesh"
)

// oldNode speaks the wire as the previous release does, written anew from its documentation and sharing no code with
// this one: frames packed and parsed by hand, control messages by field numbers. It is as strict as that release was, so
// that whatever it cannot take ends up in faults. It must not learn anything new: with a release it is replaced.
type oldNode struct {
	id       mesh.NodeID
	net      *fakeNet
	features uint64 // what it greets with: 1 knows parity, 0 is a release that knew nothing of features

	mu      sync.Mutex
	control net.Conn
	lanes   []*fakeConn
	faults  []string
	said    []oldMessage // by the other side, in order

	// As a receiver.
	symbols map[uint32][]byte // what arrived, by link sequence number, as parity protects it
	rtp     [][]byte          // whole packets, as they came
	halves  map[uint32][]byte
	highest uint32
	losses  uint16 // it tells of
	burst   byte
	parity  int // symbols that were right
	rtx     int
	keys    int // packets marked as keyframes

	// As a sender.
	next   uint32
	sent   map[uint32][]byte // whole frames, by link sequence number
	silent map[uint32]bool   // not to be sent again
	asked  int
}

// oldMessage is the body of a LinkMessage: its field number, and its fields by theirs.
type oldMessage struct {
	body   protowire.Number
	ints   map[protowire.Number]uint64
	bytes  map[protowire.Number][]string
	nested map[protowire.Number]map[protowire.Number]uint64
}

const (
	oldHello, oldWelcome, oldClose, oldUse, oldPing, oldPong            = 2, 3, 4, 5, 6, 7
	oldOpen, oldAccept, oldRefuse, oldDemand, oldFlowClose              = 8, 9, 10, 11, 12
	oldKeyframe, oldClock, oldEnded, oldLanes                           = 13, 14, 15, 30
	oldMedia, oldFragment, oldNack, oldProbe, oldAnswer, oldParity byte = 1, 2, 3, 4, 5, 6
)

func newOldNode(h *hub, id mesh.NodeID, features uint64) *oldNode {
	o := &oldNode{
		id: id, net: &fakeNet{hub: h, id: id}, features: features,
		symbols: make(map[uint32][]byte), halves: make(map[uint32][]byte),
		next: 1, sent: make(map[uint32][]byte), silent: make(map[uint32]bool),
	}
	o.net.control = func(_ mesh.NodeID, s net.Conn) { o.serveControl(s, true) }
	o.net.media = func(c MediaConn) { o.acceptLane(c) }
	h.join(o.net)
	return o
}

func (o *oldNode) fault(format string, args ...any) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.faults = append(o.faults, fmt.Sprintf(format, args...))
}

func (o *oldNode) look(f func()) {
	o.mu.Lock()
	defer o.mu.Unlock()
	f()
}

// greet opens a link to peer, and dials the lanes when its own ID is the lower one.
func (o *oldNode) greet(ctx context.Context, peer mesh.NodeID) error {
	s, err := o.net.OpenControl(ctx, peer)
	if err != nil {
		return err
	}
	hello := pint(nil, 1, 1)
	hello = pint(hello, 2, 1)
	hello = protowire.AppendFixed64(protowire.AppendTag(hello, 3, protowire.Fixed64Type), 77)
	hello = protowire.AppendFixed64(protowire.AppendTag(hello, 4, protowire.Fixed64Type), 1)
	hello = pint(hello, 5, 2)
	if o.features != 0 {
		hello = pint(hello, 6, o.features)
	}
	o.mu.Lock()
	o.control = s
	o.mu.Unlock()
	o.say(oldHello, hello)
	go o.serveControl(s, false)
	for index := uint64(0); index < 2 && o.id < peer; index++ {
		for range 100 { // until the Welcome is there
			if o.has(oldWelcome) {
				break
			}
			time.Sleep(10 * time.Millisecond)
		}
		c, err := o.net.DialMedia(ctx, netip.AddrPort{}, peer)
		if err != nil {
			return err
		}
		st, err := c.OpenStream(ctx)
		if err != nil {
			return err
		}
		lane := pint(nil, 1, 1)
		lane = protowire.AppendFixed64(protowire.AppendTag(lane, 2, protowire.Fixed64Type), 77)
		if index > 0 {
			lane = pint(lane, 3, index)
		}
		if _, err := st.Write(append(binary.BigEndian.AppendUint32(nil, uint32(len(lane))), lane...)); err != nil {
			return err
		}
		_ = st.Close()
		o.addLane(c)
	}
	return nil
}

func (o *oldNode) acceptLane(c MediaConn) {
	s, err := c.AcceptStream(context.Background())
	if err != nil {
		return
	}
	b, err := readOld(s)
	if err != nil || len(b) < 11 || b[0] != 1<<3 || b[1] != 1 || b[2] != 2<<3|1 {
		o.fault("lane hello %x: %v", b, err)
		return
	}
	_ = s.Close()
	o.addLane(c)
}

func (o *oldNode) addLane(c MediaConn) {
	fc := c.(*fakeConn)
	o.mu.Lock()
	o.lanes = append(o.lanes, fc)
	o.mu.Unlock()
	go func() {
		for {
			b, err := fc.ReceiveDatagram(context.Background())
			if err != nil {
				return
			}
			if err := o.datagram(fc, b); err != nil {
				o.fault("datagram %.40x: %v", b, err)
			}
		}
	}()
	go func() { // probes and NACKs
		for start := time.Now(); ; time.Sleep(30 * time.Millisecond) {
			o.mu.Lock()
			top, loss, burst, nack := o.next-1, o.losses, o.burst, o.missing()
			o.mu.Unlock()
			body := binary.BigEndian.AppendUint64(nil, uint64(time.Since(start).Microseconds()))
			body = binary.BigEndian.AppendUint32(body, top)
			body = binary.BigEndian.AppendUint16(body, loss)
			if o.features&1 != 0 && burst != 0 {
				body = append(body, burst)
			}
			if fc.SendDatagram(oldFrame(oldProbe, body, true)) != nil {
				return
			}
			if len(nack) > 0 {
				_ = fc.SendDatagram(oldFrame(oldNack, nack, true))
			}
		}
	}()
}

// missing is the body of a NACK for every gap, empty without. o.mu is held.
func (o *oldNode) missing() (body []byte) {
	for seq := uint32(1); seq <= o.highest && len(body) < 30*8; seq++ {
		if _, ok := o.symbols[seq]; !ok {
			body = binary.BigEndian.AppendUint32(body, seq)
			body = binary.BigEndian.AppendUint32(body, 0)
		}
	}
	return body
}

func oldFrame(kind byte, body []byte, last bool) []byte {
	if last {
		return append([]byte{1<<6 | kind<<2}, body...)
	}
	return append([]byte{1<<6 | kind<<2 | 2, byte(len(body) >> 8), byte(len(body))}, body...)
}

// datagram takes one apart, as strictly as ever.
func (o *oldNode) datagram(c *fakeConn, b []byte) error {
	for len(b) > 0 {
		head := b[0]
		if head>>6 != 1 || head&1 != 0 {
			return errors.New("version")
		}
		kind, body := head>>2&15, b[1:]
		b = nil
		if head&2 != 0 {
			if len(body) < 2 {
				return io.ErrUnexpectedEOF
			}
			n := int(binary.BigEndian.Uint16(body))
			if n > len(body)-2 {
				return errors.New("length")
			}
			body, b = body[2:2+n], body[2+n:]
		}
		if err := o.frame(c, kind, body); err != nil {
			return fmt.Errorf("frame %d: %w", kind, err)
		}
	}
	return nil
}

func (o *oldNode) frame(c *fakeConn, kind byte, body []byte) error {
	switch kind {
	case oldMedia, oldFragment:
		return o.take(kind, body)
	case oldNack:
		if len(body) == 0 || len(body)%8 != 0 || len(body) > 240 {
			return errors.New("NACK of a strange length")
		}
		for ; len(body) > 0; body = body[8:] {
			base, bits := binary.BigEndian.Uint32(body), binary.BigEndian.Uint32(body[4:])
			o.again(c, base)
			for i := range uint32(32) {
				if bits>>i&1 != 0 {
					o.again(c, base+1+i)
				}
			}
		}
	case oldProbe:
		if len(body) != 14 && (len(body) != 15 || body[14] == 0 || o.features&1 == 0) {
			return fmt.Errorf("probe of %d bytes", len(body))
		}
		o.look(func() { o.highest = max(o.highest, binary.BigEndian.Uint32(body[8:])) }) // the last packet may be the lost one
		return c.SendDatagram(oldFrame(oldAnswer, body[:8], true))
	case oldAnswer:
		if len(body) != 8 {
			return errors.New("answer of a strange length")
		}
	case oldParity:
		if o.features&1 == 0 {
			return errors.New("parity for somebody who does not know it")
		}
		return o.check(body)
	default:
		return errors.New("unknown")
	}
	return nil
}

// take takes a media or fragment frame.
func (o *oldNode) take(kind byte, body []byte) error {
	flow, n := protoVarint(body)
	if n == 0 || flow >= 1<<14 || len(body) < n+7 {
		return errors.New("flow ID")
	}
	seq, flags, rest := binary.BigEndian.Uint32(body[n:]), body[n+4], body[n+4:]
	if flags>>2&3 == 1 || kind == oldMedia && flags&0x10 != 0 {
		return errors.New("flags")
	}
	symbol := append([]byte{0, 0}, body[:n]...)
	symbol = append(symbol, rest...)
	symbol[2+n] &^= 0x20
	length := uint16(len(symbol) - 2)
	if kind == oldFragment {
		length |= 1 << 15
	}
	binary.BigEndian.PutUint16(symbol, length)
	rtp := rest[3:]
	o.mu.Lock()
	defer o.mu.Unlock()
	if flags&0x20 != 0 {
		o.rtx++
	}
	if _, ok := o.symbols[seq]; ok {
		return nil
	}
	o.symbols[seq] = symbol
	o.highest = max(o.highest, seq)
	if flags&0x80 != 0 {
		o.keys++
	}
	if kind == oldMedia {
		o.rtp = append(o.rtp, rtp)
		return nil
	}
	total := int(binary.BigEndian.Uint16(rtp))
	o.halves[seq] = rtp[2:]
	first := seq
	if flags&0x10 != 0 {
		first--
	}
	a, b := o.halves[first], o.halves[first+1]
	if a != nil && b != nil {
		if len(a)+len(b) != total {
			return errors.New("halves of another length")
		}
		o.rtp = append(o.rtp, append(append([]byte(nil), a...), b...))
	}
	return nil
}

// check computes a parity symbol itself when all of its block is here.
func (o *oldNode) check(body []byte) error {
	if len(body) <= 7 {
		return io.ErrUnexpectedEOF
	}
	base, packets, index, parities := binary.BigEndian.Uint32(body), int(body[4])+1, int(body[5]), int(body[6])
	if packets > 128 || parities > 40 || index >= parities {
		return errors.New("block")
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	o.highest = max(o.highest, base+uint32(packets)-1)
	if o.parity > 60 {
		return nil // enough of the sums
	}
	sum := make([]byte, 1600)
	for c := range packets {
		s, ok := o.symbols[base+uint32(c)]
		if !ok {
			return nil // it would have to solve for it; the symbols that can be checked will do
		}
		k := gfInverse(byte(128+index) ^ byte(c))
		for i, v := range s {
			sum[i] ^= gfMul(k, v)
		}
	}
	for i, v := range body[7:] {
		if sum[i] != v {
			return fmt.Errorf("symbol %d of %d+%d is wrong at %d", index, packets, parities, i)
		}
	}
	o.parity++
	return nil
}

func gfMul(a, b byte) (p byte) {
	for ; b != 0; b >>= 1 {
		if b&1 != 0 {
			p ^= a
		}
		carry := a & 0x80
		a <<= 1
		if carry != 0 {
			a ^= 0x1d
		}
	}
	return p
}

func gfInverse(a byte) byte {
	for b := 1; b < 256; b++ {
		if gfMul(a, byte(b)) == 1 {
			return byte(b)
		}
	}
	return 0
}

func protoVarint(b []byte) (v uint32, n int) {
	switch {
	case len(b) > 0 && b[0]>>6 == 0:
		return uint32(b[0]), 1
	case len(b) > 1 && b[0]>>6 == 1:
		return uint32(b[0]&0x3f)<<8 | uint32(b[1]), 2
	default:
		return 0, 0
	}
}

// send sends an RTP packet on a flow; the datagram is lost on the way when told so. It returns its number and symbol.
func (o *oldNode) send(flow uint32, rtp []byte, keyframe, lost bool) (seq uint32, symbol []byte) {
	o.mu.Lock()
	seq = o.next
	o.next++
	lane := o.lanes[int(seq)%len(o.lanes)]
	id := []byte{byte(flow)}
	if flow >= 64 {
		id = []byte{0x40 | byte(flow>>8), byte(flow)}
	}
	tail := []byte{2 << 2, 0, 255}
	if keyframe {
		tail[0] |= 0x80
	}
	body := binary.BigEndian.AppendUint32(append([]byte(nil), id...), seq)
	body = append(append(body, tail...), rtp...)
	o.sent[seq] = body
	o.mu.Unlock()
	symbol = append(append(append([]byte{0, 0}, id...), tail...), rtp...)
	binary.BigEndian.PutUint16(symbol, uint16(len(symbol)-2))
	if !lost {
		_ = lane.SendDatagram(oldFrame(oldMedia, body, true))
	}
	return seq, symbol
}

// protect sends the one parity symbol of a block.
func (o *oldNode) protect(base uint32, symbols [][]byte) {
	sum := make([]byte, 0, 1600)
	for c, s := range symbols {
		for len(sum) < len(s) {
			sum = append(sum, 0)
		}
		k := gfInverse(128 ^ byte(c))
		for i, v := range s {
			sum[i] ^= gfMul(k, v)
		}
	}
	body := append(binary.BigEndian.AppendUint32(nil, base), byte(len(symbols)-1), 0, 1)
	o.mu.Lock()
	lane := o.lanes[0]
	o.mu.Unlock()
	_ = lane.SendDatagram(oldFrame(oldParity, append(body, sum...), true))
}

// again answers a NACK.
func (o *oldNode) again(c *fakeConn, seq uint32) {
	o.mu.Lock()
	o.asked++
	body, ok := o.sent[seq]
	ok = ok && !o.silent[seq]
	body = append([]byte(nil), body...)
	o.mu.Unlock()
	if !ok {
		return
	}
	_, n := protoVarint(body)
	body[n+4] |= 0x20
	_ = c.SendDatagram(oldFrame(oldMedia, body, true))
}

// say sends a control message.
func (o *oldNode) say(body protowire.Number, fields []byte) {
	m := pint(nil, 1, 1)
	m = protowire.AppendBytes(protowire.AppendTag(m, body, protowire.BytesType), fields)
	o.mu.Lock()
	s := o.control
	o.mu.Unlock()
	_, _ = s.Write(append(binary.BigEndian.AppendUint32(nil, uint32(len(m))), m...)) // fails when the link is gone: seen elsewhere
}

func pint(b []byte, field protowire.Number, v uint64) []byte {
	return protowire.AppendVarint(protowire.AppendTag(b, field, protowire.VarintType), v)
}

func pstring(b []byte, field protowire.Number, s string) []byte {
	return protowire.AppendString(protowire.AppendTag(b, field, protowire.BytesType), s)
}

func readOld(r io.Reader) ([]byte, error) {
	var head [4]byte
	if _, err := io.ReadFull(r, head[:]); err != nil {
		return nil, err
	}
	b := make([]byte, binary.BigEndian.Uint32(head[:]))
	_, err := io.ReadFull(r, b)
	return b, err
}

func (o *oldNode) serveControl(s net.Conn, accept bool) {
	o.mu.Lock()
	o.control = s
	o.mu.Unlock()
	for {
		b, err := readOld(s)
		if err != nil {
			return
		}
		m, err := parseOld(b)
		if err != nil {
			o.fault("control message %x: %v", b, err)
			continue
		}
		o.look(func() { o.said = append(o.said, m) })
		switch m.body {
		case oldHello:
			if !accept || m.ints[1] < 1 || m.ints[2] > 1 || m.ints[5] == 0 {
				o.fault("hello %v", m)
			}
			welcome := pint(nil, 1, 1)
			welcome = protowire.AppendFixed64(protowire.AppendTag(welcome, 2, protowire.Fixed64Type), 9)
			welcome = pint(welcome, 3, 2)
			if o.features != 0 {
				welcome = pint(welcome, 4, o.features)
			}
			o.say(oldWelcome, welcome)
			o.say(oldUse, pint(nil, 1, 1))
		case oldPing:
			o.say(oldPong, pint(nil, 1, m.ints[1]))
		case oldOpen:
			o.say(oldAccept, pint(nil, 1, m.ints[2]))
		case oldWelcome, oldClose, oldUse, oldPong, oldAccept, oldRefuse, oldDemand, oldFlowClose, oldKeyframe, oldClock, oldEnded, oldLanes:
		default:
			o.fault("control message %d is not known", m.body)
		}
	}
}

func parseOld(b []byte) (m oldMessage, err error) {
	for len(b) > 0 {
		num, kind, n := protowire.ConsumeTag(b)
		if n < 0 {
			return m, protowire.ParseError(n)
		}
		b = b[n:]
		if num == 1 {
			v, n := protowire.ConsumeVarint(b)
			if n < 0 || v != 1 {
				return m, fmt.Errorf("version %d", v)
			}
			b = b[n:]
			continue
		}
		if kind != protowire.BytesType {
			return m, fmt.Errorf("field %d of type %d", num, kind)
		}
		body, n := protowire.ConsumeBytes(b)
		if n < 0 {
			return m, protowire.ParseError(n)
		}
		b = b[n:]
		m.body = num
		m.ints, m.bytes, err = fieldsOf(body)
		m.nested = make(map[protowire.Number]map[protowire.Number]uint64)
		if num == oldOpen || num == oldDemand {
			for field, all := range m.bytes {
				if inner, _, err := fieldsOf([]byte(all[0])); err == nil {
					m.nested[field] = inner
				}
			}
		}
	}
	return m, err
}

func fieldsOf(b []byte) (ints map[protowire.Number]uint64, bytes map[protowire.Number][]string, err error) {
	ints, bytes = make(map[protowire.Number]uint64), make(map[protowire.Number][]string)
	for len(b) > 0 {
		num, kind, n := protowire.ConsumeTag(b)
		if n < 0 {
			return nil, nil, protowire.ParseError(n)
		}
		b = b[n:]
		switch kind {
		case protowire.VarintType:
			ints[num], n = protowire.ConsumeVarint(b)
		case protowire.Fixed64Type:
			ints[num], n = protowire.ConsumeFixed64(b)
		case protowire.Fixed32Type:
			var v uint32
			v, n = protowire.ConsumeFixed32(b)
			ints[num] = uint64(v)
		case protowire.BytesType:
			var v []byte
			v, n = protowire.ConsumeBytes(b)
			bytes[num] = append(bytes[num], string(v))
		default:
			return nil, nil, fmt.Errorf("wire type %d", kind)
		}
		if n < 0 {
			return nil, nil, protowire.ParseError(n)
		}
		b = b[n:]
	}
	return ints, bytes, nil
}

// all returns what was said of a kind.
func (o *oldNode) all(body protowire.Number) (out []oldMessage) {
	o.look(func() {
		for _, m := range o.said {
			if m.body == body {
				out = append(out, m)
			}
		}
	})
	return out
}

func (o *oldNode) has(body protowire.Number) bool { return len(o.all(body)) > 0 }
