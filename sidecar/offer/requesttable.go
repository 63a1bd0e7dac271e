package offer

import "github.com/socketd/socketd/sidecar/wire"

// answered is for a request that is answered. What comes then is the offer's,
// which is told.
var answered = outcome{next: StateAccepted, silence: true}

// deliveredRequest is for a request of ours that the host has.
var deliveredRequest = outcome{
	next:    StatePending,
	silence: true,
	notify:  []EventKind{EventDelivered},
}

// unanswered has the outcomes for a request of ours that is not answered, with
// those of triggerSent and triggerDelivered.
func unanswered(sent, delivered outcome) row {
	return row{
		triggerSent:      sent,
		triggerDelivered: delivered,
		triggerAnswer:    answered,
		triggerDecline:   refused,
		triggerRefuse:    refused,
		triggerClose:     closed,
		triggerWithdraw:  withdrawn,
		triggerExpire:    expired,
	}
}

// requestOver has the outcomes for a request of ours that is over, with those
// of triggerDelivered and triggerWithdraw.
func requestOver(delivered, withdraw outcome) row {
	return row{
		triggerSent:      stay,
		triggerDelivered: delivered,
		triggerAnswer:    late,
		triggerDecline:   stay,
		triggerRefuse:    stay,
		triggerClose:     stay,
		triggerWithdraw:  withdraw,
	}
}

// requestGone has the outcomes for a request of a peer that is over. Nobody but
// its sender ends one, and the socket that was opened for it comes too late.
var requestGone = row{
	triggerClose:       staySilent,
	triggerAnswer:      late,
	triggerLocalReject: stay,
	triggerWithdraw:    denied,
}

// requestTransitions is the life of a request: of one that we send, outgoing,
// and of one that we are sent, incoming. docs/protocol.md has it as a picture,
// which TestDiagram draws.
var requestTransitions = table{
	Outgoing: {
		StateQueued: unanswered(
			outcome{next: StateSent}, deliveredRequest,
		),
		StateSent:    unanswered(stay, deliveredRequest),
		StatePending: unanswered(stay, stay),

		// The offer is what there is to end.
		StateAccepted: requestOver(stay, denied),

		// The host may have taken in a late copy.
		StateRejected:  requestOver(stayClose, denied),
		StateClosed:    requestOver(stayClose, stay),
		StateWithdrawn: requestOver(stayClose, stay),

		// The host has a clock of its own.
		StateExpired: requestOver(stay, denied),
	},

	Incoming: {
		StatePending: {
			triggerAnswer: answered,
			triggerLocalReject: {
				next: StateRejected,
				send: wire.TypeReject,
			},
			triggerClose: {
				next:   StateWithdrawn,
				notify: []EventKind{EventClosed},
			},
			triggerExpire:   expired,
			triggerWithdraw: denied,
		},

		StateAccepted:  requestGone,
		StateRejected:  requestGone,
		StateExpired:   requestGone,
		StateWithdrawn: requestGone,
	},
}
