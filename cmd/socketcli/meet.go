package main

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/socketd/socketd/socketrpc"
	"github.com/urfave/cli/v3"
)

const (
	viaFlag     = "via"
	timeoutFlag = "timeout"
	noWaitFlag  = "no_wait"

	// defaultTimeout is the value of --timeout, and maxTimeout the highest:
	// an offer ends seven days ahead at the latest.
	defaultTimeout = time.Hour
	maxTimeout     = 7 * 24 * time.Hour

	// keyDigits is the length of a public key in hex digits.
	keyDigits = 66
)

// meetCommand returns the command that meets another node on a third one.
func meetCommand() *cli.Command {
	return &cli.Command{
		Name:      "meet",
		Category:  categoryOffers,
		Usage:     "Meet another node on a socket of a third one.",
		ArgsUsage: "<pubkey>",
		Description: strings.TrimSpace(`
For two nodes that cannot host: ask the node of --via to host a socket for this
one, keep leg 1 of it, pass leg 2 on to the node with this public key, and wait
until that has accepted. The host must allow requests of this node, see
"socketcli policy"; of the other node it learns nothing from this one.

Without --idle_timeout the host is asked to keep an idle socket for as long as
--timeout says, within the limits of its policy.

What is done, and what others have done, is told on stderr. The response comes
at the end: the ids of the socket, of the host's offer, and of the one that
passes leg 2 on; where the socket is; and the token of leg 1, if it needs one.
"socketcli pipe" uses the leg, on both nodes.

If the host or the other node turns it down, or there is no answer in time, the
exit code is 1, and the socket ends. So it does after ^C before the end.
"socketcli stop" with the id of the socket ends it later, on either node.

Examples, B and R being public keys:

    $ socketcli meet B --via R
    $ socketcli meet B --via R --protocol tcp --lifetime 2h --timeout 10m
`),
		Flags: append([]cli.Flag{
			&cli.StringFlag{
				Name: viaFlag,
				Usage: "the public `key` of the node that is " +
					"to host the socket",
			},
			&cli.StringFlag{
				Name:        timeoutFlag,
				DefaultText: "1h",
				Usage: "how much `time` both nodes have to " +
					"answer, at most 7 days, as in 90m",
			},
			&cli.BoolFlag{
				Name: noWaitFlag,
				Usage: "end as soon as leg 2 is passed on, " +
					"and do not wait until it is accepted",
			},
		}, askedFlags()...),
		Action: meetNode,
	}
}

// meetOptions are what the command line says.
type meetOptions struct {
	// peer is the node to meet, and host the one to meet it on.
	peer, host string

	// timeout is how long both have to answer.
	timeout time.Duration

	// noWait tells that nobody waits until the peer has accepted.
	noWait bool

	// asked is the request to the host, but for its expiry.
	asked *socketrpc.SendSocketRequest
}

// parseMeet reads the command line.
func parseMeet(cmd *cli.Command) (*meetOptions, error) {
	const name = "pubkey"

	args, err := arguments(cmd, 1, name)
	if err != nil {
		return nil, err
	}
	peer, err := parseKey(name, args[0])
	if err != nil {
		return nil, err
	}

	via, err := option(cmd, viaFlag)
	if err != nil {
		return nil, err
	}
	if via == "" {
		return nil, usagef("missing --%s: the public key of the node "+
			"that is to host", viaFlag)
	}
	host, err := parseKey("--"+viaFlag, via)
	if err != nil {
		return nil, err
	}
	if host == peer {
		return nil, usagef("--%s: it is the node to meet; \"socketcli "+
			"send --mode request\" asks that one to host", viaFlag)
	}

	timeout, err := parseTimeout(cmd)
	if err != nil {
		return nil, err
	}

	asked := &socketrpc.SendSocketRequest{
		Pubkey:   host,
		Mode:     socketrpc.SendSocketRequest_REQUEST,
		BothLegs: true,
	}
	if err := parseAsked(cmd, asked); err != nil {
		return nil, err
	}
	awaitUse(asked, timeout)

	return &meetOptions{
		peer:    peer,
		host:    host,
		timeout: timeout,
		noWait:  cmd.Bool(noWaitFlag),
		asked:   asked,
	}, nil
}

