// Package socketrpc holds the API of socketd: the generated gRPC client and
// server, its REST gateway, the permission that each method needs, and Dial.
package socketrpc

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"os"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"gopkg.in/macaroon.v2"
)

// MacaroonHeader is the gRPC metadata key under which a call carries its
// macaroon in hex. REST clients send it as Grpc-Metadata-Macaroon.
const MacaroonHeader = "macaroon"

// StreamLiveHeader is the key in the header of a stream which says that the
// stream was authorised and is live: what happens from then on is not missed.
const StreamLiveHeader = "socketd-stream"

// maxResponse is the most bytes that a response may have. A node's lists
// outgrow gRPC's 4 MiB after some thousand sockets or offers.
const maxResponse = 64 << 20

// ErrMacaroon is returned by Dial for a macaroon file that holds no macaroon.
var ErrMacaroon = errors.New("not a macaroon")

// Dial makes a connection to the socketd at addr ("host:port" or
// "unix:///path"). The server must present the certificate in the PEM file
// tlsCertPath, and every call carries the macaroon in macaroonPath. Like
// grpc.NewClient it does no network I/O: the first call connects. A response
// may have up to 64 MiB. Further options win over all of this.
func Dial(addr, tlsCertPath, macaroonPath string,
	opts ...grpc.DialOption) (*grpc.ClientConn, error) {

	creds, err := credentials.NewClientTLSFromFile(tlsCertPath, "")
	if err != nil {
		return nil, fmt.Errorf("read TLS certificate: %w", err)
	}

	raw, err := os.ReadFile(macaroonPath)
	if err != nil {
		return nil, fmt.Errorf("read macaroon: %w", err)
	}

	var mac macaroon.Macaroon
	if err := mac.UnmarshalBinary(raw); err != nil {
		return nil, fmt.Errorf("%w: %s", ErrMacaroon, macaroonPath)
	}

	return grpc.NewClient(addr, append([]grpc.DialOption{
		grpc.WithTransportCredentials(creds),
		grpc.WithPerRPCCredentials(macaroonCredential(
			hex.EncodeToString(raw),
		)),
		grpc.WithDefaultCallOptions(
			grpc.MaxCallRecvMsgSize(maxResponse),
		),
	}, opts...)...)
}

// macaroonCredential adds a macaroon, in hex, to every call of a connection.
type macaroonCredential string

// GetRequestMetadata returns the metadata that carries the macaroon.
func (m macaroonCredential) GetRequestMetadata(context.Context,
	...string) (map[string]string, error) {

	return map[string]string{MacaroonHeader: string(m)}, nil
}

// RequireTransportSecurity keeps the macaroon off connections without TLS.
func (m macaroonCredential) RequireTransportSecurity() bool {
	return true
}
