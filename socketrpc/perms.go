package socketrpc

// Entity is the macaroon entity of every permission of socketd. To lnd it is
// an external permission.
const Entity = "socket"

const (
	// ActionRead is the action that methods need which change nothing.
	ActionRead = "read"

	// ActionWrite is the action that methods need which change something.
	ActionWrite = "write"
)

// Permission is a pair that a macaroon must hold. Besides it, a macaroon may
// hold the permission for one method by its full name, "uri" with the action
// "/socket.Socket/StartSocket" for example.
type Permission struct {
	Entity string
	Action string
}

var (
	read  = Permission{Entity: Entity, Action: ActionRead}
	write = Permission{Entity: Entity, Action: ActionWrite}

	permissions = map[string]Permission{
		Socket_SendSocket_FullMethodName:      write,
		Socket_StartSocket_FullMethodName:     write,
		Socket_StopSocket_FullMethodName:      write,
		Socket_ListSockets_FullMethodName:     read,
		Socket_ListOffers_FullMethodName:      read,
		Socket_AcceptOffer_FullMethodName:     write,
		Socket_RejectOffer_FullMethodName:     write,
		Socket_WithdrawOffer_FullMethodName:   write,
		Socket_GetInfo_FullMethodName:         read,
		Socket_SubscribeEvents_FullMethodName: read,
		Socket_GetPolicy_FullMethodName:       read,
		Socket_UpdatePolicy_FullMethodName:    write,
		Websocket_Subscribe_FullMethodName:    read,
	}
)

// MethodPermission returns the permission that a method needs, by the
// method's full name as gRPC has it ("/socket.Socket/StartSocket"). It is
// false for a method that does not exist, which nobody may call.
func MethodPermission(fullMethod string) (Permission, bool) {
	perm, ok := permissions[fullMethod]

	return perm, ok
}
