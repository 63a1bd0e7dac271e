package sidecar

import (
	"context"
	"errors"
	"io"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/gorilla/websocket"
	"github.com/grpc-ecosystem/grpc-gateway/v2/runtime"
	"github.com/grpc-ecosystem/grpc-gateway/v2/utilities"
	"github.com/socketd/socketd/socketrpc"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
)

const (
	// maxFrameSize bounds an inbound WebSocket message, in bytes. What
	// clients send is ignored: both streams are asked for by their URL.
	maxFrameSize = 64 << 10

	// A client that answers no ping for pingInterval + pongWait is gone.
	pingInterval = 30 * time.Second
	pongWait     = 10 * time.Second

	// frameTimeout bounds the write of one message.
	frameTimeout = 10 * time.Second

	// protocolDelimiter stands between a header's name and its value in
	// Sec-WebSocket-Protocol, lnd's way for browsers, which cannot set
	// headers on a WebSocket.
	protocolDelimiter = "+"

	// methodParam is the query parameter with which clients of lnd's
	// WebSockets name the HTTP method; both streams have one only.
	methodParam = "method"
)

// noFilter lets every query parameter through to the request.
var noFilter = utilities.NewDoubleArray(nil)

// streamSource opens the gRPC stream behind a WebSocket and returns how to
// receive from it.
type streamSource func(ctx context.Context, r *http.Request) (
	grpc.ClientStream, func() (proto.Message, error), error)

// isUpgrade tells whether a request asks for a WebSocket.
func isUpgrade(r *http.Request) bool {
	return websocket.IsWebSocketUpgrade(r)
}

// serveWebSocket serves a stream over a WebSocket. The call is authorised
// before the connection is upgraded.
func (h *restHandler) serveWebSocket(w http.ResponseWriter, r *http.Request) {
	// http.Server does not wait for a connection that was upgraded.
	h.sockets.Add(1)
	defer h.sockets.Done()

	mux, source := h.socket, h.openEvents
	switch r.URL.Path {
	case subscribePath:
		mux, source = h.older, h.openSubscribe

	case eventsPath:

	default:
		http.Error(w, "only "+subscribePath+" and "+eventsPath+
			" are streams", http.StatusBadRequest)

		return
	}
	_, marshaler := runtime.MarshalerForRequest(mux, r)

	protocol := macaroonFromProtocol(r)
	ctx, cancel := context.WithCancel(metadata.NewOutgoingContext(
		r.Context(), callMetadata(r.Context(), r),
	))
	defer cancel()

	recv, err := openStream(ctx, r, source)
	if err != nil {
		runtime.HTTPError(ctx, mux, marshaler, w, r, err)

		return
	}

	upgrader := websocket.Upgrader{
		// ServeHTTP has checked the origin.
		CheckOrigin: func(*http.Request) bool { return true },
	}
	header := http.Header{}
	if protocol != "" {
		// A browser gives up unless one of its protocols is chosen.
		header.Set("Sec-WebSocket-Protocol", protocol)
	}
	conn, err := upgrader.Upgrade(w, r, header)
	if err != nil {
		h.log.DebugContext(ctx, "WebSocket upgrade", "err", err)

		return
	}

	pumpWebSocket(ctx, cancel, conn, func() ([]byte, error) {
		return nextFrame(recv, marshaler)
	})
}

// macaroonFromProtocol moves a macaroon that came in Sec-WebSocket-Protocol to
// the header where REST calls have it. It returns the protocol that it came
// as, if it did.
func macaroonFromProtocol(r *http.Request) string {
	prefix := strings.ToLower(macaroonHTTPHeader + protocolDelimiter)
	for _, protocol := range websocket.Subprotocols(r) {
		if !strings.HasPrefix(strings.ToLower(protocol), prefix) {
			continue
		}
		r.Header.Add(macaroonHTTPHeader, protocol[len(prefix):])

		return protocol
	}

	return ""
}

// openStream opens a stream and waits until it is live.
func openStream(ctx context.Context, r *http.Request, source streamSource) (
	func() (proto.Message, error), error) {

	stream, recv, err := source(ctx, r)
	if err != nil {
		return nil, err
	}

	header, err := stream.Header()
	if err != nil {
		return nil, err
	}
	if len(header.Get(socketrpc.StreamLiveHeader)) > 0 {
		return recv, nil
	}

	// It ended before it was live: the reason is what is received.
	_, err = recv()
	if err == nil || errors.Is(err, io.EOF) {
		err = status.Error(codes.Internal, "stream is not live")
	}

	return nil, err
}

