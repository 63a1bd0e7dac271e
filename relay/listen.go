package relay

import (
	"errors"
	"fmt"
	"time"
)

// listenFor opens the ports of a socket.
func (r *Relay) listenFor(opts *Options) ([2]*port, error) {
	if opts.Restore != nil {
		return r.relisten(opts)
	}

	return r.listen(opts.Protocol)
}

// listen opens two ports of the range.
func (r *Relay) listen(protocol Protocol) ([2]*port, error) {
	// Ports that other programs have stay out of the pool until this
	// search ends, so that none is tried twice.
	var foreign []uint16
	defer func() {
		r.ports.giveBack(foreign...)
	}()

	var ports [2]*port
	for i := range ports {
		port, err := r.listenNext(protocol, &foreign)
		if err != nil {
			r.unlisten(ports[:i]...)
		}

		switch {
		case errors.Is(err, ErrNoFreePort):
			return ports, fmt.Errorf("%w: %s", err,
				r.ports.describe(time.Now(), len(foreign)))

		case err != nil:
			return ports, err
		}

		ports[i] = port
	}

	return ports, nil
}

// listenNext opens one port of the range. Those that other programs have are
// added to foreign.
func (r *Relay) listenNext(protocol Protocol, foreign *[]uint16) (*port,
	error) {

	for {
		num, ok := r.ports.take(time.Now())
		if !ok {
			return nil, ErrNoFreePort
		}

		port, err := r.openPort(protocol, num)
		switch {
		case err == nil:
			return port, nil

		case isAddrInUse(err):
			*foreign = append(*foreign, num)

		default:
			r.ports.giveBack(num)

			return nil, fmt.Errorf("open port %d: %w", num, err)
		}
	}
}

// openPort opens one port.
func (r *Relay) openPort(protocol Protocol, num uint16) (*port, error) {
	if protocol == TCP {
		return openTCP(r.cfg.Listen, num, r.cfg.KeepAlive)
	}

	return openUDP(r.cfg.Listen, num)
}

// unlisten closes ports that no client has heard of.
func (r *Relay) unlisten(ports ...*port) {
	for _, port := range ports {
		if err := port.close(); err != nil {
			r.log.Warn("Closing a port", "port", port.num, "err",
				err)
		}

		r.ports.giveBack(port.num)
	}
}
