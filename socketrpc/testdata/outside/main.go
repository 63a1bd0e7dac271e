// Outside is a program of somebody who uses socketd's API from a module of his
// own: it prints what a socketd says of itself.
package main

import (
	"context"
	"fmt"
	"os"

	"github.com/socketd/socketd/socketrpc"
)

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run(args []string) error {
	if len(args) != 3 {
		return fmt.Errorf("usage: outside rpcserver tlscert macaroon")
	}

	conn, err := socketrpc.Dial(args[0], args[1], args[2])
	if err != nil {
		return err
	}
	defer conn.Close()

	info, err := socketrpc.NewSocketClient(conn).GetInfo(
		context.Background(), &socketrpc.GetInfoRequest{},
	)
	if err != nil {
		return err
	}
	fmt.Println(info.NodePubkey)

	return nil
}
