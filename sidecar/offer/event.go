package offer

import "strconv"

// EventKind is what happened to an offer.
type EventKind uint8

const (
	// EventReceived is for an incoming offer that was taken in.
	EventReceived EventKind = iota + 1

	// EventDelivered is for an outgoing offer that the far end has.
	EventDelivered

	// EventAccepted is for an outgoing offer that was accepted.
	EventAccepted

	// EventRejected is for an outgoing offer that was turned down.
	EventRejected

	// EventExpired is for an offer whose time ran out before it was used.
	EventExpired

	// EventClosed is for an offer that was closed or withdrawn, whichever
	// its state says.
	EventClosed
)

// eventNames has the names of the kinds, by number.
var eventNames = [...]string{
	EventReceived:  "received",
	EventDelivered: "delivered",
	EventAccepted:  "accepted",
	EventRejected:  "rejected",
	EventExpired:   "expired",
	EventClosed:    "closed",
}

// String returns the kind's name.
func (k EventKind) String() string {
	if k > 0 && int(k) < len(eventNames) {
		return eventNames[k]
	}

	return strconv.Itoa(int(k))
}

// Event tells that something happened to an offer. Each happens once. What our
// own side decides with Accept and Reject is no event: the caller knows.
type Event struct {
	Kind EventKind

	// MessageID is the id of the message that caused the event, or zero if
	// none did.
	MessageID ID

	// Offer is the offer as it was right after the event.
	Offer Offer

	// Reason is why, or empty. That of EventReceived is why the offer was
	// accepted without anybody being asked.
	Reason string
}
