package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/socketd/socketd/socketrpc"
)

// errNoFields is the error of data that is no JSON object of plain values and
// lists of them.
var errNoFields = errors.New("no object of plain values")

// hostField is the name of the field of an event's data that tells the host of
// an offer's socket.
const hostField = "host_pubkey"

// field is a name and a value of an event.
type field struct {
	name  string
	value string

	// isClaim tells that nobody but the peer vouches for the value.
	isClaim bool
}

// eventLine returns an event as one line for a person to read: its time in
// zone, its cursor, its type, and then what is set of it as name=value.
func eventLine(event *socketrpc.Event, zone *time.Location) string {
	when := time.Unix(event.GetTimestamp(), 0).In(zone)
	parts := []string{
		when.Format(time.DateTime),
		strconv.FormatUint(event.GetCursor(), 10),
		event.GetType().String(),
	}

	var fields []string
	for _, field := range eventFields(event) {
		fields = append(fields, quoted(field.name)+"="+
			quoted(field.shown(zone)))
	}
	if len(fields) > 0 {
		parts = append(parts, strings.Join(fields, " "))
	}

	return strings.Join(parts, columnGap)
}

// shown returns the value as a line has it: of ids and keys, which are always
// long, the first digits; of times, the time in zone.
func (f field) shown(zone *time.Location) string {
	switch f.name {
	case "id", "reply_to_id", "socket_id", "from_pubkey", "peer_pubkey",
		"parent_id", "request_id", hostField:

		short := f.value[:min(minPrefixDigits, len(f.value))]
		if f.isClaim {
			short += asPeerSays
		}

		return short

	case "expires_at":
		seconds, err := strconv.ParseInt(f.value, 10, 64)
		if err != nil {
			return f.value
		}

		return time.Unix(seconds, 0).In(zone).Format(time.DateTime)
	}

	return f.value
}

// eventFields returns what is set of an event, and then what its data says,
// without what is said twice.
func eventFields(event *socketrpc.Event) []field {
	all := []field{
		{name: "id", value: event.GetId()},
		{name: "reply_to_id", value: event.GetReplyToId()},
		{name: "from_pubkey", value: event.GetFromPubkey()},
		{name: "socket_id", value: event.GetSocketId()},
		{name: "reason", value: event.GetReason()},
	}

	data, err := dataFields(event.GetData())
	if err != nil {
		data = []field{{
			name: "data", value: string(event.GetData()),
		}}
	}

	// What answers nothing of ours was sent unasked: if its sender is not
	// the host it passes on what it got, and may say of that what it likes.
	for i := range data {
		data[i].isClaim = data[i].name == hostField &&
			data[i].value != event.GetFromPubkey() &&
			event.GetReplyToId() == ""
	}

	var set []field
	for _, next := range slices.Concat(all, data) {
		same := next

		// A list of addresses that has but one is the address.
		if next.name == "ips" {
			same.name = "ip"
		}
		if next.value != "" && !slices.Contains(set, same) {
			set = append(set, next)
		}
	}

	return set
}

// dataFields returns the names and values of an event's data, in their order;
// none if there is no data.
func dataFields(data []byte) ([]field, error) {
	if len(data) == 0 {
		return nil, nil
	}

	decoder := json.NewDecoder(bytes.NewReader(data))
	decoder.UseNumber()
	begin, err := decoder.Token()
	if err != nil || begin != json.Delim('{') {
		return nil, errNoFields
	}

	var fields []field
	for decoder.More() {
		name, err := decoder.Token()
		if err != nil {
			return nil, errNoFields
		}
		value, isSet, err := dataValue(decoder)
		if err != nil {
			return nil, err
		}

		// A null, and an empty list, are as good as nothing.
		if isSet {
			fields = append(fields, field{
				name: fmt.Sprint(name), value: value,
			})
		}
	}
	if _, err := decoder.Token(); err != nil {
		return nil, errNoFields
	}
	if _, err := decoder.Token(); !errors.Is(err, io.EOF) {
		return nil, errNoFields
	}

	return fields, nil
}

// dataValue returns the next value of an event's data, and whether there is
// one: a list has its values with commas between them.
func dataValue(decoder *json.Decoder) (string, bool, error) {
	value, err := decoder.Token()
	if err != nil {
		return "", false, errNoFields
	}
	if value != json.Delim('[') {
		_, nested := value.(json.Delim)
		if nested {
			return "", false, errNoFields
		}

		return fmt.Sprint(value), value != nil, nil
	}

	var values []string
	for decoder.More() {
		value, err := decoder.Token()
		_, nested := value.(json.Delim)
		if err != nil || nested {
			return "", false, errNoFields
		}
		values = append(values, fmt.Sprint(value))
	}
	if _, err := decoder.Token(); err != nil {
		return "", false, errNoFields
	}

	return strings.Join(values, ","), len(values) > 0, nil
}

// quoted returns value as it is if it is a plain word, else visible and in
// quotes: a space or a quote in it must not make it look like another field.
func quoted(value string) string {
	if strings.Trim(value, plain) == "" {
		return value
	}

	// What may be seen of a quoted text is the same as of any other.
	return visible(strconv.Quote(value))
}

// plain are the characters that need no quotes.
const plain = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ" +
	"0123456789.:-_/[]"
