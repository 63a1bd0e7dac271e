package offer

import "github.com/socketd/socketd/sidecar/wire"

// row has the outcomes of the triggers for one direction and state. What is not
// in it cannot happen.
type row map[trigger]outcome

// The outcomes that change nothing.
var (
	// stay is for what repeats or comes too late.
	stay = outcome{verdict: verdictStay}

	// staySilent is for what tells, besides, that the other node knows.
	staySilent = outcome{verdict: verdictStay, silence: true}

	// stayClose is for an offer that is delivered after it ended. The far
	// end may have taken it in after our close, or after it refused an
	// earlier copy, so that it is told again.
	stayClose = outcome{verdict: verdictStay, send: wire.TypeClose}

	// late is for an accept of what has ended.
	late = outcome{verdict: verdictLate}

	// denied is for what we may not do any more.
	denied = outcome{verdict: verdictDenied}
)

// The outcomes that end an offer in more than one state.
var (
	// withdrawn is for an offer of ours that is taken back, or whose socket
	// stops, before it was accepted.
	withdrawn = outcome{
		next:    StateWithdrawn,
		silence: true,
		send:    wire.TypeClose,
		notify:  []EventKind{EventClosed},
	}

	// refused is for an offer of ours that the far end turns down.
	refused = outcome{
		next:    StateRejected,
		silence: true,
		notify:  []EventKind{EventRejected},
	}

	// expired is for an offer of either direction that nobody used.
	expired = outcome{
		next:    StateExpired,
		silence: true,
		notify:  []EventKind{EventExpired},
	}

	// closed is for an offer of either direction that the other node ends.
	closed = outcome{
		next:    StateClosed,
		silence: true,
		notify:  []EventKind{EventClosed},
	}

	// ended is for an accepted offer of either direction that we end.
	ended = outcome{
		next:    StateClosed,
		silence: true,
		send:    wire.TypeClose,
		notify:  []EventKind{EventClosed},
	}
)

// undelivered has the outcomes for an outgoing offer that nobody acknowledged,
// except that of triggerSent. Whatever shows that the far end has it implies
// the ack. Use does not: it may be a stranger's, while the far end waits for
// the offer, which is why it does not silence.
func undelivered(sent outcome) row {
	return row{
		triggerSent: sent,
		triggerDelivered: {
			next:    StatePending,
			silence: true,
			notify:  []EventKind{EventDelivered},
		},
		triggerAccept: {
			next:    StateAccepted,
			silence: true,
			notify:  []EventKind{EventDelivered, EventAccepted},
		},
		triggerDecline: {
			next:    StateRejected,
			silence: true,
			notify:  []EventKind{EventDelivered, EventRejected},
		},
		triggerRefuse: refused,
		triggerClose: {
			next:    StateClosed,
			silence: true,
			notify:  []EventKind{EventDelivered, EventClosed},
		},
		triggerUsed: {
			next:   StateAccepted,
			notify: []EventKind{EventDelivered, EventAccepted},
		},
		triggerStop:     withdrawn,
		triggerWithdraw: withdrawn,
		triggerExpire:   expired,
	}
}

// over has the outcomes for an outgoing offer that has ended, with those of
// triggerDelivered and triggerWithdraw.
func over(delivered, withdraw outcome) row {
	return row{
		triggerSent:      stay,
		triggerDelivered: delivered,
		triggerAccept:    late,
		triggerDecline:   stay,
		triggerRefuse:    stay,
		triggerClose:     stay,
		triggerWithdraw:  withdraw,
	}
}

// gone has the outcomes for an incoming offer that has ended and was not
// rejected, with that of triggerWithdraw. The host's close tells that it needs
// ours no more.
func gone(withdraw outcome) row {
	return row{
		triggerRefuse:      stay,
		triggerClose:       staySilent,
		triggerLocalAccept: denied,
		triggerLocalReject: denied,
		triggerWithdraw:    withdraw,
	}
}

// transitions is the life of an offer. docs/protocol.md has it as a picture,
// which TestDiagram draws.
var transitions = table{
	Outgoing: {
		StateQueued: undelivered(outcome{next: StateSent}),
		StateSent:   undelivered(stay),

		StatePending: {
			triggerSent:      stay,
			triggerDelivered: stay,
			triggerAccept: {
				next:    StateAccepted,
				silence: true,
				notify:  []EventKind{EventAccepted},
			},
			triggerDecline: refused,
			triggerRefuse:  refused,
			triggerClose:   closed,
			triggerUsed: {
				next:   StateAccepted,
				notify: []EventKind{EventAccepted},
			},
			triggerStop:     withdrawn,
			triggerWithdraw: withdrawn,
			triggerExpire:   expired,
		},

		// An offer that is used may be declined nevertheless: the use
		// was a stranger's, or the far end has changed its mind. What
		// its socketd refuses is a copy that came late.
		StateAccepted: {
			triggerSent:      stay,
			triggerDelivered: staySilent,
			triggerAccept:    staySilent,
			triggerDecline:   closed,
			triggerRefuse:    staySilent,
			triggerClose:     closed,
			triggerStop:      ended,
			triggerWithdraw:  ended,
			triggerExpire:    stay,
		},

		// Whoever ends it twice gets what he wants. What was turned
		// down, or ran out, was never his to end.
		StateRejected:  over(stayClose, denied),
		StateClosed:    over(stayClose, stay),
		StateWithdrawn: over(stayClose, stay),

		// The far end has a clock of its own.
		StateExpired: over(stay, denied),
	},

	Incoming: {
		StatePending: {
			triggerClose: {
				next:   StateWithdrawn,
				notify: []EventKind{EventClosed},
			},
			triggerExpire: expired,
			triggerLocalAccept: {
				next: StateAccepted,
				send: wire.TypeAccept,
			},
			triggerLocalReject: {
				next: StateRejected,
				send: wire.TypeReject,
			},

			// To reject is the way to say no.
			triggerWithdraw: denied,
		},

		StateAccepted: {
			triggerRefuse:      closed,
			triggerClose:       closed,
			triggerExpire:      stay,
			triggerLocalAccept: stay,
			triggerLocalReject: denied,
			triggerWithdraw:    ended,
		},

		// The host's close tells that it needs no reject any more.
		StateRejected: {
			triggerClose:       staySilent,
			triggerLocalAccept: denied,
			triggerLocalReject: stay,
			triggerWithdraw:    denied,
		},

		StateExpired:   gone(denied),
		StateClosed:    gone(stay),
		StateWithdrawn: gone(stay),
	},
}
