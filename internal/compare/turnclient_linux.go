package compare

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net"

	"github.com/pion/stun/v3"
)

const (
	// channel is the number under which a TURN client reaches its peer.
	channel = 0x4000

	// channelHeadSize is the size of the framing of a datagram of a
	// channel: its number and the length of the payload.
	channelHeadSize = 4
)

// errPortTaken means that the server still serves an earlier client that had
// the same port.
var errPortTaken = errors.New("the server knows the client's port")

// channelHead returns the framing of a datagram without its length.
func channelHead() []byte {
	head := make([]byte, channelHeadSize)
	binary.BigEndian.PutUint16(head, channel)

	return head
}

// turnClient asks a TURN server for things.
type turnClient struct {
	client

	// auth is what is added to a request: nothing until the server has
	// asked for it.
	auth []stun.Setter
}

// allocate opens a channel to the peer through the TURN server that the client
// is connected to, and returns the port at which the peer reaches the client.
func allocate(c client, peer uint16) (uint16, error) {
	t := &turnClient{client: c}

	// 17 is UDP.
	transport := stun.RawAttribute{
		Type:  stun.AttrRequestedTransport,
		Value: []byte{17, 0, 0, 0},
	}
	answer, err := t.ask(stun.MethodAllocate, transport)
	if err != nil {
		return 0, err
	}

	var relayed stun.XORMappedAddress
	err = relayed.GetFromAs(answer, stun.AttrXORRelayedAddress)
	if err != nil {
		return 0, fmt.Errorf("TURN address: %w", err)
	}

	addr := peerAddress{
		IP:   net.IPv4(127, 0, 0, 1),
		Port: int(peer),
	}
	if _, err = t.ask(stun.MethodCreatePermission, addr); err != nil {
		return 0, err
	}

	number := stun.RawAttribute{
		Type:  stun.AttrChannelNumber,
		Value: []byte{channel >> 8, channel & 0xff, 0, 0},
	}
	if _, err = t.ask(stun.MethodChannelBind, number, addr); err != nil {
		return 0, err
	}

	return uint16(relayed.Port), nil
}

// peerAddress is the attribute XOR-PEER-ADDRESS.
type peerAddress stun.XORMappedAddress

// AddTo adds the attribute to a message.
func (p peerAddress) AddTo(m *stun.Message) error {
	return stun.XORMappedAddress(p).AddToAs(m, stun.AttrXORPeerAddress)
}

// ask sends a request and returns the answer. A server that wants to know who
// asks is told.
func (t *turnClient) ask(method stun.Method,
	with ...stun.Setter) (*stun.Message, error) {

	for {
		setters := append([]stun.Setter{
			stun.TransactionID,
			stun.NewType(method, stun.ClassRequest),
		}, with...)
		request, err := stun.Build(append(setters, t.auth...)...)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", method, err)
		}

		var answer *stun.Message
		err = t.exchange(request.Raw, func(datagram []byte) bool {
			answer = answerTo(request, datagram)

			return answer != nil
		})
		if err != nil {
			return nil, fmt.Errorf("%s: %w", method, err)
		}
		if answer.Type.Class == stun.ClassSuccessResponse {
			return answer, nil
		}

		var code stun.ErrorCodeAttribute
		if err := code.GetFrom(answer); err != nil {
			return nil, fmt.Errorf("%s: %w", method, err)
		}
		if code.Code == stun.CodeAllocMismatch {
			return nil, errPortTaken
		}
		if code.Code != stun.CodeUnauthorized || len(t.auth) > 0 {
			return nil, fmt.Errorf("%s: refused: %s", method, code)
		}
		if err := t.identify(answer); err != nil {
			return nil, fmt.Errorf("%s: %w", method, err)
		}
	}
}

// identify takes from a refusal what the server wants to see.
func (t *turnClient) identify(refusal *stun.Message) error {
	var (
		realm stun.Realm
		nonce stun.Nonce
	)
	if err := refusal.Parse(&realm, &nonce); err != nil {
		return err
	}

	t.auth = []stun.Setter{
		stun.NewUsername(turnUser), realm, nonce,
		stun.NewLongTermIntegrity(
			turnUser, realm.String(), turnPassword,
		),
	}

	return nil
}

// answerTo returns the message in a datagram if it answers the request, nil if
// not.
func answerTo(request *stun.Message, datagram []byte) *stun.Message {
	answer := &stun.Message{Raw: append([]byte(nil), datagram...)}
	if answer.Decode() != nil ||
		answer.TransactionID != request.TransactionID {

		return nil
	}

	return answer
}
