package wire

import (
	"net/netip"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// testRequest returns a request that is valid.
func testRequest() *Request {
	return &Request{
		ID:        testID(1),
		Protocol:  ProtocolUDP,
		Legs:      Leg2,
		Admission: AdmissionToken,
		Expiry:    1767225600,
	}
}

// TestEncodeRefuses checks that nothing is encoded that would be refused when
// it is decoded.
func TestEncodeRefuses(t *testing.T) {
	offer := func(change func(*Offer)) Message {
		o := testOffer()
		change(o)

		return o
	}
	addrs := func(addrs ...string) Message {
		return offer(func(o *Offer) {
			o.Addrs = nil
			for _, addr := range addrs {
				o.Addrs = append(
					o.Addrs, netip.MustParseAddr(addr),
				)
			}
		})
	}

	request := func(change func(*Request)) Message {
		r := testRequest()
		change(r)

		return r
	}

	tests := []struct {
		name string
		msg  Message
		kind string
	}{
		{
			name: "offer without id",
			msg:  offer(func(o *Offer) { o.ID = ID{} }),
			kind: "malformed",
		},
		{
			name: "offer without socket id",
			msg:  offer(func(o *Offer) { o.SocketID = ID{} }),
			kind: "malformed",
		},
		{
			name: "offer without protocol",
			msg:  offer(func(o *Offer) { o.Protocol = 0 }),
			kind: "unsupported",
		},
		{
			name: "offer of another protocol",
			msg:  offer(func(o *Offer) { o.Protocol = 3 }),
			kind: "unsupported",
		},
		{
			name: "offer of another admission",
			msg:  offer(func(o *Offer) { o.Admission = 2 }),
			kind: "unsupported",
		},
		{
			name: "offer without token",
			msg: offer(func(o *Offer) {
				o.Admission = AdmissionToken
			}),
			kind: "malformed",
		},
		{
			name: "offer of both legs with one token",
			msg: offer(func(o *Offer) {
				o.Admission = AdmissionToken
				o.Legs = BothLegs
				o.Tokens[0] = testToken(1)
			}),
			kind: "malformed",
		},
		{
			name: "offer with the token of another leg",
			msg: offer(func(o *Offer) {
				o.Admission = AdmissionToken
				o.Tokens = Tokens{testToken(1), testToken(2)}
			}),
			kind: "malformed",
		},
		{
			name: "open offer with a token",
			msg: offer(func(o *Offer) {
				o.Tokens[1] = testToken(2)
			}),
			kind: "malformed",
		},
		{
			name: "offer without port 1",
			msg:  offer(func(o *Offer) { o.Port1 = 0 }),
			kind: "malformed",
		},
		{
			name: "offer without port 2",
			msg:  offer(func(o *Offer) { o.Port2 = 0 }),
			kind: "malformed",
		},
		{
			name: "offer of equal ports",
			msg:  offer(func(o *Offer) { o.Port2 = o.Port1 }),
			kind: "malformed",
		},
		{
			name: "offer of no leg",
			msg:  offer(func(o *Offer) { o.Legs = 0 }),
			kind: "malformed",
		},
		{
			name: "offer of leg 3",
			msg:  offer(func(o *Offer) { o.Legs = 4 }),
			kind: "malformed",
		},
		{
			name: "offer without address",
			msg:  addrs(),
			kind: "malformed",
		},
		{
			name: "offer of an invalid address",
			msg: offer(func(o *Offer) {
				o.Addrs = []netip.Addr{{}}
			}),
			kind: "malformed",
		},
		{
			name: "offer of an address with a zone",
			msg:  addrs("fe80::1%eth0"),
			kind: "malformed",
		},
		{
			name: "offer of a mapped address",
			msg:  addrs("::ffff:203.0.113.7"),
			kind: "malformed",
		},
		{
			name: "offer of an address twice",
			msg:  addrs("::1", "127.0.0.1", "::1"),
			kind: "malformed",
		},
		{
			name: "offer of nine addresses",
			msg: addrs("::1", "::2", "::3", "::4", "::5", "::6",
				"::7", "::8", "::9"),
			kind: "malformed",
		},
		{
			name: "offer with a bad label",
			msg:  offer(func(o *Offer) { o.Label = "\n" }),
			kind: "malformed",
		},
		{
			name: "offer of a host that is none",
			msg: offer(func(o *Offer) {
				o.Host = PubKey{1: 1}
			}),
			kind: "malformed",
		},
		{
			name: "offer of a host of another form",
			msg: offer(func(o *Offer) {
				o.Host = PubKey{4}
			}),
			kind: "malformed",
		},
		{
			name: "request without id",
			msg:  request(func(r *Request) { r.ID = ID{} }),
			kind: "malformed",
		},
		{
			name: "request without protocol",
			msg:  request(func(r *Request) { r.Protocol = 0 }),
			kind: "unsupported",
		},
		{
			name: "request of another admission",
			msg:  request(func(r *Request) { r.Admission = 2 }),
			kind: "unsupported",
		},
		{
			name: "request of no leg",
			msg:  request(func(r *Request) { r.Legs = 0 }),
			kind: "malformed",
		},
		{
			name: "request of leg 3",
			msg:  request(func(r *Request) { r.Legs = 4 }),
			kind: "malformed",
		},
		{
			name: "request of pairs of a UDP socket",
			msg: request(func(r *Request) {
				r.Limits.Pairs = 1
			}),
			kind: "malformed",
		},
		{
			name: "request of packets of a TCP socket",
			msg: request(func(r *Request) {
				r.Protocol = ProtocolTCP
				r.Limits.Packets = 1
			}),
			kind: "malformed",
		},
		{
			name: "request with a bad label",
			msg:  request(func(r *Request) { r.Label = "\u202e" }),
			kind: "malformed",
		},
		{
			name: "accept without id",
			msg:  &Accept{ReplyTo: testID(2)},
			kind: "malformed",
		},
		{
			name: "ack without what it answers",
			msg:  &Ack{ID: testID(1)},
			kind: "malformed",
		},
		{
			name: "reject without what it answers",
			msg:  &Reject{ID: testID(1), Code: CodeLimit},
			kind: "malformed",
		},
		{
			name: "reject without code",
			msg:  &Reject{ID: testID(1), ReplyTo: testID(2)},
			kind: "malformed",
		},
		{
			name: "reject with a bad text",
			msg: &Reject{
				ID:      testID(1),
				ReplyTo: testID(2),
				Code:    CodeDeclined,
				Text:    strings.Repeat("a", MaxText+1),
			},
			kind: "malformed",
		},
		{
			name: "close without id",
			msg:  &Close{ReplyTo: testID(2)},
			kind: "malformed",
		},
		{
			name: "close with a bad text",
			msg: &Close{
				ID:      testID(1),
				ReplyTo: testID(2),
				Text:    "\xff",
			},
			kind: "malformed",
		},
	}

	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			body, err := Encode(test.msg)
			requireKind(t, test.kind, err)
			require.Nil(t, body)

			// What would have been sent is refused as well, except
			// that a decoder cannot see a zone.
			raw, err := encodeFields(test.msg.fields())
			require.NoError(t, err)
			if !strings.Contains(test.name, "zone") {
				_, err = Decode(test.msg.Type(), raw)
				require.Error(t, err)
			}
		})
	}
}
