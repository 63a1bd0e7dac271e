//go:build itest

package itest

import (
	"bytes"
	"crypto/rand"
	"encoding/json"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/socketd/socketd/socketrpc"
	"github.com/stretchr/testify/require"
)

// meeting is what `socketcli meet` prints.
type meeting struct {
	SocketID   string   `json:"socket_id"`
	OfferID    string   `json:"offer_id"`
	PassedOnID string   `json:"passed_on_id"`
	HostPubkey string   `json:"host_pubkey"`
	PeerPubkey string   `json:"peer_pubkey"`
	Protocol   string   `json:"protocol"`
	IP         string   `json:"ip"`
	IPs        []string `json:"ips"`
	Port1      string   `json:"port1"`
	Port2      string   `json:"port2"`
	Admission  string   `json:"admission"`
	Leg        uint32   `json:"leg"`
	Token1     string   `json:"token1"`
}

// trio is three nodes: A and B, which cannot host, and R, which hosts for
// whoever asks. Each is a peer of the two others.
type trio struct {
	a, b, r *node
}

// startTrio starts three nodes of the test's own.
func startTrio(t *testing.T) trio {
	t.Helper()

	n := trio{
		a: startNode(t, "--relay.externalip="),
		b: startNode(t, "--relay.externalip="),
		r: startNode(t, "--offer.allowrequests=any"),
	}
	for _, pair := range [][2]*node{{n.a, n.r}, {n.b, n.r}, {n.a, n.b}} {
		require.NoError(t, pair[0].Lnd.ConnectPeer(
			testContext(t), pair[1].Lnd,
		))
	}
	require.False(t, n.a.info(t).CanHost)
	require.False(t, n.b.info(t).CanHost)

	return n
}

// running is a socketcli that runs.
type running struct {
	*exec.Cmd
	stdout, stderr bytes.Buffer
}

// startMeet starts the meeting of A and B on R.
func (n *trio) startMeet(t *testing.T, args ...string) *running {
	t.Helper()

	args = append(append(n.a.Socketd.CLIArgs(),
		"meet", n.b.pubkey(), "--via", n.r.pubkey()), args...)
	cmd := &running{Cmd: exec.CommandContext(
		testContext(t), filepath.Join(binDir, "socketcli"), args...,
	)}
	cmd.Stdout, cmd.Stderr = &cmd.stdout, &cmd.stderr
	require.NoError(t, cmd.Start())

	return cmd
}

// failed waits until the command has failed, and returns what it said.
func (cmd *running) failed(t *testing.T) string {
	t.Helper()

	var exit *exec.ExitError
	require.ErrorAs(t, cmd.Wait(), &exit)
	require.Equal(t, 1, exit.ExitCode())
	require.Empty(t, cmd.stdout.String())

	return cmd.stderr.String()
}

// liveOffers returns the offers of a node that have not ended.
func (n *node) liveOffers(t *testing.T) []*socketrpc.Offer {
	t.Helper()

	list, err := n.client.ListOffers(
		testContext(t), &socketrpc.ListOffersRequest{},
	)
	require.NoError(t, err)

	var live []*socketrpc.Offer
	for _, offer := range list.Offers {
		// Further states are ends. A request is over once it is
		// accepted.
		if offer.State < socketrpc.Offer_ACCEPTED ||
			offer.State == socketrpc.Offer_ACCEPTED &&
				!offer.IsRequest {

			live = append(live, offer)
		}
	}

	return live
}

// TestMeet meets as typed: A and B, which both cannot host, get a socket of R.
func TestMeet(t *testing.T) {
	n := startTrio(t)
	t.Run("tcp", n.testTCP)
	t.Run("udp", n.testUDP)
	t.Run("refused", n.testRefused)
	t.Run("rejected", n.testRejected)
	t.Run("interrupted", n.testInterrupted)
	t.Run("expired", n.testExpired)
	t.Run("by hand", n.testByHand)
}

