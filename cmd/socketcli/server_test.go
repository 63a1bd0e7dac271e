package main

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/socketd/socketd/socketrpc"
	"github.com/stretchr/testify/require"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/metadata"
	"google.golang.org/protobuf/proto"
	"gopkg.in/macaroon.v2"
)

// testTimeout is how long a test waits for what must happen.
const testTimeout = 20 * time.Second

// call is one call as the server received it.
type call struct {
	method   string
	req      proto.Message
	macaroon []string
	deadline time.Duration
}

// testServer is a socketd without the daemon: the service over real gRPC and
// TLS, which records what it is asked and answers what a test wants.
type testServer struct {
	socketrpc.UnimplementedSocketServer

	// addr is where it listens, and dir a home directory with its
	// certificate and a macaroon for mainnet.
	addr string
	dir  string

	// macaroon is the content of the macaroon's file, in hex.
	macaroon string

	// live says that SubscribeEvents tells when it is live.
	live bool

	// passedOn is the id of what passes a leg on. Everything else that is
	// sent has the one of the response that a test sets.
	passedOn string

	// events is what SubscribeEvents sends. The stream ends when it is
	// closed.
	events chan *socketrpc.Event

	calls chan call
	grpc  *grpc.Server

	mu        sync.Mutex
	responses map[string]proto.Message
	errs      map[string]error
	hangs     map[string]bool
	gates     map[string]chan struct{}
}

// newTestServer starts a server that is stopped when the test ends.
func newTestServer(t *testing.T) *testServer {
	t.Helper()

	s := &testServer{
		dir:       t.TempDir(),
		events:    make(chan *socketrpc.Event, 10),
		calls:     make(chan call, 100),
		responses: make(map[string]proto.Message),
		errs:      make(map[string]error),
		hangs:     make(map[string]bool),
		gates:     make(map[string]chan struct{}),
	}

	networkDir := filepath.Join(s.dir, "mainnet")
	require.NoError(t, os.Mkdir(networkDir, 0o700))

	cert, certPEM := newCertificate(t)
	writeFile(t, filepath.Join(networkDir, "tls.cert"), certPEM)

	raw := newMacaroon(t)
	s.macaroon = hex.EncodeToString(raw)
	writeFile(t, filepath.Join(networkDir, "socket.macaroon"), raw)

	listener, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	s.addr = listener.Addr().String()

	s.grpc = grpc.NewServer(
		grpc.Creds(credentials.NewServerTLSFromCert(&cert)),
		grpc.UnaryInterceptor(s.unary),
	)
	socketrpc.RegisterSocketServer(s.grpc, s)

	served := make(chan error, 1)
	go func() {
		served <- s.grpc.Serve(listener)
	}()

	t.Cleanup(func() {
		s.grpc.Stop()

		// A test may be over before Serve has begun.
		err := <-served
		if !errors.Is(err, grpc.ErrServerStopped) {
			require.NoError(t, err)
		}
	})

	return s
}

// newCertificate returns a self-signed certificate for loopback.
func newCertificate(t *testing.T) (tls.Certificate, []byte) {
	t.Helper()

	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)

	template := &x509.Certificate{
		SerialNumber:          big.NewInt(1),
		Subject:               pkix.Name{CommonName: "socketd"},
		NotBefore:             time.Now().Add(-time.Hour),
		NotAfter:              time.Now().Add(time.Hour),
		IsCA:                  true,
		BasicConstraintsValid: true,
		DNSNames:              []string{"localhost"},
		IPAddresses:           []net.IP{net.IPv4(127, 0, 0, 1)},
	}
	der, err := x509.CreateCertificate(
		rand.Reader, template, template, &key.PublicKey, key,
	)
	require.NoError(t, err)

	return tls.Certificate{
			Certificate: [][]byte{der},
			PrivateKey:  key,
		}, pem.EncodeToMemory(&pem.Block{
			Type:  "CERTIFICATE",
			Bytes: der,
		})
}

// newMacaroon returns a macaroon as its file holds it.
func newMacaroon(t *testing.T) []byte {
	t.Helper()

	mac, err := macaroon.New(
		[]byte("root key"), []byte("id"), "lnd", macaroon.V2,
	)
	require.NoError(t, err)

	raw, err := mac.MarshalBinary()
	require.NoError(t, err)

	return raw
}

