package compare

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strconv"

	"github.com/pion/turn/v4"
)

// What a TURN server that asks for it is told. It guards nothing: the server is
// on loopback, and ours.
const (
	turnUser     = "compare"
	turnPassword = "compare"
	turnRealm    = "compare"
)

// ServeTURN runs a TURN server of pion/turn at a port of loopback, as that
// project's examples do, until ctx is done.
func ServeTURN(ctx context.Context, port uint16) error {
	var config net.ListenConfig
	conn, err := config.ListenPacket(
		ctx, "udp4", net.JoinHostPort(
			loopback.String(), strconv.Itoa(int(port)),
		),
	)
	if err != nil {
		return fmt.Errorf("TURN server: %w", err)
	}

	key := turn.GenerateAuthKey(turnUser, turnRealm, turnPassword)
	relayed := &turn.RelayAddressGeneratorStatic{
		RelayAddress: loopback.AsSlice(),
		Address:      loopback.String(),
	}
	server, err := turn.NewServer(turn.ServerConfig{
		Realm: turnRealm,
		AuthHandler: func(name, _ string, _ net.Addr) ([]byte, bool) {
			return key, name == turnUser
		},
		PacketConnConfigs: []turn.PacketConnConfig{{
			PacketConn:            conn,
			RelayAddressGenerator: relayed,
		}},
	})
	if err != nil {
		return errors.Join(
			fmt.Errorf("TURN server: %w", err), conn.Close(),
		)
	}

	<-ctx.Done()

	return server.Close()
}
