package main

import (
	"time"

	"github.com/socketd/socketd/socketrpc"
)

// nameColumns is the most that a label or an alias takes of a line.
const nameColumns = 20

// offerColumns are the columns of offerTable. What a stranger wrote, an alias
// or a label, is always followed by a word of ours: where a terminal writes
// from right to left, it goes back to our order there.
var offerColumns = []column{
	{title: "ID"},
	{title: "DIR"},
	{title: "KIND", optional: true},
	{
		title: "PEER",
		most:  minPrefixDigits + 1 + nameColumns,
		least: minPrefixDigits + 1 + 6,
	},
	{title: "STATE"},
	{title: "AGE"},
	{title: "EXPIRES"},
	{title: "HOST", optional: true, least: minPrefixDigits + 1},
	{title: "LABEL", optional: true, most: nameColumns, least: 8},
	{title: "NEXT", most: 70, least: 24},
}

// offerTable returns the offers as a table.
func offerTable(offers []*socketrpc.Offer, now time.Time) *table {
	t := &table{columns: offerColumns, empty: "no offers"}

	// A host is shown with the digits that tell it from all peers.
	var ids, nodes []string
	for _, offer := range offers {
		ids = append(ids, offer.GetId())
		nodes = append(nodes, offer.GetPeerPubkey(), thirdHost(offer))
	}
	ids = shorten(ids)
	nodes = shorten(nodes)

	// Only a request says what it is.
	kinds := hasRequest(offers)

	for i, offer := range offers {
		kind := ""
		switch {
		case offer.GetIsRequest():
			kind = "request"
		case kinds:
			kind = "offer"
		}

		// A key can be looked up, an alias is what its node says.
		peer := nodes[2*i]
		if alias := offer.GetPeerAlias(); alias != "" {
			peer += " " + alias
		}

		t.add(
			ids[i], directionWord(offer.GetDirection()), kind,
			peer, offer.GetState().String(),
			age(offer.GetCreatedAt(), now), expiry(offer, now),
			hostWords(offer, nodes[2*i+1]), offer.GetLabel(),
			nextStep(offer),
		)
	}

	return t
}

// thirdHost returns the key of the node that hosts the socket of an offer if
// that is neither the peer nor this node: the offer passes a leg on. It is
// empty otherwise.
func thirdHost(offer *socketrpc.Offer) string {
	switch {
	// That of a request is the node that is asked.
	case offer.GetIsRequest():
		return ""

	case offer.GetDirection() == socketrpc.Offer_OUTGOING &&
		offer.GetParentId() == "":

		return ""

	case offer.GetHostPubkey() == offer.GetPeerPubkey():
		return ""
	}

	return offer.GetHostPubkey()
}

// hostWords returns what is known of the host of an offer's socket, whose key
// is given cut. It is empty unless a leg was passed on.
func hostWords(offer *socketrpc.Offer, host string) string {
	if host == "" || offer.GetDirection() == socketrpc.Offer_OUTGOING {
		return host
	}

	return host + asPeerSays
}

// asPeerSays follows what nobody but the peer vouches for.
const asPeerSays = " (as the peer says)"

// hasRequest returns whether one of the offers is a request.
func hasRequest(offers []*socketrpc.Offer) bool {
	for _, offer := range offers {
		if offer.GetIsRequest() {
			return true
		}
	}

	return false
}

// directionWord returns a direction in one short word.
func directionWord(direction socketrpc.Offer_Direction) string {
	if direction == socketrpc.Offer_OUTGOING {
		return "out"
	}

	return "in"
}

// expiry returns when an offer's time runs out or ran out, empty where that
// ends nothing: an offer that was decided about, or has ended otherwise.
func expiry(offer *socketrpc.Offer, now time.Time) string {
	switch offer.GetState() {
	case socketrpc.Offer_QUEUED, socketrpc.Offer_SENT,
		socketrpc.Offer_PENDING, socketrpc.Offer_EXPIRED:

		return relative(offer.GetExpiresAt(), now)

	default:
		return ""
	}
}

// nextStep returns what happens next to an offer, and why it is as it is if
// there is a reason.
func nextStep(offer *socketrpc.Offer) string {
	next, reason := offer.GetNext(), offer.GetReason()

	if reason == "" {
		return next
	}
	if next == "" {
		next = "nothing"
	}

	return next + " (" + reason + ")"
}
