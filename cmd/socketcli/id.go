package main

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/socketd/socketd/socketrpc"
)

const (
	// idDigits is the length of an id in hex digits.
	idDigits = 64

	// minPrefixDigits is how many digits of an id must be given.
	minPrefixDigits = 8
)

// parseID checks that value is an id or a prefix of one, and returns it in
// lower case as ids are written. The name of the argument is for the error.
func parseID(name, value string) (string, error) {
	id := strings.ToLower(value)

	switch {
	case strings.Trim(id, "0123456789abcdef") != "":
		return "", usagef("%s: %q is not hex", name, value)

	case len(id) < minPrefixDigits:
		return "", usagef("%s: %q is too short: give %d or more of "+
			"its %d hex digits", name, value, minPrefixDigits,
			idDigits)

	case len(id) > idDigits:
		return "", usagef("%s: %q is too long: an id has %d hex "+
			"digits", name, value, idDigits)
	}

	return id, nil
}

// resolveSocket returns the id of the socket of this node that begins with
// prefix, which comes from the argument name.
func (c *client) resolveSocket(ctx context.Context, name,
	prefix string) (string, error) {

	// A whole id, and the empty one of the default socket, need no look.
	if prefix == "" || len(prefix) == idDigits {
		return prefix, nil
	}

	ids, err := c.ownSockets(ctx, name, prefix)
	if err != nil {
		return "", err
	}

	return matchID(name, prefix, "socket", ids)
}

// resolveAnySocket is resolveSocket for the sockets of this node and for those
// that others host and that this node was offered.
func (c *client) resolveAnySocket(ctx context.Context, name,
	prefix string) (string, error) {

	// A whole id, and the empty one of the default socket, need no look.
	if prefix == "" || len(prefix) == idDigits {
		return prefix, nil
	}

	ids, err := c.ownSockets(ctx, name, prefix)
	if err != nil {
		return "", err
	}

	offers, err := c.ListOffers(ctx, &socketrpc.ListOffersRequest{})
	if err != nil {
		return "", fmt.Errorf("%s: list the offers to find %s: %w",
			name, prefix, err)
	}

	// That of an offer which is over, or was never accepted, can be neither
	// stopped nor passed on, and must not make another one ambiguous.
	for _, offer := range offers.GetOffers() {
		if offer.GetDirection() == socketrpc.Offer_INCOMING &&
			!offer.GetIsRequest() &&
			offer.GetState() == socketrpc.Offer_ACCEPTED {

			ids = append(ids, offer.GetSocketId())
		}
	}

	return matchID(name, prefix, "socket", ids)
}

// ownSockets returns the ids of the sockets of this node. What they are for is
// for the error.
func (c *client) ownSockets(ctx context.Context, name,
	prefix string) ([]string, error) {

	resp, err := c.ListSockets(ctx, &socketrpc.ListSocketsRequest{})
	if err != nil {
		return nil, fmt.Errorf("%s: list the sockets to find %s: %w",
			name, prefix, err)
	}

	var ids []string
	for _, socket := range resp.GetSockets() {
		ids = append(ids, socket.GetSocketId())
	}

	return ids, nil
}

// resolveOffer returns the id of the offer in one of these directions that
// begins with prefix, which comes from the argument name.
func (c *client) resolveOffer(ctx context.Context, name, prefix string,
	directions ...socketrpc.Offer_Direction) (string, error) {
	// A whole id needs no look.
	if len(prefix) == idDigits {
		return prefix, nil
	}

	resp, err := c.ListOffers(ctx, &socketrpc.ListOffersRequest{})
	if err != nil {
		return "", fmt.Errorf("%s: list the offers to find %s: %w",
			name, prefix, err)
	}

	var ids []string
	for _, offer := range resp.GetOffers() {
		if slices.Contains(directions, offer.GetDirection()) {
			ids = append(ids, offer.GetId())
		}
	}

	what := "offer"
	if len(directions) == 1 {
		what = strings.ToLower(directions[0].String()) + " " + what
	}

	return matchID(name, prefix, what, ids)
}

// matchID returns the one id that begins with prefix. What the ids are of, and
// the name of the argument, are for the error.
func matchID(name, prefix, what string, ids []string) (string, error) {
	var matches []string
	for _, id := range ids {
		if strings.HasPrefix(id, prefix) {
			matches = append(matches, id)
		}
	}

	// Two nodes may send the same id. Which of them is meant is for socketd
	// to say, more digits would not tell.
	slices.Sort(matches)
	matches = slices.Compact(matches)

	switch len(matches) {
	case 1:
		return matches[0], nil

	case 0:
		return "", fmt.Errorf("%s: no %s begins with %s", name, what,
			prefix)

	default:
		return "", fmt.Errorf("%s: %d %ss begin with %s, give more "+
			"digits: %s", name, len(matches), what, prefix,
			strings.Join(matches, ", "))
	}
}

// shorten returns the ids, or keys, each cut to its first digits: to as many as
// an argument needs, or to as many more as it takes to tell it from all others.
func shorten(ids []string) []string {
	sorted := slices.Clone(ids)
	slices.Sort(sorted)
	sorted = slices.Compact(sorted)

	short := make(map[string]string, len(sorted))
	for i, id := range sorted {
		digits := minPrefixDigits

		// The ids that have most digits in common are neighbours.
		if i > 0 {
			digits = max(digits, common(id, sorted[i-1])+1)
		}
		if i+1 < len(sorted) {
			digits = max(digits, common(id, sorted[i+1])+1)
		}
		short[id] = id[:min(digits, len(id))]
	}

	cut := make([]string, len(ids))
	for i, id := range ids {
		cut[i] = short[id]
	}

	return cut
}

// common returns how many digits a and b have in common at their beginning.
func common(a, b string) int {
	n := 0
	for n < min(len(a), len(b)) && a[n] == b[n] {
		n++
	}

	return n
}