// openEvents opens the stream of events.
func (h *restHandler) openEvents(ctx context.Context, r *http.Request) (
	grpc.ClientStream, func() (proto.Message, error), error) {

	var req socketrpc.SubscribeEventsRequest
	query := r.URL.Query()
	query.Del(methodParam)
	err := runtime.PopulateQueryParameters(&req, query, noFilter)
	if err != nil {
		return nil, nil, status.Error(
			codes.InvalidArgument, err.Error(),
		)
	}

	stream, err := socketrpc.NewSocketClient(h.conn).SubscribeEvents(
		ctx, &req,
	)
	if err != nil {
		return nil, nil, err
	}

	return stream, func() (proto.Message, error) {
		return stream.Recv()
	}, nil
}

// openSubscribe opens the older stream.
func (h *restHandler) openSubscribe(ctx context.Context, _ *http.Request) (
	grpc.ClientStream, func() (proto.Message, error), error) {

	stream, err := socketrpc.NewWebsocketClient(h.conn).Subscribe(
		ctx, &socketrpc.SubscribeRequest{},
	)
	if err != nil {
		return nil, nil, err
	}

	return stream, func() (proto.Message, error) {
		return stream.Recv()
	}, nil
}

// nextFrame receives one message of a stream and returns it as the gateway
// writes it: {"result": …}, or {"error": …} with io.EOF for the end.
func nextFrame(recv func() (proto.Message, error),
	marshaler runtime.Marshaler) ([]byte, error) {

	msg, err := recv()
	if err == nil {
		return marshaler.Marshal(map[string]any{"result": msg})
	}
	if errors.Is(err, io.EOF) {
		return nil, io.EOF
	}

	frame, err := marshaler.Marshal(map[string]any{
		"error": status.Convert(err).Proto(),
	})
	if err != nil {
		return nil, err
	}

	return frame, io.EOF
}

// pumpWebSocket writes the frames that next returns until it returns an error,
// the client is gone or ctx is done. It closes the connection and ends its
// goroutines before it returns.
func pumpWebSocket(ctx context.Context, cancel context.CancelFunc,
	conn *websocket.Conn, next func() ([]byte, error)) {

	var wg sync.WaitGroup
	defer wg.Wait()
	defer conn.Close()
	defer cancel()

	wg.Go(func() {
		defer cancel()
		readUntilClosed(conn)
	})
	wg.Go(func() {
		defer cancel()
		pingUntilDone(ctx, conn)
	})

	for {
		frame, err := next()
		if len(frame) > 0 {
			_ = conn.SetWriteDeadline(time.Now().Add(frameTimeout))
			werr := conn.WriteMessage(websocket.TextMessage, frame)
			if werr != nil {
				return
			}
		}
		if err != nil {
			break
		}
	}

	_ = conn.WriteControl(
		websocket.CloseMessage,
		websocket.FormatCloseMessage(websocket.CloseNormalClosure, ""),
		time.Now().Add(frameTimeout),
	)
}

// readUntilClosed reads what the client sends, which is how gorilla handles
// pongs and closes, until the connection is of no more use.
func readUntilClosed(conn *websocket.Conn) {
	extend := func(string) error {
		return conn.SetReadDeadline(
			time.Now().Add(pingInterval + pongWait),
		)
	}
	conn.SetReadLimit(maxFrameSize)
	conn.SetPongHandler(extend)
	_ = extend("")

	for {
		_, r, err := conn.NextReader()
		if err != nil {
			return
		}
		if _, err := io.Copy(io.Discard, r); err != nil {
			return
		}
	}
}

// pingUntilDone pings the client until ctx is done or a ping cannot be
// written.
func pingUntilDone(ctx context.Context, conn *websocket.Conn) {
	ticker := time.NewTicker(pingInterval)
	defer ticker.Stop()

	for {
		select {
		case <-ctx.Done():
			return

		case <-ticker.C:
		}

		err := conn.WriteControl(
			websocket.PingMessage, nil,
			time.Now().Add(frameTimeout),
		)
		if err != nil {
			return
		}
	}
}
