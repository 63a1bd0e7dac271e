package main

import (
	"bytes"
	"encoding/json"
	"fmt"

	"github.com/urfave/cli/v3"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
)

// marshaler writes messages as lncli does: the names of the proto files, and
// every field.
var marshaler = protojson.MarshalOptions{
	UseProtoNames:   true,
	EmitUnpopulated: true,
}

// layout is json.Indent or json.Compact, with its white space.
type layout func(out *bytes.Buffer, raw []byte) error

// printResponse writes a response to stdout as indented JSON.
func printResponse(cmd *cli.Command, msg proto.Message) error {
	return printJSON(cmd, msg, func(out *bytes.Buffer, raw []byte) error {
		return json.Indent(out, raw, "", "    ")
	})
}

// printLine writes one message of a stream to stdout as a line of JSON.
func printLine(cmd *cli.Command, msg proto.Message) error {
	return printJSON(cmd, msg, json.Compact)
}

// printJSON writes a message to stdout as JSON that format lays out, and a
// newline. protojson's own white space is random, so that nobody relies on it.
func printJSON(cmd *cli.Command, msg proto.Message, format layout) error {
	raw, err := marshaler.Marshal(msg)
	if err != nil {
		return fmt.Errorf("encode the response: %w", err)
	}

	var out bytes.Buffer
	if err := format(&out, raw); err != nil {
		return fmt.Errorf("format the response: %w", err)
	}
	out.WriteByte('\n')

	if _, err := cmd.Root().Writer.Write(out.Bytes()); err != nil {
		return fmt.Errorf("print the response: %w", err)
	}

	return nil
}
