package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"net/netip"
	"time"

	"github.com/socketd/socketd/sidecar/offer"
	"github.com/socketd/socketd/sidecar/store/sqlc"
)

// Offers is the part of a database that the offers are in. It is the store of
// their manager, which must be its only owner. Times are kept to the
// microsecond.
type Offers struct {
	// What follows is immutable.

	db     *DB
	encode func(offer.Event) ([]byte, error)
}

// A compile-time check that Offers is what the manager needs.
var _ offer.Store = (*Offers)(nil)

// Offers returns the part of the database that the offers are in. An event of
// theirs is kept among the others as encode makes it.
func (d *DB) Offers(encode func(offer.Event) ([]byte, error)) *Offers {
	return &Offers{db: d, encode: encode}
}

// Write writes all of a batch, or nothing of it. Offers that are forgotten are
// kept without their tokens until they are pruned, see Forgotten.
func (o *Offers) Write(ctx context.Context, b offer.Batch) error {
	events := make([][]byte, 0, len(b.Events))
	for _, e := range b.Events {
		data, err := o.encode(e)
		if err != nil {
			return fmt.Errorf("encode event: %w", err)
		}
		events = append(events, data)
	}

	return o.db.write(ctx, events, func(ctx context.Context,
		q *sqlc.Queries) error {

		if err := writeRecords(ctx, q, b); err != nil {
			return err
		}

		return writeMessages(ctx, q, b)
	})
}

// writeRecords writes what a batch has of records.
func writeRecords(ctx context.Context, q *sqlc.Queries, b offer.Batch) error {
	for i := range b.Put {
		if err := q.PutOffer(ctx, offerRow(&b.Put[i])); err != nil {
			return fmt.Errorf("put offer: %w", err)
		}
	}

	now := toMicros(time.Now())
	for i := range b.Forget {
		o := &b.Forget[i]
		err := q.ForgetOffer(ctx, sqlc.ForgetOfferParams{
			OfferID:     o.ID[:],
			Peer:        o.Peer[:],
			ForgottenAt: now,
		})
		if err != nil {
			return fmt.Errorf("forget offer: %w", err)
		}
	}
	for i := range b.Drop {
		o := &b.Drop[i]
		err := q.DeleteOffer(ctx, sqlc.DeleteOfferParams{
			OfferID: o.ID[:],
			Peer:    o.Peer[:],
		})
		if err != nil {
			return fmt.Errorf("delete offer: %w", err)
		}
	}

	return nil
}

// writeMessages writes what a batch has of messages.
func writeMessages(ctx context.Context, q *sqlc.Queries, b offer.Batch) error {
	for _, silent := range [][]offer.Offer{b.Forget, b.Drop, b.Silence} {
		for i := range silent {
			o := &silent[i]
			err := q.DeleteMessagesOf(
				ctx, sqlc.DeleteMessagesOfParams{
					OfferID: o.ID[:],
					Peer:    o.Peer[:],
				},
			)
			if err != nil {
				return fmt.Errorf("delete messages: %w", err)
			}
		}
	}
	for i := range b.Remove {
		msg := &b.Remove[i]
		err := q.DeleteMessage(ctx, sqlc.DeleteMessageParams{
			OfferID:   msg.OfferID[:],
			Peer:      msg.Peer[:],
			MessageID: msg.ID[:],
		})
		if err != nil {
			return fmt.Errorf("delete message: %w", err)
		}
	}
	for i := range b.Add {
		msg := &b.Add[i]
		err := q.PutMessage(ctx, sqlc.PutMessageParams{
			OfferID:   msg.OfferID[:],
			Peer:      msg.Peer[:],
			MsgType:   int32(msg.Type),
			MessageID: msg.ID[:],
			Body:      msg.Body,
			Deadline:  toMicros(msg.Deadline),
		})
		if err != nil {
			return fmt.Errorf("put message: %w", err)
		}
	}

	return nil
}

// Get returns the record of a peer and id, or offer.ErrNotFound.
func (o *Offers) Get(ctx context.Context, peer offer.PubKey,
	id offer.ID) (offer.Record, error) {

	row, err := o.db.queries.GetOffer(ctx, sqlc.GetOfferParams{
		OfferID: id[:],
		Peer:    peer[:],
	})
	switch {
	case errors.Is(err, sql.ErrNoRows):
		return offer.Record{}, fmt.Errorf("%w: %s", offer.ErrNotFound,
			id)

	case err != nil:
		return offer.Record{}, fmt.Errorf("read offer: %w",
			mapError(err))
	}

	return offerRecord(row)
}

// Find returns the records of an id, whoever the peer is.
func (o *Offers) Find(ctx context.Context, id offer.ID) ([]offer.Record,
	error) {

	return offerRecords(o.db.queries.FindOffers(ctx, id[:]))
}

// List returns all records, in no order.
func (o *Offers) List(ctx context.Context) ([]offer.Record, error) {
	return offerRecords(o.db.queries.ListOffers(ctx))
}

