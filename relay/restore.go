package relay

import (
	"errors"
	"fmt"
	"net/netip"
	"time"
)

// ErrPortTaken means that a port of a socket that is to be restored belongs to
// somebody else now.
var ErrPortTaken = errors.New("the socket's port is taken")

// Restored is what a socket keeps when a later relay opens it again: its name,
// its ports, and who its clients are. Socket.Keep returns it.
type Restored struct {
	// ID is the socket's id.
	ID ID

	// CreatedAt is when the socket was opened first.
	CreatedAt time.Time

	// Ports are the ports of leg 1 and leg 2. They need not be in
	// Config.Ports.
	Ports [2]uint16

	// Tokens are the legs' own tokens; zero if the socket is OPEN.
	Tokens [2]Token

	// Clients are the legs' clients.
	Clients [2]RestoredClient

	// PassedBytes is what counts already towards Limits.TotalBytes.
	PassedBytes uint64
}

// RestoredClient is the client of a leg. The zero value is none.
type RestoredClient struct {
	// Addr is the address that the leg is pinned to.
	Addr netip.AddrPort

	// Local is the address of ours that a UDP client sends to, if it is
	// known.
	Local netip.Addr

	// Token is what the client was bound by; zero if the leg is OPEN. If it
	// is not the leg's own it is granted again.
	Token Token
}

// validate tells what is wrong with what is to be restored.
func (r *Restored) validate(admission Admission) error {
	if r.ID == (ID{}) {
		return fmt.Errorf("%w: no id to restore", ErrOptions)
	}
	if r.Ports[0] == 0 || r.Ports[1] == 0 || r.Ports[0] == r.Ports[1] {
		return fmt.Errorf("%w: ports %d and %d to restore", ErrOptions,
			r.Ports[0], r.Ports[1])
	}

	for i, token := range r.Tokens {
		if token.IsZero() == (admission == ByToken) {
			return fmt.Errorf("%w: token of leg %d to restore, "+
				"and the admission is %v", ErrOptions, i+1,
				admission)
		}

		client := r.Clients[i]
		if client.Addr.IsValid() &&
			client.Token.IsZero() == (admission == ByToken) {

			return fmt.Errorf("%w: token of the client of leg %d "+
				"to restore, and the admission is %v",
				ErrOptions, i+1, admission)
		}
	}

	return nil
}

// Keep returns what the socket would keep if it were opened again.
func (s *Socket) Keep() Restored {
	r := Restored{
		ID:          s.id,
		CreatedAt:   s.createdAt,
		PassedBytes: s.passed(),
	}

	for i, l := range s.legs {
		r.Ports[i] = l.port.num
		if l.keys != nil {
			r.Tokens[i] = l.keys.own()
		}

		client := l.pin.Load()
		if client == nil {
			continue
		}
		r.Clients[i] = RestoredClient{
			Addr: client.src, Local: client.local,
		}
		if client.key != nil {
			r.Clients[i].Token = client.key.token
		}
	}

	return r
}

// passed returns how many bytes count towards Limits.TotalBytes.
func (s *Socket) passed() uint64 {
	// What was read from a connection passes, or the connection ends.
	if s.opts.Protocol == TCP {
		return s.passedBefore + s.read.Load()
	}

	return s.passedBefore + s.legs[0].traffic.bytesOut.Load() +
		s.legs[1].traffic.bytesOut.Load()
}

// restore gives a new socket what it had before.
func (s *Socket) restore(r *Restored) {
	s.createdAt = r.CreatedAt.Round(0)
	s.passedBefore = r.PassedBytes

	at := s.relay.moment()
	for i, l := range s.legs {
		client := r.Clients[i]
		if !client.Addr.IsValid() {
			continue
		}

		restored := &pin{src: client.Addr, local: client.Local}
		if s.opts.Protocol == UDP {
			restored.route = l.port.route(source{
				addr: client.Addr, local: client.Local,
			})
		}
		if l.keys != nil {
			restored.key = l.keys.restore(client.Token)
		}

		// It has as much time to be heard as one that was just here.
		l.seen(at)
		l.pin.Store(restored)
	}
}

// restore returns the key of a token, which is granted if it is not there.
func (k *keyring) restore(token Token) *legKey {
	k.mu.Lock()
	defer k.mu.Unlock()

	key := k.find(token)
	if key == nil {
		key = &legKey{token: token, granted: true}
		k.keys = append(k.keys, key)
	}

	return key
}

// Hold keeps ports for a socket that is to be restored, so that no other socket
// gets them meanwhile. It reports false, and holds none, if a socket has one of
// them. Holding ports again changes nothing.
func (r *Relay) Hold(ports ...uint16) bool {
	return r.ports.hold(ports...)
}

// Unhold gives ports back that were held and that no socket was restored on.
func (r *Relay) Unhold(ports ...uint16) {
	r.ports.unhold(ports...)
}

// relisten opens the two ports of a socket that is to be restored. They are
// held by then, and still are if it fails.
func (r *Relay) relisten(opts *Options) ([2]*port, error) {
	var ports [2]*port

	nums := opts.Restore.Ports
	if !r.ports.hold(nums[:]...) {
		return ports, fmt.Errorf("%w: a socket of ours has %d or %d",
			ErrPortTaken, nums[0], nums[1])
	}

	for i, num := range nums {
		opened, err := r.openPort(opts.Protocol, num)
		if err == nil {
			ports[i] = opened

			continue
		}

		if i > 0 {
			err = errors.Join(err, ports[0].close())
		}
		if isAddrInUse(err) {
			err = fmt.Errorf("%w: %w", ErrPortTaken, err)
		}

		return ports, fmt.Errorf("open port %d: %w", num, err)
	}
	r.ports.use(nums[:]...)

	return ports, nil
}
