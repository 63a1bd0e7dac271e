package sidecar

import (
	"context"
	"log/slog"
	"net/http"
	"net/url"
	"slices"
	"sync"
	"time"

	"github.com/grpc-ecosystem/grpc-gateway/v2/runtime"
	"github.com/socketd/socketd/socketrpc"
	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
)

const (
	// macaroonHTTPHeader carries the macaroon of a REST call, as lnd's.
	macaroonHTTPHeader = "Grpc-Metadata-Macaroon"

	// subscribePath and eventsPath are the streams, which are served over
	// WebSocket as well.
	subscribePath = "/v1/subscribe"
	eventsPath    = "/v1/socket/events"

	// maxRequestSize bounds a request of either API, in bytes.
	maxRequestSize = 64 << 10

	// bodyTimeout bounds how long a client may take to send its request,
	// and a call over REST as a whole.
	bodyTimeout = 30 * time.Second

	corsMethods = "GET, POST, OPTIONS"
	corsHeaders = "Content-Type, Accept, " + macaroonHTTPHeader
)

// clientAddrCtx is the context key under which the outermost handler keeps the
// address of the client.
type clientAddrCtx struct{}

// restHandler serves REST and WebSockets by calling the gRPC side. All fields
// but sockets are immutable.
type restHandler struct {
	// socket serves our own methods with the names of the proto files, as
	// lnd does; older serves the older stream in camelCase.
	socket *runtime.ServeMux
	older  *runtime.ServeMux

	conn        grpc.ClientConnInterface
	origins     []string
	bodyTimeout time.Duration
	log         *slog.Logger

	// sockets counts the WebSockets that are being served.
	sockets sync.WaitGroup
}

// newRESTHandler returns a handler that calls the gRPC side over conn. Pages
// of the given origins may use it; "*" stands for every origin.
func newRESTHandler(ctx context.Context, conn *grpc.ClientConn,
	origins []string, log *slog.Logger) (*restHandler, error) {

	h := &restHandler{
		socket: newGateway(protojson.MarshalOptions{
			UseProtoNames:   true,
			EmitUnpopulated: true,
		}),
		older: newGateway(protojson.MarshalOptions{
			EmitUnpopulated: true,
		}),
		conn:        conn,
		origins:     origins,
		bodyTimeout: bodyTimeout,
		log:         log,
	}

	err := socketrpc.RegisterSocketHandler(ctx, h.socket, conn)
	if err != nil {
		return nil, err
	}
	err = socketrpc.RegisterWebsocketHandler(ctx, h.older, conn)
	if err != nil {
		return nil, err
	}

	return h, nil
}

// newGateway returns a gateway that writes JSON as opts say.
func newGateway(opts protojson.MarshalOptions) *runtime.ServeMux {
	return runtime.NewServeMux(
		runtime.WithMarshalerOption(
			runtime.MIMEWildcard,
			&runtime.JSONPb{MarshalOptions: opts},
		),
		runtime.WithIncomingHeaderMatcher(func(string) (string, bool) {
			// callMetadata says what is passed on; a client must
			// not be able to add to it.
			return "", false
		}),
		runtime.WithOutgoingHeaderMatcher(func(string) (string, bool) {
			return "", false
		}),
		runtime.WithMetadata(callMetadata),
		runtime.WithForwardResponseOption(flushStreamHeader),
	)
}

// callMetadata returns the metadata of the gRPC call behind a REST call: its
// macaroon and the true address of its client.
func callMetadata(_ context.Context, r *http.Request) metadata.MD {
	md := metadata.MD{}
	md.Append(socketrpc.MacaroonHeader, r.Header.Values(
		macaroonHTTPHeader,
	)...)

	addr, ok := r.Context().Value(clientAddrCtx{}).(string)
	if ok {
		md.Set(clientAddrKey, addr)
	}

	return md
}

// flushStreamHeader sends the header of a stream's response before the first
// event, so that the client knows that its stream is live. The gateway calls
// it without a message then.
func flushStreamHeader(_ context.Context, w http.ResponseWriter,
	msg proto.Message) error {

	if msg != nil {
		return nil
	}
	w.Header().Set("Content-Type", "application/json")

	return http.NewResponseController(w).Flush()
}

// ServeHTTP serves one call.
func (h *restHandler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	r = r.WithContext(context.WithValue(
		r.Context(), clientAddrCtx{}, r.RemoteAddr,
	))
	r.Body = http.MaxBytesReader(w, r.Body, maxRequestSize)

	// The body is read before the call is authorised: nobody may take for
	// ever to send it. Only streams last longer, and they have none.
	if r.Method == http.MethodPost {
		deadline := time.Now().Add(h.bodyTimeout)
		err := http.NewResponseController(w).SetReadDeadline(deadline)
		if err != nil {
			http.Error(w, err.Error(),
				http.StatusInternalServerError)

			return
		}
	}

	if origin := r.Header.Get("Origin"); origin != "" {
		if !h.originAllowed(r, origin) {
			http.Error(w, "origin is not in restcors",
				http.StatusForbidden)

			return
		}

		w.Header().Set("Access-Control-Allow-Origin", origin)
		w.Header().Set("Vary", "Origin")
		if r.Method == http.MethodOptions {
			w.Header().Set("Access-Control-Allow-Methods",
				corsMethods)
			w.Header().Set("Access-Control-Allow-Headers",
				corsHeaders)
			w.WriteHeader(http.StatusNoContent)

			return
		}
	}

	switch {
	case isUpgrade(r):
		h.serveWebSocket(w, r)

	case r.URL.Path == subscribePath:
		h.older.ServeHTTP(w, r)

	default:
		h.socket.ServeHTTP(w, r)
	}
}

// originAllowed tells whether pages of an origin may call: those that the
// owner names, and those of this very server.
func (h *restHandler) originAllowed(r *http.Request, origin string) bool {
	if slices.Contains(h.origins, "*") {
		return true
	}
	if slices.Contains(h.origins, origin) {
		return true
	}

	u, err := url.Parse(origin)

	return err == nil && u.Host == r.Host
}