// testTCP passes bytes both ways by the pipes that the command says to run, and
// ends the socket on the one node, and another time on the other.
func (n *trio) testTCP(t *testing.T) {
	met := n.meet(t, "tcp")
	n.pipes(t, met)

	onB, onR := n.b.subscribe(t), n.r.subscribe(t)
	n.a.socketcli(t, "stop", met.SocketID[:8])
	requireStopped(t, onR, met.SocketID)
	requireClosed(t, onB, n.a, met.SocketID)
	n.requireNothing(t)

	met = n.meet(t, "tcp")
	onA, onR := n.a.subscribe(t), n.r.subscribe(t)
	n.b.socketcli(t, "stop", met.SocketID[:8])
	requireClosed(t, onA, n.b, met.SocketID)
	requireStopped(t, onR, met.SocketID)
	n.requireNothing(t)
}

// testUDP passes datagrams both ways between programs that bind with the tokens
// that the nodes were told.
func (n *trio) testUDP(t *testing.T) {
	met := n.meet(t, "udp")
	tokens := n.b.acceptOffer(t, met.PassedOnID)
	require.Empty(t, tokens.Token1)
	require.NotEqual(t, met.Token1, tokens.Token2)

	one := bindLeg(t, met.SocketID, "udp", 1, met.Port1, met.Token1)
	two := bindLeg(t, met.SocketID, "udp", 2, met.Port2, tokens.Token2)
	pass(t, one, two, "to B")
	pass(t, two, one, "to A")

	info := n.r.socketInfo(t, met.SocketID)
	require.Equal(t, one.LocalAddr().String(), info.Leg1.ClientAddr)
	require.Equal(t, two.LocalAddr().String(), info.Leg2.ClientAddr)

	// R ends it: both are told.
	onA, onB := n.a.subscribe(t), n.b.subscribe(t)
	n.r.socketcli(t, "stop", met.SocketID[:8])
	requireClosed(t, onA, n.r, met.SocketID)
	requireClosed(t, onB, n.a, met.SocketID)
	n.requireNothing(t)
}

// testRefused meets on an R that hosts for nobody, which says so, until it
// hosts again.
func (n *trio) testRefused(t *testing.T) {
	changed := n.r.socketcli(t, "policy", "--allow_requests", "none")
	require.Equal(t, []any{"none"},
		changed["policy"].(map[string]any)["allow_requests"])

	told := n.startMeet(t).failed(t)
	require.Contains(t, told, "the request to "+n.r.pubkey()[:8]+
		"… was turned down: policy none: this node hosts for nobody\n")
	refused := n.r.socketcli(t, "policy")["requests_refused"]
	require.Equal(t, "1", refused.(map[string]any)["none"])
	n.requireNothing(t)

	changed = n.r.socketcli(t, "policy", "--reset")
	require.Equal(t, []any{"any"},
		changed["policy"].(map[string]any)["allow_requests"])
}

// testRejected meets a B that turns it down, which ends the socket at R.
func (n *trio) testRejected(t *testing.T) {
	onB, onR := n.b.subscribe(t), n.r.subscribe(t)
	cmd := n.startMeet(t)
	offer := n.passedOn(t, onB)
	n.b.socketcli(t, "reject", offer.Id[:8], "--reason", "not today")

	told := cmd.failed(t)
	require.Contains(t, told, "the offer to "+n.b.pubkey()[:8]+
		"… was turned down: not today\n")
	requireStopped(t, onR, offer.SocketId)
	n.requireNothing(t)
}

// testInterrupted ends the command by ^C while B decides, which ends
// everything.
func (n *trio) testInterrupted(t *testing.T) {
	onB, onR := n.b.subscribe(t), n.r.subscribe(t)
	cmd := n.startMeet(t)
	offer := n.passedOn(t, onB)
	require.NoError(t, cmd.Process.Signal(os.Interrupt))

	require.Contains(t, cmd.failed(t), "taken back: socket "+
		offer.SocketId[:8]+" at "+n.r.pubkey()[:8]+"…\n")
	requireClosed(t, onB, n.a, offer.SocketId)
	requireStopped(t, onR, offer.SocketId)
	n.requireNothing(t)
}

// testExpired lets B think for too long, which ends everything.
func (n *trio) testExpired(t *testing.T) {
	onB, onR := n.b.subscribe(t), n.r.subscribe(t)
	cmd := n.startMeet(t, "--timeout=2s")
	offer := n.passedOn(t, onB)

	// Either socketd or the command is the first to find so.
	require.Regexp(t, "the offer to "+n.b.pubkey()[:8]+"… has expired|"+
		n.b.pubkey()[:8]+"… did not answer within 2s", cmd.failed(t))
	requireStopped(t, onR, offer.SocketId)
	onB.match(t, func(event *socketrpc.Event) bool {
		return event.Type == socketrpc.Event_OFFER_CLOSED ||
			event.Type == socketrpc.Event_OFFER_EXPIRED
	})
	n.requireNothing(t)
}

