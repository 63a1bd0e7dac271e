package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/socketd/socketd/socketrpc"
	"github.com/urfave/cli/v3"
	"golang.org/x/term"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
)

// jsonFlag is the global flag that wants JSON on a terminal, too.
const jsonFlag = "json"

// marshaler writes messages as lncli does: the names of the proto files, and
// every field.
var marshaler = protojson.MarshalOptions{
	UseProtoNames:   true,
	EmitUnpopulated: true,
}

// layout is json.Indent or json.Compact, with its white space.
type layout func(out *bytes.Buffer, raw []byte) error

// printList writes a response with a list to stdout: on a terminal as the table
// that view returns for the time now, elsewhere, and with --json, as JSON.
func printList(cmd *cli.Command, msg proto.Message,
	view func(now time.Time) *table) error {
	// Whoever reads a pipe must get the same whatever becomes of the table.
	if !forPerson(cmd) {
		return printResponse(cmd, msg)
	}

	columns, _ := terminal(cmd.Root().Writer)

	return printText(cmd, view(time.Now()).render(columns))
}

// printEvent writes an event to stdout as one line: on a terminal for a person
// to read, elsewhere, and with --json, as JSON.
func printEvent(cmd *cli.Command, event *socketrpc.Event) error {
	if !forPerson(cmd) {
		return printJSON(cmd, event, json.Compact)
	}

	return printText(cmd, eventLine(event, time.Local)+"\n")
}

// printResponse writes a response to stdout as indented JSON.
func printResponse(cmd *cli.Command, msg proto.Message) error {
	return printJSON(cmd, msg, indent)
}

// printJSON writes a message to stdout as JSON that format lays out, and a
// newline. protojson's own white space is random, so that nobody relies on it.
func printJSON(cmd *cli.Command, msg proto.Message, format layout) error {
	raw, err := marshaler.Marshal(msg)
	if err != nil {
		return fmt.Errorf("encode the response: %w", err)
	}

	return printRaw(cmd, raw, format)
}

// printValue writes a value that is no message to stdout as printResponse
// does.
func printValue(cmd *cli.Command, value any) error {
	var raw bytes.Buffer
	encoder := json.NewEncoder(&raw)
	encoder.SetEscapeHTML(false)
	if err := encoder.Encode(value); err != nil {
		return fmt.Errorf("encode the response: %w", err)
	}

	return printRaw(cmd, bytes.TrimSpace(raw.Bytes()), indent)
}

// indent lays JSON out for a person to read.
func indent(out *bytes.Buffer, raw []byte) error {
	return json.Indent(out, raw, "", "    ")
}

// printRaw writes JSON to stdout as format lays it out, and a newline.
func printRaw(cmd *cli.Command, raw []byte, format layout) error {
	var out bytes.Buffer
	if err := format(&out, raw); err != nil {
		return fmt.Errorf("format the response: %w", err)
	}
	out.WriteByte('\n')

	// JSON escapes only some of what a terminal obeys.
	text := out.String()
	if _, ok := terminal(cmd.Root().Writer); ok {
		text = visibleLines(text)
	}

	return printText(cmd, text)
}

// printText writes text to stdout as it is.
func printText(cmd *cli.Command, text string) error {
	if _, err := io.WriteString(cmd.Root().Writer, text); err != nil {
		return fmt.Errorf("print the response: %w", err)
	}

	return nil
}

// visibleLines makes each line of text visible. In JSON, what is escaped can
// only be in a string, where it means the same.
func visibleLines(text string) string {
	lines := strings.Split(text, "\n")
	for i, line := range lines {
		lines[i] = visible(line)
	}

	return strings.Join(lines, "\n")
}

// forPerson returns whether stdout is a terminal, and JSON was not asked for.
func forPerson(cmd *cli.Command) bool {
	_, ok := terminal(cmd.Root().Writer)

	return ok && !cmd.Bool(jsonFlag)
}

// terminal returns whether w is a terminal, and how many columns it has, 0 if
// it does not say.
func terminal(w io.Writer) (int, bool) {
	file, ok := w.(*os.File)
	if !ok || !term.IsTerminal(int(file.Fd())) {
		return 0, false
	}

	columns, _, err := term.GetSize(int(file.Fd()))
	if err != nil {
		return 0, true
	}

	return columns, true
}
