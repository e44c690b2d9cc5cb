package load

import (
	"context"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"time"

	"github.com/coder/websocket"
	"github.com/livekit/protocol/livekit"
	"google.golang.org/protobuf/proto"

	"github.com/meridian-sfu/meridian/internal/mesh"
	"github.com/meridian-sfu/meridian/internal/token"
)

// What a client says it is.
const (
	clientProtocol = "16"
	clientSDK      = "go"
	clientVersion  = "2.16.7"
	maxMessage     = 4 << 20
	pingEvery      = 5 * time.Second
)

// signalling is one client's WebSocket.
type signalling struct {
	ws   *websocket.Conn
	join *livekit.JoinResponse

	mu sync.Mutex // orders writes
}

// credentials are who comes in where.
type credentials struct {
	url, key, secret, room, identity string
	publishes, autoSubscribe         bool
}

// dial connects and waits for the server's first message.
func dial(ctx context.Context, c credentials) (*signalling, error) {
	subscribes := !c.publishes
	jwt, err := token.Mint(c.key, c.secret, token.Claims{
		Identity: mesh.Identity(c.identity), Name: c.identity,
		Grant: token.Grant{RoomJoin: true, Room: c.room, CanPublish: &c.publishes, CanSubscribe: &subscribes},
	}, time.Hour, time.Now())
	if err != nil {
		return nil, fmt.Errorf("load: token: %w", err)
	}
	auto := "0"
	if c.autoSubscribe {
		auto = "1"
	}
	query := url.Values{
		"protocol": {clientProtocol}, "sdk": {clientSDK}, "version": {clientVersion}, "auto_subscribe": {auto},
	}
	ws, res, err := websocket.Dial(ctx, strings.TrimRight(c.url, "/")+"/rtc?"+query.Encode(), &websocket.DialOptions{
		HTTPHeader: http.Header{"Authorization": {"Bearer " + jwt}},
	})
	if res != nil && res.Body != nil {
		_ = res.Body.Close()
	}
	if err != nil {
		return nil, fmt.Errorf("load: connect to %s: %w", c.url, err)
	}
	ws.SetReadLimit(maxMessage)
	s := &signalling{ws: ws}
	first, err := s.receive(ctx)
	if err == nil && first.GetJoin() == nil {
		err = fmt.Errorf("load: %s answered %T in place of a join", c.url, first.GetMessage())
	}
	if err != nil {
		_ = ws.CloseNow()
		return nil, err
	}
	s.join = first.GetJoin()
	return s, nil
}

// send writes one message. It is safe for concurrent use.
func (s *signalling) send(ctx context.Context, m *livekit.SignalRequest) error {
	b, err := proto.Marshal(m)
	if err != nil {
		return fmt.Errorf("load: encode message: %w", err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.ws.Write(ctx, websocket.MessageBinary, b)
}

func (s *signalling) receive(ctx context.Context) (*livekit.SignalResponse, error) {
	_, b, err := s.ws.Read(ctx)
	if err != nil {
		return nil, fmt.Errorf("load: signalling: %w", err)
	}
	m := new(livekit.SignalResponse)
	if err := proto.Unmarshal(b, m); err != nil {
		return nil, fmt.Errorf("load: decode message: %w", err)
	}
	return m, nil
}

// ping keeps the connection alive until ctx ends.
func (s *signalling) ping(ctx context.Context) {
	tick := time.NewTicker(pingEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			now := time.Now().UnixMilli()
			m := &livekit.SignalRequest{Message: &livekit.SignalRequest_PingReq{PingReq: &livekit.Ping{Timestamp: now}}}
			if s.send(ctx, m) != nil {
				return
			}
		}
	}
}

// leave says goodbye and hangs up.
func (s *signalling) leave() {
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	_ = s.send(ctx, &livekit.SignalRequest{Message: &livekit.SignalRequest_Leave{Leave: &livekit.LeaveRequest{
		Reason: livekit.DisconnectReason_CLIENT_INITIATED, Action: livekit.LeaveRequest_DISCONNECT,
	}}})
	_ = s.ws.CloseNow()
}
