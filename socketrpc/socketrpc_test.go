package socketrpc

import (
	"encoding/json"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
	"google.golang.org/grpc"
	"google.golang.org/protobuf/reflect/protoreflect"
	"gopkg.in/macaroon.v2"
	"gopkg.in/yaml.v3"
)

// method is what a method of the API needs, and where REST has it.
type method struct {
	action, verb, path string
}

// contract has every method of the API.
var contract = map[string]method{
	"/socket.Socket/SendSocket": {
		ActionWrite, "post", "/v1/socket/sendRequest",
	},
	"/socket.Socket/StartSocket": {
		ActionWrite, "post", "/v1/socket/start",
	},
	"/socket.Socket/StopSocket": {
		ActionWrite, "post", "/v1/socket/stop",
	},
	"/socket.Socket/ListSockets": {
		ActionRead, "get", "/v1/socket/sockets",
	},
	"/socket.Socket/ListOffers": {
		ActionRead, "get", "/v1/socket/offers",
	},
	"/socket.Socket/AcceptOffer": {
		ActionWrite, "post", "/v1/socket/offers/accept",
	},
	"/socket.Socket/RejectOffer": {
		ActionWrite, "post", "/v1/socket/offers/reject",
	},
	"/socket.Socket/WithdrawOffer": {
		ActionWrite, "post", "/v1/socket/withdraw",
	},
	"/socket.Socket/GetPolicy": {
		ActionRead, "get", "/v1/socket/policy",
	},
	"/socket.Socket/UpdatePolicy": {
		ActionWrite, "post", "/v1/socket/policy",
	},
	"/socket.Socket/GetInfo": {
		ActionRead, "get", "/v1/socket/getinfo",
	},
	"/socket.Socket/SubscribeEvents": {
		ActionRead, "get", "/v1/socket/events",
	},
	"/websocket.Websocket/Subscribe": {
		ActionRead, "get", "/v1/subscribe",
	},
}

// services returns the services of both proto files.
func services() []protoreflect.ServiceDescriptor {
	return []protoreflect.ServiceDescriptor{
		File_socket_proto.Services().ByName("Socket"),
		File_websocket_proto.Services().ByName("Websocket"),
	}
}

// TestMethods checks that every method has its permission, its REST rule, and
// its path in the OpenAPI file, and that there are no others.
func TestMethods(t *testing.T) {
	t.Parallel()

	var rest struct {
		HTTP struct {
			Rules []map[string]string `yaml:"rules"`
		} `yaml:"http"`
	}
	raw, err := os.ReadFile("socket.yaml")
	require.NoError(t, err)
	require.NoError(t, yaml.Unmarshal(raw, &rest))
	rules := make(map[string]map[string]string)
	for _, rule := range rest.HTTP.Rules {
		rules[rule["selector"]] = rule
	}

	var openAPI struct {
		Paths map[string]map[string]any `json:"paths"`
	}
	raw, err = os.ReadFile("socket.swagger.json")
	require.NoError(t, err)
	require.NoError(t, json.Unmarshal(raw, &openAPI))

	var seen int
	for _, service := range services() {
		for i := range service.Methods().Len() {
			m := service.Methods().Get(i)
			full := "/" + string(service.FullName()) + "/" +
				string(m.Name())
			want, ok := contract[full]
			require.True(t, ok, "%s is not in the contract", full)
			seen++

			perm, ok := MethodPermission(full)
			require.True(t, ok, "%s has no permission", full)
			require.Equal(
				t, Permission{Entity, want.action}, perm, full,
			)

			rule := rules[string(m.FullName())]
			require.Equal(t, want.path, rule[want.verb], full)
			require.Contains(t, openAPI.Paths[want.path], want.verb)
		}
	}
	require.Len(t, contract, seen)
	require.Len(t, rules, seen)
	var operations int
	for _, path := range openAPI.Paths {
		operations += len(path)
	}
	require.Equal(t, seen, operations)
	require.Len(t, permissions, seen)

	_, ok := MethodPermission("/socket.Socket/NoSuch")
	require.False(t, ok)
}

// TestOlderFields checks the names and numbers of the fields that the older
// published API has. They never change.
func TestOlderFields(t *testing.T) {
	t.Parallel()

	for message, fields := range map[protoreflect.Message][]string{
		(&SendSocketRequest{}).ProtoReflect():  {"pubkey"},
		(&SendSocketResponse{}).ProtoReflect(): {"id"},
		(&StartSocketResponse{}).ProtoReflect(): {
			"protocol", "ip", "port1", "port2",
		},
		(&SubscribeResponse{}).ProtoReflect(): {
			"id", "reply_to_id", "from_pubkey", "data",
			"service_type", "amount",
		},
		(&Event{}).ProtoReflect(): {
			"id", "reply_to_id", "from_pubkey", "data",
			"service_type", "amount",
		},
	} {
		for i, name := range fields {
			number := protoreflect.FieldNumber(i + 1)
			field := message.Descriptor().Fields().ByNumber(number)
			require.NotNil(t, field)
			require.Equal(t, protoreflect.Name(name), field.Name())

			kind := protoreflect.StringKind
			switch name {
			case "data":
				kind = protoreflect.BytesKind

			case "amount":
				kind = protoreflect.Int64Kind
			}
			require.Equal(t, kind, field.Kind(), name)
		}
	}
}

// TestDialFiles checks what Dial says of files that it cannot use.
func TestDialFiles(t *testing.T) {
	t.Parallel()

	var (
		dir     = t.TempDir()
		missing = filepath.Join(dir, "missing")
		mac     = filepath.Join(dir, "mac")
		cert    = "testdata/tls.cert"
	)

	_, err := Dial("localhost:1", missing, missing)
	require.ErrorIs(t, err, os.ErrNotExist)
	require.ErrorContains(t, err, "TLS certificate")

	_, err = Dial("localhost:1", cert, missing)
	require.ErrorIs(t, err, os.ErrNotExist)
	require.ErrorContains(t, err, "macaroon")

	require.NoError(t, os.WriteFile(mac, []byte("no macaroon"), 0600))
	_, err = Dial("localhost:1", cert, mac)
	require.ErrorIs(t, err, ErrMacaroon)

	m, err := macaroon.New([]byte("key"), []byte("id"), "", macaroon.V2)
	require.NoError(t, err)
	raw, err := m.MarshalBinary()
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(mac, raw, 0600))
	conn, err := Dial("localhost:1", cert, mac, grpc.WithUserAgent("test"))
	require.NoError(t, err)
	require.NoError(t, conn.Close())
}
