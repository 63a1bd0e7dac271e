package offer

import "context"

// mortalHost is the host of a process. Its sockets outlive it.
type mortalHost struct {
	l *life
}

// Open implements Host. The process may end before or after it.
func (h mortalHost) Open(ctx context.Context, order Order) (Hosted, error) {
	if !h.l.step() {
		return Hosted{}, errKilled
	}
	hosted, err := h.l.of.host.Open(ctx, order)
	if !h.l.step() {
		return Hosted{}, errKilled
	}

	return hosted, err
}

// Close implements Host. The process may end before or after it.
func (h mortalHost) Close(ctx context.Context, socketID ID) error {
	if !h.l.step() {
		return errKilled
	}
	err := h.l.of.host.Close(ctx, socketID)
	if !h.l.step() {
		return errKilled
	}

	return err
}