// writeFile writes a file that only its owner may read.
func writeFile(t *testing.T, path string, content []byte) {
	t.Helper()

	require.NoError(t, os.WriteFile(path, content, 0o600))
}

// respond sets the response of a method.
func (s *testServer) respond(method string, resp proto.Message) {
	s.mu.Lock()
	defer s.mu.Unlock()

	s.responses[method] = resp
}

// fail sets the error of a method.
func (s *testServer) fail(method string, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()

	s.errs[method] = err
}

// hang makes a method answer only when its caller has gone.
func (s *testServer) hang(method string) {
	s.mu.Lock()
	defer s.mu.Unlock()

	s.hangs[method] = true
}

// gate makes a method answer only when the returned function is called.
func (s *testServer) gate(method string) (open func()) {
	s.mu.Lock()
	defer s.mu.Unlock()

	gate := make(chan struct{})
	s.gates[method] = gate

	return func() { close(gate) }
}

// waitCall returns the next call that arrived.
func (s *testServer) waitCall(t *testing.T) call {
	t.Helper()

	select {
	case c := <-s.calls:
		return c

	case <-time.After(testTimeout):
		require.Fail(t, "no call arrived")

		return call{}
	}
}

// noCall checks that every call that arrived has been looked at.
func (s *testServer) noCall(t *testing.T) {
	t.Helper()

	require.Empty(t, s.calls)
}

// record notes a call.
func (s *testServer) record(ctx context.Context, method string,
	req proto.Message) {
	// A call without a deadline has none to count down.
	var left time.Duration
	if deadline, ok := ctx.Deadline(); ok {
		left = time.Until(deadline)
	}

	md, _ := metadata.FromIncomingContext(ctx)

	s.calls <- call{
		method:   method,
		req:      req,
		macaroon: md.Get(socketrpc.MacaroonHeader),
		deadline: left,
	}
}

// unary records a call, and fails it or keeps it waiting if a test wants so.
func (s *testServer) unary(ctx context.Context, req any,
	info *grpc.UnaryServerInfo, handler grpc.UnaryHandler) (any, error) {
	// Whoever waits for the call may change the answer from here on.
	s.mu.Lock()
	err, hangs := s.errs[info.FullMethod], s.hangs[info.FullMethod]
	gate := s.gates[info.FullMethod]
	s.mu.Unlock()

	s.record(ctx, info.FullMethod, req.(proto.Message))

	switch {
	case hangs:
		<-ctx.Done()

		return nil, ctx.Err()

	case err != nil:
		return nil, err
	}

	if gate != nil {
		select {
		case <-gate:
		case <-ctx.Done():
		}
	}

	return handler(ctx, req)
}

// answer returns the response that was set for a method, or an empty one.
func answer[T any](s *testServer, method string) (*T, error) {
	s.mu.Lock()
	defer s.mu.Unlock()

	if resp, ok := s.responses[method]; ok {
		return any(resp).(*T), nil
	}

	return new(T), nil
}

func (s *testServer) SendSocket(_ context.Context,
	req *socketrpc.SendSocketRequest) (*socketrpc.SendSocketResponse,
	error) {

	if s.passedOn != "" && req.GetSocketId() != "" {
		return &socketrpc.SendSocketResponse{Id: s.passedOn}, nil
	}

	return answer[socketrpc.SendSocketResponse](
		s, socketrpc.Socket_SendSocket_FullMethodName,
	)
}

func (s *testServer) StartSocket(context.Context,
	*socketrpc.StartSocketRequest) (*socketrpc.StartSocketResponse, error) {
	// The interceptor has the request.
	return answer[socketrpc.StartSocketResponse](
		s, socketrpc.Socket_StartSocket_FullMethodName,
	)
}

func (s *testServer) StopSocket(context.Context,
	*socketrpc.StopSocketRequest) (*socketrpc.StopSocketResponse, error) {
	// The interceptor has the request.
	return answer[socketrpc.StopSocketResponse](
		s, socketrpc.Socket_StopSocket_FullMethodName,
	)
}

