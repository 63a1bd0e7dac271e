package offer

import (
	"time"

	"github.com/socketd/socketd/sidecar/wire"
)

// Outlook is what is being done about an offer.
type Outlook struct {
	// Sends is the type of the message that is being delivered about the
	// offer, or 0 if none is.
	Sends MsgType

	// At is when it is sent again. It is zero while it is on its way, or
	// waits for others.
	At time.Time

	// Offline tells that the peer was not connected when the message was to
	// be sent last.
	Offline bool
}

// Outlooks returns what is being done about offers, in their order.
func (m *Manager) Outlooks(offers []Offer) []Outlook {
	m.mu.Lock()
	defer m.mu.Unlock()

	outlooks := make([]Outlook, len(offers))
	for i := range offers {
		outlooks[i] = m.outbox.outlook(offers[i].key())
	}

	return outlooks
}

// outlook returns what is being done about an offer. What was decided about it
// counts for more than the offer itself, and its end for more than that.
func (b *outbox) outlook(key offerKey) Outlook {
	for _, msgType := range []MsgType{
		wire.TypeClose, wire.TypeReject, wire.TypeAccept,
		wire.TypeOffer, wire.TypeRequest,
	} {
		d := b.byOffer[key][msgType]
		if d == nil {
			continue
		}
		at, _ := b.timers.at(d.timer())

		return Outlook{Sends: msgType, At: at, Offline: d.offline}
	}

	return Outlook{}
}
