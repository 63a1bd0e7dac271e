package compare

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"time"

	"github.com/pion/stun/v3"
	"golang.org/x/sys/unix"
)

const (
	// channel is the number under which a TURN client reaches its peer.
	channel = 0x4000

	// channelHeadSize is the size of the framing of a datagram of a
	// channel: its number and the length of the payload.
	channelHeadSize = 4

	// askEvery is after how much silence a request is sent again, and
	// askTimes how often it is sent.
	askEvery = 500 * time.Millisecond
	askTimes = 6
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
	fd int

	// auth is what is added to a request: nothing until the server has
	// asked for it.
	auth []stun.Setter
}

// allocate opens a channel to the peer through the TURN server that the client
// is connected to, and returns the port at which the peer reaches the client.
func allocate(c client, peer uint16) (uint16, error) {
	t := &turnClient{fd: c.fd}

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

		answer, err := t.exchange(request)
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

// exchange sends a message until it is answered.
func (t *turnClient) exchange(request *stun.Message) (*stun.Message, error) {
	buffer := make([]byte, plainSize)

	for range askTimes {
		_, err := unix.Write(t.fd, request.Raw)
		if err != nil && !errors.Is(err, unix.ECONNREFUSED) {
			return nil, err
		}

		for {
			ready, err := await(t.fd, askEvery)
			if err != nil {
				return nil, err
			}
			if !ready {
				break
			}

			n, err := unix.Read(t.fd, buffer)
			if err != nil {
				break
			}
			answer := answerTo(request, buffer[:n])
			if answer != nil {
				return answer, nil
			}
		}
	}

	return nil, errNoPath
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
