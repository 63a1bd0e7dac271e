//go:build itest

package itest

import (
	"encoding/json"
	"testing"

	"github.com/stretchr/testify/require"
	"google.golang.org/grpc"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protodesc"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/descriptorpb"
	"google.golang.org/protobuf/types/dynamicpb"
)

// olderField is a field of a message of the older API.
type olderField struct {
	name string
	kind descriptorpb.FieldDescriptorProto_Type
}

const (
	str   = descriptorpb.FieldDescriptorProto_TYPE_STRING
	bytez = descriptorpb.FieldDescriptorProto_TYPE_BYTES
	i64   = descriptorpb.FieldDescriptorProto_TYPE_INT64

	optional = descriptorpb.FieldDescriptorProto_LABEL_OPTIONAL
)

// olderMessages are the messages of the older API as its tables describe them,
// field numbers counting from 1.
var olderMessages = map[string][]olderField{
	"Empty":       {},
	"SendRequest": {{"pubkey", str}},
	"SendReply":   {{"id", str}},
	"StartReply": {
		{"protocol", str}, {"ip", str}, {"port1", str}, {"port2", str},
	},
	"SubscribeReply": {
		{"id", str}, {"reply_to_id", str}, {"from_pubkey", str},
		{"data", bytez}, {"service_type", str}, {"amount", i64},
	},
}

// olderAPI builds the messages of the older API, without a look at our own
// proto files.
func olderAPI(t *testing.T) func(name string) *dynamicpb.Message {
	t.Helper()

	file := &descriptorpb.FileDescriptorProto{
		Name:    proto.String("older.proto"),
		Syntax:  proto.String("proto3"),
		Package: proto.String("older"),
	}
	for name, fields := range olderMessages {
		msg := &descriptorpb.DescriptorProto{Name: proto.String(name)}
		for i, field := range fields {
			msg.Field = append(
				msg.Field, &descriptorpb.FieldDescriptorProto{
					Name:   proto.String(field.name),
					Number: proto.Int32(int32(i + 1)),
					Type:   field.kind.Enum(),
					Label:  optional.Enum(),
				},
			)
		}
		file.MessageType = append(file.MessageType, msg)
	}
	descriptor, err := protodesc.NewFile(file, nil)
	require.NoError(t, err)

	return func(name string) *dynamicpb.Message {
		return dynamicpb.NewMessage(descriptor.Messages().ByName(
			protoreflect.Name(name),
		))
	}
}

// field returns a field of a message.
func field(msg *dynamicpb.Message, name string) protoreflect.Value {
	return msg.Get(msg.Descriptor().Fields().ByName(
		protoreflect.Name(name),
	))
}

// TestOlderClient calls the older API as a client does that was generated from
// it: its paths and field numbers, nothing of ours but TLS and the macaroon.
func TestOlderClient(t *testing.T) {
	a, b := shared.a, shared.b
	a.stopDefault(t)
	message := olderAPI(t)
	invoke := func(n *node, method, request string,
		reply *dynamicpb.Message) *dynamicpb.Message {

		t.Helper()

		req := message(request)
		if request == "SendRequest" {
			req.Set(
				req.Descriptor().Fields().ByName("pubkey"),
				protoreflect.ValueOfString(b.pubkey()),
			)
		}
		require.NoError(t, n.conn.Invoke(
			testContext(t), method, req, reply,
		))

		return reply
	}

	stream, err := b.conn.NewStream(
		testContext(t), &grpc.StreamDesc{ServerStreams: true},
		"/websocket.Websocket/Subscribe",
	)
	require.NoError(t, err)
	require.NoError(t, stream.SendMsg(message("Empty")))
	require.NoError(t, stream.CloseSend())
	_, err = stream.Header()
	require.NoError(t, err)

	start := invoke(
		a, "/socket.Socket/StartSocket", "Empty", message("StartReply"),
	)
	require.Equal(t, "udp", field(start, "protocol").String())
	require.Equal(t, "127.0.0.1", field(start, "ip").String())

	again := invoke(
		a, "/socket.Socket/StartSocket", "Empty", message("StartReply"),
	)
	for _, name := range []string{"port1", "port2"} {
		require.NotEmpty(t, field(start, name).String())
		require.Equal(
			t, field(start, name).String(),
			field(again, name).String(),
		)
	}

	sent := invoke(
		a, "/socket.Socket/SendSocket", "SendRequest",
		message("SendReply"),
	)
	event := message("SubscribeReply")
	require.NoError(t, stream.RecvMsg(event))
	require.Equal(
		t, field(sent, "id").String(), field(event, "id").String(),
	)
	require.Equal(t, a.pubkey(), field(event, "from_pubkey").String())
	require.Equal(t, "socket", field(event, "service_type").String())

	var data map[string]any
	require.NoError(t, json.Unmarshal(field(event, "data").Bytes(), &data))
	for _, name := range []string{"protocol", "ip", "port1", "port2"} {
		require.Equal(t, field(start, name).String(), data[name])
	}

	// The two ports swap what their clients send, as the older API says.
	one := dialLeg(t, field(start, "port1").String())
	two := dialLeg(t, field(start, "port2").String())
	onA := a.subscribe(t)
	pin(t, one, onA)
	pin(t, two, onA)
	receive(t, one, nil)
	sendTo(t, one, []byte("to two"))
	receive(t, two, []byte("to two"))

	invoke(a, "/socket.Socket/StopSocket", "Empty", message("Empty"))
	invoke(a, "/socket.Socket/StopSocket", "Empty", message("Empty"))
}