// testByHand goes the same way step by step: A, which cannot host, sends a
// socket to R, which makes it a request, and passes one of its legs on, named
// by the first digits of the socket's id.
func (n *trio) testByHand(t *testing.T) {
	onA, onB, onR := n.a.subscribe(t), n.b.subscribe(t), n.r.subscribe(t)
	request := n.a.socketcli(t, "send", n.r.pubkey(), "--both_legs",
		"--protocol=tcp", "--lifetime=1h", "--bandwidth=1M")["id"]
	received := onA.next(t, socketrpc.Event_OFFER_RECEIVED)
	require.Equal(t, request, received.ReplyToId)

	limits := n.r.socketInfo(t, received.SocketId).Limits
	require.Equal(t, uint64(3600), limits.GetLifetime())
	require.Equal(t, uint64(1_000_000), limits.GetBandwidth())

	prefix := received.SocketId[:8]
	passed := n.a.socketcli(t, "send", n.b.pubkey(), "--leg=1",
		"--socket_id", prefix)["id"]
	offer := n.passedOn(t, onB)
	require.Equal(t, passed, offer.Id)
	require.Equal(t, uint32(1), offer.Leg)

	n.a.socketcli(t, "stop", prefix)
	requireStopped(t, onR, received.SocketId)
	requireClosed(t, onB, n.a, received.SocketId)
	n.requireNothing(t)
}

// passedOn waits for the offer of the leg that A passes on at B.
func (n *trio) passedOn(t *testing.T, onB *events) *socketrpc.Offer {
	t.Helper()

	return n.b.offer(t, onB.next(t, socketrpc.Event_OFFER_RECEIVED).Id)
}

// requireClosed waits until another node has closed its offer of a socket, or
// this node's to it.
func requireClosed(t *testing.T, on *events, from *node, socketID string) {
	t.Helper()

	on.match(t, func(event *socketrpc.Event) bool {
		return event.Type == socketrpc.Event_OFFER_CLOSED &&
			event.FromPubkey == from.pubkey() &&
			event.SocketId == socketID
	})
}

// requireStopped waits until R has stopped the socket.
func requireStopped(t *testing.T, onR *events, socketID string) {
	t.Helper()

	require.Equal(t, socketID, onR.next(
		t, socketrpc.Event_SOCKET_STOPPED,
	).SocketId)
}

// requireNothing checks that no node has anything left that has not ended.
func (n *trio) requireNothing(t *testing.T) {
	t.Helper()

	for _, node := range []*node{n.a, n.b, n.r} {
		require.Empty(t, node.liveOffers(t))
		list, err := node.client.ListSockets(
			testContext(t), &socketrpc.ListSocketsRequest{},
		)
		require.NoError(t, err)
		require.Empty(t, list.Sockets)
	}
}

// meet meets, and checks what each of the three nodes says of it.
func (n *trio) meet(t *testing.T, protocol string) *meeting {
	t.Helper()

	onB, onR := n.b.subscribe(t), n.r.subscribe(t)
	cmd := n.startMeet(t, "--protocol", protocol, "--label", "game")

	// R hosts without anybody being asked. B is asked.
	received := onR.next(t, socketrpc.Event_REQUEST_RECEIVED)
	require.Equal(t, n.a.pubkey(), received.FromPubkey)
	offer := n.passedOn(t, onB)
	require.Equal(t, socketrpc.Offer_PENDING, offer.State)
	require.Equal(t, n.a.pubkey(), offer.PeerPubkey)
	require.Equal(t, n.r.pubkey(), offer.HostPubkey)
	require.Equal(t, uint32(2), offer.Leg)
	require.Equal(t, "game", offer.Label)
	n.b.socketcli(t, "accept", offer.Id[:8])

	require.NoError(t, cmd.Wait(), "%s", &cmd.stderr)
	var met meeting
	require.NoError(t, json.Unmarshal(cmd.stdout.Bytes(), &met))
	require.Equal(t, meeting{
		SocketID:   offer.SocketId,
		OfferID:    met.OfferID,
		PassedOnID: offer.Id,
		HostPubkey: n.r.pubkey(),
		PeerPubkey: n.b.pubkey(),
		Protocol:   protocol,
		IP:         "127.0.0.1",
		IPs:        []string{"127.0.0.1"},
		Port1:      met.Port1,
		Port2:      offer.Port2,
		Admission:  "token",
		Leg:        1,
		Token1:     met.Token1,
	}, met)
	require.Len(t, met.Token1, 32)
	n.requireTold(t, cmd.stderr.String(), &met)
	n.requireHosted(t, received.Id, &met)

	passed := n.a.offer(t, met.PassedOnID)
	require.Equal(t, met.OfferID, passed.ParentId)
	require.Equal(t, n.r.pubkey(), passed.HostPubkey)
	require.LessOrEqual(t, passed.ExpiresAt,
		n.a.offer(t, met.OfferID).ExpiresAt)

	return &met
}