func (s *testServer) ListSockets(context.Context,
	*socketrpc.ListSocketsRequest) (*socketrpc.ListSocketsResponse, error) {
	// The interceptor has the request.
	return answer[socketrpc.ListSocketsResponse](
		s, socketrpc.Socket_ListSockets_FullMethodName,
	)
}

func (s *testServer) ListOffers(context.Context,
	*socketrpc.ListOffersRequest) (*socketrpc.ListOffersResponse, error) {
	// The interceptor has the request.
	return answer[socketrpc.ListOffersResponse](
		s, socketrpc.Socket_ListOffers_FullMethodName,
	)
}

func (s *testServer) AcceptOffer(context.Context,
	*socketrpc.AcceptOfferRequest) (*socketrpc.AcceptOfferResponse, error) {
	// The interceptor has the request.
	return answer[socketrpc.AcceptOfferResponse](
		s, socketrpc.Socket_AcceptOffer_FullMethodName,
	)
}

func (s *testServer) RejectOffer(context.Context,
	*socketrpc.RejectOfferRequest) (*socketrpc.RejectOfferResponse, error) {
	// The interceptor has the request.
	return answer[socketrpc.RejectOfferResponse](
		s, socketrpc.Socket_RejectOffer_FullMethodName,
	)
}

func (s *testServer) WithdrawOffer(context.Context,
	*socketrpc.WithdrawOfferRequest) (*socketrpc.WithdrawOfferResponse,
	error) {
	// The interceptor has the request.
	return answer[socketrpc.WithdrawOfferResponse](
		s, socketrpc.Socket_WithdrawOffer_FullMethodName,
	)
}

func (s *testServer) GetInfo(context.Context,
	*socketrpc.GetInfoRequest) (*socketrpc.GetInfoResponse, error) {
	// The interceptor has the request.
	return answer[socketrpc.GetInfoResponse](
		s, socketrpc.Socket_GetInfo_FullMethodName,
	)
}

func (s *testServer) GetPolicy(context.Context,
	*socketrpc.GetPolicyRequest) (*socketrpc.GetPolicyResponse, error) {
	// The interceptor has the request.
	return answer[socketrpc.GetPolicyResponse](
		s, socketrpc.Socket_GetPolicy_FullMethodName,
	)
}

func (s *testServer) UpdatePolicy(context.Context,
	*socketrpc.UpdatePolicyRequest) (*socketrpc.UpdatePolicyResponse,
	error) {
	// The interceptor has the request.
	return answer[socketrpc.UpdatePolicyResponse](
		s, socketrpc.Socket_UpdatePolicy_FullMethodName,
	)
}

func (s *testServer) SubscribeEvents(req *socketrpc.SubscribeEventsRequest,
	stream grpc.ServerStreamingServer[socketrpc.Event]) error {
	// A stream has no interceptor here.
	const method = socketrpc.Socket_SubscribeEvents_FullMethodName
	s.record(stream.Context(), method, req)

	if s.live {
		err := stream.SendHeader(metadata.Pairs(
			socketrpc.StreamLiveHeader, "live",
		))
		if err != nil {
			return err
		}
	}

	for {
		select {
		case event, ok := <-s.events:
			if !ok {
				s.mu.Lock()
				defer s.mu.Unlock()

				return s.errs[method]
			}
			if err := stream.Send(event); err != nil {
				return err
			}

		case <-stream.Context().Done():
			return stream.Context().Err()
		}
	}
}

// result is what a run of socketcli left.
type result struct {
	code   int
	stdout string
	stderr string
}

// runCLI runs a command line against the server.
func (s *testServer) runCLI(t *testing.T, args ...string) result {
	t.Helper()

	return runArgs(t.Context(), append([]string{
		"--rpcserver=" + s.addr, "--socketdir=" + s.dir,
	}, args...)...)
}

// runArgs runs a command line.
func runArgs(ctx context.Context, args ...string) result {
	var stdout, stderr bytes.Buffer
	args = append([]string{"socketcli"}, args...)
	code := run(ctx, args, &stdout, &stderr)

	return result{
		code:   code,
		stdout: stdout.String(),
		stderr: stderr.String(),
	}
}
