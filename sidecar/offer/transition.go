package offer

import (
	"fmt"

	"github.com/socketd/socketd/sidecar/wire"
)

// trigger is what may move an offer or a request to another state.
type trigger uint8

const (
	// triggerSent is that the message was handed to the peer's connection.
	triggerSent trigger = iota

	// triggerDelivered is the other node's ack of the offer or request.
	triggerDelivered

	// triggerAccept is the far end's accept.
	triggerAccept

	// triggerDecline is a reject by a person.
	triggerDecline

	// triggerRefuse is a reject by the other socketd: of the offer or
	// request, or of our accept.
	triggerRefuse

	// triggerClose is the other node's close.
	triggerClose

	// triggerUsed is that the client of a granted leg came.
	triggerUsed

	// triggerStop is that our socket was stopped.
	triggerStop

	// triggerExpire is that the time ran out.
	triggerExpire

	// triggerLocalAccept is that we accept.
	triggerLocalAccept

	// triggerLocalReject is that we reject: a person an offer, or our
	// socketd a request that it cannot meet after all.
	triggerLocalReject

	// triggerWithdraw is that we end the offer, its socket or not.
	triggerWithdraw

	// triggerAnswer is that a request is answered: by an offer of the host
	// that came, or by one of ours that was made.
	triggerAnswer

	// numTriggers is how many triggers there are.
	numTriggers
)

// triggerNames has the names of the triggers, by number.
var triggerNames = [numTriggers]string{
	"sent", "delivered", "accept", "decline", "refuse", "close", "used",
	"stop", "expire", "local accept", "local reject", "withdraw", "answer",
}

// String returns the trigger's name.
func (t trigger) String() string {
	return triggerNames[t]
}

// verdict is what kind of outcome a trigger has.
type verdict uint8

const (
	// verdictMove is that the offer gets to another state.
	verdictMove verdict = iota

	// verdictStay is that the trigger changes nothing: it repeats what is
	// known, or comes too late to matter.
	verdictStay

	// verdictLate is that the other node does not know yet that the offer
	// has ended, and has to be told.
	verdictLate

	// verdictDenied is that the state does not allow what we want to do.
	verdictDenied
)

// outcome is what follows from a trigger.
type outcome struct {
	verdict verdict

	// next is the state after the trigger, the same one unless the verdict
	// is verdictMove.
	next State

	// silence tells that what we kept sending about the offer need not be
	// sent again.
	silence bool

	// send is the message to be sent until it is acknowledged, or 0.
	send wire.MsgType

	// notify is the events, in order.
	notify []EventKind
}

// table has the outcomes of all triggers, by direction and state.
type table map[Direction]map[State]row

// transition returns what follows from a trigger for an offer or request.
func (o *Offer) transition(t trigger) (outcome, error) {
	if o.IsRequest {
		return requestTransitions.transition(o.Direction, o.State, t)
	}

	return transitions.transition(o.Direction, o.State, t)
}

// transition returns what follows from a trigger. It has no other inputs and no
// effects. For what cannot happen it returns an error that wraps errImpossible.
func (rows table) transition(dir Direction, state State,
	t trigger) (outcome, error) {

	out, ok := rows[dir][state][t]
	if !ok {
		return outcome{}, fmt.Errorf("%w: %s in state %s, %s",
			errImpossible, t, dir, state)
	}
	if out.verdict != verdictMove {
		out.next = state
	}

	return out, nil
}
