// Socketd is the daemon that opens sockets between Lightning nodes.
package main

import (
	"os"

	"github.com/socketd/socketd/sidecar"
)

func main() {
	os.Exit(sidecar.Main())
}