// requireHosted checks what R says: the socket is counted against A, on whose
// request it is there, and of B it knows nothing.
func (n *trio) requireHosted(t *testing.T, requestID string, met *meeting) {
	t.Helper()

	info := n.r.socketInfo(t, met.SocketID)
	require.Equal(t, n.a.pubkey(), info.PeerPubkey)
	require.Equal(t, requestID, info.RequestId)
	require.Equal(t, met.Port1, info.Leg1.Port)
	require.Equal(t, met.Port2, info.Leg2.Port)

	offers := n.r.liveOffers(t)
	require.Len(t, offers, 1)
	require.Equal(t, met.OfferID, offers[0].Id)
	require.Equal(t, n.a.pubkey(), offers[0].PeerPubkey)
	require.Equal(t, socketrpc.Offer_ACCEPTED, offers[0].State)
	require.True(t, offers[0].BothLegs)

	all, err := n.r.trySocketcli(t, "offers")
	require.NoError(t, err)
	require.NotContains(t, string(all), n.b.pubkey())
}

// requireTold checks that the command said what it did, step by step, and not
// the token.
func (n *trio) requireTold(t *testing.T, stderr string, met *meeting) {
	t.Helper()

	rest := stderr
	for _, want := range []string{
		"asking " + n.r.pubkey()[:8] + "… to host a " + met.Protocol +
			" socket",
		"hosted: socket " + met.SocketID[:8] + " at 127.0.0.1, " +
			"ports " + met.Port1 + " and " + met.Port2,
		"passing leg 2 on to " + n.b.pubkey()[:8] + "…",
		"accepted: run `socketcli pipe " + met.OfferID[:8] +
			"` here, and the other node `socketcli pipe " +
			met.SocketID[:8] + "`",
	} {
		_, after, ok := strings.Cut(rest, "[socketcli] "+want+"\n")
		require.True(t, ok, "%q in %s", want, stderr)
		rest = after
	}
	require.NotContains(t, stderr, met.Token1)
}

// pipes checks that bytes go both ways between A and B by the pipes that the
// command said to run, and that they go by R.
func (n *trio) pipes(t *testing.T, met *meeting) {
	t.Helper()

	var sent, got [2]bytes.Buffer
	for i, size := range []int64{3 << 20, 1 << 20} {
		_, err := io.CopyN(&sent[i], rand.Reader, size)
		require.NoError(t, err)
	}
	want := [2][]byte{sent[1].Bytes(), sent[0].Bytes()}

	pipes := [2]*exec.Cmd{
		n.a.pipe(t, met.OfferID[:8]), n.b.pipe(t, met.SocketID[:8]),
	}
	for i, pipe := range pipes {
		pipe.Stdin, pipe.Stdout = &sent[i], &got[i]
		require.NoError(t, pipe.Start())
	}
	for i, pipe := range pipes {
		require.NoError(t, pipe.Wait())
		require.True(t, bytes.Equal(want[i], got[i].Bytes()))
	}

	info := n.r.socketInfo(t, met.SocketID)
	require.NotEmpty(t, info.Leg1.ClientAddr)
	require.NotEmpty(t, info.Leg2.ClientAddr)
	require.EqualValues(t, 3<<20, info.Leg1.BytesIn)
	require.EqualValues(t, 1<<20, info.Leg2.BytesIn)
}