// awaitUse asks for a socket that waits for its clients as long as the command
// does, unless the command line says something else.
func awaitUse(asked *socketrpc.SendSocketRequest, timeout time.Duration) {
	if asked.GetLimits() == nil {
		asked.Limits = &socketrpc.SocketLimits{}
	}
	if asked.GetLimits().IdleTimeout == nil {
		idle := uint64(timeout / time.Second)
		asked.Limits.IdleTimeout = &idle
	}
}

// parseKey checks that value is the public key of a node in hex, as far as that
// can be told from its digits, and returns it in lower case as keys are
// written. The name of the argument is for the error.
func parseKey(name, value string) (string, error) {
	key := strings.ToLower(value)

	switch {
	case strings.Trim(key, "0123456789abcdef") != "":
		return "", usagef("%s: %q is not hex", name, value)

	case len(key) != keyDigits:
		return "", usagef("%s: %q has %d digits, and a public key %d",
			name, value, len(key), keyDigits)

	case !strings.HasPrefix(key, "02") && !strings.HasPrefix(key, "03"):
		return "", usagef("%s: %q begins with neither 02 nor 03, as a "+
			"public key does", name, value)
	}

	return key, nil
}

// parseTimeout returns the value of --timeout.
func parseTimeout(cmd *cli.Command) (time.Duration, error) {
	text, err := option(cmd, timeoutFlag)
	if err != nil {
		return 0, err
	}
	if text == "" {
		return defaultTimeout, nil
	}

	timeout, err := time.ParseDuration(text)
	if err != nil || timeout < time.Second || timeout > maxTimeout {
		return 0, usagef("--%s: %q is not a duration of a second to "+
			"7 days, as in 90m", timeoutFlag, text)
	}

	return timeout, nil
}

// errMeetTimeout is why a meeting ends whose time is over.
var errMeetTimeout = errors.New("the time is over")

// meetNode meets another node.
func meetNode(ctx context.Context, cmd *cli.Command) error {
	opts, err := parseMeet(cmd)
	if err != nil {
		return err
	}

	client, err := connect(cmd)
	if err != nil {
		return err
	}
	defer client.close()

	// It is no deadline: gRPC would tell socketd, which might be the first
	// of the two to find that it has passed.
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	timer := time.AfterFunc(opts.timeout, func() {
		cancel(errMeetTimeout)
	})
	defer timer.Stop()

	m := &meeting{
		client: client,
		opts:   opts,
		expiry: time.Now().Add(opts.timeout).Unix(),
		tell: func(format string, args ...any) {
			tellPerson(cmd, format, args...)
		},
	}

	result, err := m.run(ctx)
	if err != nil {
		m.takeBack(ctx)

		return err
	}

	return printValue(cmd, result)
}

// tellPerson writes a line to stderr.
func tellPerson(cmd *cli.Command, format string, args ...any) {
	_, _ = fmt.Fprintf(cmd.Root().ErrWriter, "[socketcli] %s\n",
		visible(fmt.Sprintf(format, args...)))
}

// meetResult is the response of the command.
type meetResult struct {
	SocketID string `json:"socket_id"`

	// OfferID is the id of the host's offer, and PassedOnID that of the
	// offer to the peer.
	OfferID    string `json:"offer_id"`
	PassedOnID string `json:"passed_on_id"`

	HostPubkey string `json:"host_pubkey"`
	PeerPubkey string `json:"peer_pubkey"`

	Protocol  string   `json:"protocol"`
	IP        string   `json:"ip"`
	IPs       []string `json:"ips"`
	Port1     string   `json:"port1"`
	Port2     string   `json:"port2"`
	Admission string   `json:"admission"`

	// Leg is the leg of this node, and Token1 its token; empty if it is
	// OPEN.
	Leg    uint32 `json:"leg"`
	Token1 string `json:"token1"`
}