// Forgotten returns offers that the manager has forgotten, as they were then,
// the latest one first, as many as the limit says at most.
func (o *Offers) Forgotten(ctx context.Context, limit int) ([]offer.Offer,
	error) {

	records, err := offerRecords(
		o.db.queries.ListForgottenOffers(ctx, int32(limit)),
	)
	if err != nil {
		return nil, err
	}

	offers := make([]offer.Offer, 0, len(records))
	for _, r := range records {
		offers = append(offers, r.Offer)
	}

	return offers, nil
}

// Messages returns all messages that are to be delivered, in no order.
func (o *Offers) Messages(ctx context.Context) ([]offer.Message, error) {
	rows, err := o.db.queries.ListMessages(ctx)
	if err != nil {
		return nil, fmt.Errorf("read messages: %w", mapError(err))
	}

	msgs := make([]offer.Message, 0, len(rows))
	for _, row := range rows {
		msg := offer.Message{
			Type:     offer.MsgType(row.MsgType),
			Body:     row.Body,
			Deadline: fromMicros(row.Deadline),
		}
		err := arrays(
			[2][]byte{msg.Peer[:], row.Peer},
			[2][]byte{msg.OfferID[:], row.OfferID},
			[2][]byte{msg.ID[:], row.MessageID},
		)
		if err != nil {
			return nil, fmt.Errorf("read message: %w", err)
		}
		msgs = append(msgs, msg)
	}

	return msgs, nil
}

// offerRow returns a record as it is kept.
func offerRow(r *offer.Record) sqlc.PutOfferParams {
	return sqlc.PutOfferParams{
		OfferID:    r.ID[:],
		Peer:       r.Peer[:],
		Direction:  int16(r.Direction),
		State:      int16(r.State),
		Host:       r.Host[:],
		Protocol:   int16(r.Protocol),
		Addrs:      join(r.Addrs),
		Port1:      int32(r.Port1),
		Port2:      int32(r.Port2),
		Legs:       int16(r.Legs),
		Admission:  int16(r.Admission),
		Label:      r.Label,
		ReplyTo:    toBytes(r.ReplyTo[:]),
		SocketID:   r.SocketID[:],
		CreatedAt:  toMicros(r.CreatedAt),
		ExpiresAt:  toMicros(r.ExpiresAt),
		EndedAt:    toMicros(r.EndedAt),
		Reason:     r.Reason,
		DecisionID: toBytes(r.DecisionID[:]),
		Token1:     toBytes(r.Tokens[0][:]),
		Token2:     toBytes(r.Tokens[1][:]),
		IsRequest:  r.IsRequest,
		ParentID:   toBytes(r.Parent[:]),
		Limits:     joinLimits(r.Limits),
	}
}

// offerRecord returns a record that is kept.
func offerRecord(row sqlc.Offer) (offer.Record, error) {
	r := offer.Record{Offer: offer.Offer{
		Direction: offer.Direction(row.Direction),
		State:     offer.State(row.State),
		Protocol:  offer.Protocol(row.Protocol),
		Port1:     uint16(row.Port1),
		Port2:     uint16(row.Port2),
		Legs:      offer.Legs(row.Legs),
		Admission: offer.Admission(row.Admission),
		Label:     row.Label,
		CreatedAt: fromMicros(row.CreatedAt),
		ExpiresAt: fromMicros(row.ExpiresAt),
		EndedAt:   fromMicros(row.EndedAt),
		Reason:    row.Reason,
		IsRequest: row.IsRequest,
	}}

	err := arrays(
		[2][]byte{r.ID[:], row.OfferID},
		[2][]byte{r.Peer[:], row.Peer},
		[2][]byte{r.Host[:], row.Host},
		[2][]byte{r.ReplyTo[:], row.ReplyTo},
		[2][]byte{r.Parent[:], row.ParentID},
		[2][]byte{r.SocketID[:], row.SocketID},
		[2][]byte{r.DecisionID[:], row.DecisionID},
		[2][]byte{r.Tokens[0][:], row.Token1},
		[2][]byte{r.Tokens[1][:], row.Token2},
	)
	if err != nil {
		return offer.Record{}, fmt.Errorf("read offer: %w", err)
	}
	r.Addrs, err = split(row.Addrs, netip.ParseAddr)
	if err != nil {
		return offer.Record{}, fmt.Errorf("read offer %s: %w", r.ID,
			err)
	}
	r.Limits, err = splitLimits(row.Limits)
	if err != nil {
		return offer.Record{}, fmt.Errorf("read offer %s: %w", r.ID,
			err)
	}

	return r, nil
}

// offerRecords returns records that are kept, or the error with which they were
// read.
func offerRecords(rows []sqlc.Offer, err error) ([]offer.Record, error) {
	if err != nil {
		return nil, fmt.Errorf("read offers: %w", mapError(err))
	}

	records := make([]offer.Record, 0, len(rows))
	for _, row := range rows {
		r, err := offerRecord(row)
		if err != nil {
			return nil, err
		}
		records = append(records, r)
	}

	return records, nil
}
