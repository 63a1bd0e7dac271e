package wire

import (
	"fmt"
	"strconv"
)

// RejectCode is why a message is rejected. A code that the receiver does not
// know is a refusal for a reason that it does not know. 0 is none.
type RejectCode uint16

const (
	// CodeDeclined is a person's no to an offer. All other codes are the
	// refusal of a message by the receiver's socketd.
	CodeDeclined RejectCode = 1

	// CodeVersion is for a message of a version that is not spoken.
	CodeVersion RejectCode = 2

	// CodeMalformed is for a message that breaks the rules.
	CodeMalformed RejectCode = 3

	// CodeLimit is for an offer or request that there is no room for.
	CodeLimit RejectCode = 4

	// CodeExpired is for an offer or request that came too late, for an
	// accept of an offer that has ended, and for an offer that answers a
	// request which has.
	CodeExpired RejectCode = 5

	// CodeUnknown is for an answer to something that is not known.
	CodeUnknown RejectCode = 6

	// CodeUnsupported is for a message that asks for something that is not
	// known.
	CodeUnsupported RejectCode = 7

	// CodePolicy is for a request that the receiver's policy does not
	// allow, and for an offer that the receiver does not want for what it
	// is. The text says why.
	CodePolicy RejectCode = 8
)

// codeNames has a name for every code.
var codeNames = map[RejectCode]string{
	CodeDeclined:    "declined",
	CodeVersion:     "version",
	CodeMalformed:   "malformed",
	CodeLimit:       "limit",
	CodeExpired:     "expired",
	CodeUnknown:     "unknown",
	CodeUnsupported: "unsupported",
	CodePolicy:      "policy",
}

// String returns the code's name, or its number if it has none.
func (c RejectCode) String() string {
	if name, ok := codeNames[c]; ok {
		return name
	}

	return "code " + strconv.Itoa(int(c))
}

// Accept tells the sender of an offer that it was accepted.
type Accept struct {
	// ID is the id of the message.
	ID ID

	// ReplyTo is the offer.
	ReplyTo ID
}

// Reject tells the sender of a message that it was turned down.
type Reject struct {
	// ID is the id of the message.
	ID ID

	// ReplyTo is the message that was turned down.
	ReplyTo ID

	Code RejectCode

	// Text is what a person said, or why the receiver's socketd refuses, or
	// empty. See CheckText.
	Text string
}

// Close ends an offer, whether it was accepted or not, or takes back a request.
type Close struct {
	// ID is the id of the message.
	ID ID

	// ReplyTo is the offer or request.
	ReplyTo ID

	// Text is why, or empty. See CheckText.
	Text string
}

// Ack tells the sender of a message that it arrived.
type Ack struct {
	// ID is the id of the message.
	ID ID

	// ReplyTo is the message that arrived.
	ReplyTo ID
}

// Compile-time checks that these are messages.
var (
	_ Message = (*Accept)(nil)
	_ Message = (*Reject)(nil)
	_ Message = (*Close)(nil)
	_ Message = (*Ack)(nil)
)

// Type returns TypeAccept.
func (*Accept) Type() MsgType {
	return TypeAccept
}

// Type returns TypeReject.
func (*Reject) Type() MsgType {
	return TypeReject
}

// Type returns TypeClose.
func (*Close) Type() MsgType {
	return TypeClose
}

// Type returns TypeAck.
func (*Ack) Type() MsgType {
	return TypeAck
}

// Validate returns an error that wraps ErrMalformed if the message is not one
// that may be sent.
func (a *Accept) Validate() error {
	return checkReply(a.ID, a.ReplyTo)
}

// Validate returns an error that wraps ErrMalformed if the message is not one
// that may be sent.
func (r *Reject) Validate() error {
	if err := checkReply(r.ID, r.ReplyTo); err != nil {
		return err
	}
	if r.Code == 0 {
		return fmt.Errorf("%w: code is zero", ErrMalformed)
	}

	return CheckText(r.Text)
}

// Validate returns an error that wraps ErrMalformed if the message is not one
// that may be sent.
func (c *Close) Validate() error {
	if err := checkReply(c.ID, c.ReplyTo); err != nil {
		return err
	}

	return CheckText(c.Text)
}

// Validate returns an error that wraps ErrMalformed if the message is not one
// that may be sent.
func (a *Ack) Validate() error {
	return checkReply(a.ID, a.ReplyTo)
}

// checkReply checks what every answer begins with.
func checkReply(id, replyTo ID) error {
	if id.IsZero() {
		return fmt.Errorf("%w: message id is zero", ErrMalformed)
	}
	if replyTo.IsZero() {
		return fmt.Errorf("%w: reply-to id is zero", ErrMalformed)
	}

	return nil
}

// fields returns the records of the message.
func (a *Accept) fields() []field {
	return replyFields(&a.ID, &a.ReplyTo)
}

// fields returns the records of the message.
func (r *Reject) fields() []field {
	return append(
		replyFields(&r.ID, &r.ReplyTo),
		numField(recCode, (*uint16)(&r.Code)),
		textField(&r.Text),
	)
}

// fields returns the records of the message.
func (c *Close) fields() []field {
	return append(
		replyFields(&c.ID, &c.ReplyTo), textField(&c.Text),
	)
}

// fields returns the records of the message.
func (a *Ack) fields() []field {
	return replyFields(&a.ID, &a.ReplyTo)
}
