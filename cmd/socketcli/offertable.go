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
	{title: "LABEL", optional: true, most: nameColumns, least: 8},
	{title: "NEXT", most: 70, least: 24},
}

// offerTable returns the offers as a table.
func offerTable(offers []*socketrpc.Offer, now time.Time) *table {
	t := &table{columns: offerColumns, empty: "no offers"}

	var ids, peers []string
	for _, offer := range offers {
		ids = append(ids, offer.GetId())
		peers = append(peers, offer.GetPeerPubkey())
	}
	ids = shorten(ids)
	peers = shorten(peers)

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
		peer := peers[i]
		if alias := offer.GetPeerAlias(); alias != "" {
			peer += " " + alias
		}

		t.add(
			ids[i], directionWord(offer.GetDirection()), kind,
			peer, offer.GetState().String(),
			age(offer.GetCreatedAt(), now), expiry(offer, now),
			offer.GetLabel(), nextStep(offer),
		)
	}

	return t
}

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
