package main

import (
	"context"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/socketd/socketd/internal/regtest"
	"github.com/urfave/cli/v3"
)

const (
	// minNodes and maxNodes bound a network to play with: a socket takes
	// two, and each node takes 150 MB of memory.
	minNodes = 2
	maxNodes = 5
)

// upCommand returns the command that runs a network until ^C.
func (p *program) upCommand() *cli.Command {
	return &cli.Command{
		Name:  "up",
		Usage: "Run a private network to play with, until ^C.",
		Description: strings.TrimSpace(`
Start lnd nodes without a chain, a socketd beside each, and make all of them
peers. Then print the commands that talk to them. ^C takes everything down, a
second ^C at once.

With --channel the nodes have a chain, that of a btcd of their own, and A and B
have a channel with each other; C and further nodes have none. So one can see
what a node allows those it has a channel with, and nobody else. It takes a few
seconds more.

Examples:

    $ socketdev up --nodes 3
    $ socketdev up --nodes 3 --channel
`),
		Flags: append(
			placeFlags(),
			&cli.IntFlag{
				Name:  "nodes",
				Value: minNodes,
				Usage: fmt.Sprintf("the `number` of nodes, "+
					"%d to %d", minNodes, maxNodes),
			},
			&cli.BoolFlag{
				Name: "channel",
				Usage: "open a channel between A and B; it " +
					"takes btcd and btcctl in bindir",
			},
		),
		Action: p.up,
	}
}

// up runs a network until the user interrupts or a part of it ends.
func (p *program) up(ctx context.Context, cmd *cli.Command) error {
	nodes := cmd.Int("nodes")
	if nodes < minNodes || nodes > maxNodes {
		return usagef("--nodes: %d is not %d to %d", nodes, minNodes,
			maxNodes)
	}

	cfg := labConfig{nodes: nodes, channel: cmd.Bool("channel")}

	return p.withLab(ctx, cmd, cfg, func(ctx context.Context,
		l *lab) error {

		_, err := io.WriteString(p.stdout, guide(l))
		if err != nil {
			return fmt.Errorf("print: %w", err)
		}

		if err := l.Watch(ctx); err != nil {
			return err
		}

		_, err = fmt.Fprintln(p.stdout, "\nTaking it down.")

		return err
	})
}

// guide returns what the user needs to play with a network.
func guide(l *lab) string {
	var b strings.Builder
	fmt.Fprintf(&b, "# %d nodes are up and peers of each other, after "+
		"%s. Everything is in %s\n", len(l.Nodes), seconds(l.took),
		l.dir)
	b.WriteString("# Paste this into other terminals:\n")

	for _, node := range l.Nodes {
		guideNode(&b, l, node)
	}
	if l.hasChannel {
		guideChain(&b, l)
	}

	alice, bob := l.Nodes[0], l.Nodes[1]
	fmt.Fprintf(&b, `
# An example: %[1]s offers a socket to %[2]s.
socketcli-%[4]s events                # in a terminal of its own
socketcli-%[3]s start                 # prints port1 and port2
socketcli-%[3]s send $PUBKEY_%[2]s
socketcli-%[4]s offers                # prints the id of the offer
socketcli-%[4]s accept <id>
nc -u 127.0.0.1 <port1>           # in two terminals, type into both:
nc -u 127.0.0.1 <port2>           # what one types, the other one shows
socketcli-%[3]s list                  # counts the packets
socketcli-%[3]s stop

# A TCP socket, whose legs want tokens: pipe sees to that. What one types, the
# other one shows, up to ^D in both or ^C.
socketcli-%[3]s start --protocol tcp  # prints the socket_id
socketcli-%[3]s send --socket_id <socket_id> $PUBKEY_%[2]s
socketcli-%[3]s pipe <socket_id>      # in two terminals, type into both:
socketcli-%[4]s pipe <socket_id>      # accepts the offer

# The same over REST.
curl --cacert "$TLSCERT_%[1]s" -H "Grpc-Metadata-Macaroon: \
$(od -An -v -tx1 "$MACAROON_%[1]s" | tr -d ' \n')" \
"$REST_%[1]s/v1/socket/getinfo"
`, alice.Name, bob.Name, suffix(alice), suffix(bob))
	if l.hasChannel {
		guideChannel(&b, l)
	}
	b.WriteString("\n# ^C takes everything down.\n")

	return b.String()
}

// guideNode writes what belongs to one node.
func guideNode(b *strings.Builder, l *lab, node *regtest.Node) {
	fmt.Fprintf(b, "\n# node %s\n", node.Name)
	fmt.Fprintf(b, "export PUBKEY_%s=%s\n", node.Name, node.Lnd.PubKey())
	fmt.Fprintf(b, "export REST_%s=https://%s\n", node.Name,
		node.Socketd.RESTAddr())
	fmt.Fprintf(b, "export TLSCERT_%s=%s\n", node.Name,
		shellQuote(node.Socketd.TLSCertPath()))
	fmt.Fprintf(b, "export MACAROON_%s=%s\n", node.Name,
		shellQuote(node.Socketd.MacaroonPath()))
	fmt.Fprintf(b, "alias socketcli-%s=%s\n", suffix(node),
		shellQuote(shellJoin(l.socketcli(node))))
	fmt.Fprintf(b, "alias lncli-%s=%s\n", suffix(node),
		shellQuote(shellJoin(l.lncli(node))))
}

// guideChain writes what belongs to the chain.
func guideChain(b *strings.Builder, l *lab) {
	fmt.Fprintf(b, "\n# the chain; btcctl generate 1 mines a block\n"+
		"alias btcctl=%s\n", shellQuote(shellJoin(l.btcctl())))
}

// guideChannel writes what the first two nodes can do because they have a
// channel, and the third one cannot.
func guideChannel(b *strings.Builder, l *lab) {
	alice, bob := l.Nodes[0], l.Nodes[1]
	fmt.Fprintf(b, `
# %[1]s and %[2]s have a channel with each other. So %[2]s may ask %[1]s to
# host a socket for it: offer.allowrequests=channel is the default.
lncli-%[3]s listchannels
socketcli-%[4]s send --mode request $PUBKEY_%[1]s
socketcli-%[4]s offers                # the request, and the offer in return
`, alice.Name, bob.Name, suffix(alice), suffix(bob))

	if len(l.Nodes) > minNodes {
		other := l.Nodes[minNodes]
		fmt.Fprintf(b, `
# %[2]s has no channel with %[1]s, which refuses.
socketcli-%[3]s send --mode request $PUBKEY_%[1]s
socketcli-%[3]s offers                # the request, and why it is refused
`, alice.Name, other.Name, suffix(other))
	}
}

// seconds renders a duration for people.
func seconds(d time.Duration) string {
	return fmt.Sprintf("%.1f s", d.Seconds())
}

// shellQuote returns a word as a shell takes it.
func shellQuote(word string) string {
	const harmless = "abcdefghijklmnopqrstuvwxyz" +
		"ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_=./:,+@%"

	if word != "" && strings.Trim(word, harmless) == "" {
		return word
	}

	return "'" + strings.ReplaceAll(word, "'", `'\''`) + "'"
}

// shellJoin returns a command as a shell takes it.
func shellJoin(words []string) string {
	quoted := make([]string, len(words))
	for i, word := range words {
		quoted[i] = shellQuote(word)
	}

	return strings.Join(quoted, " ")
}
