//go:build !portable

package relay

// connList is a list of connections. Each is in one list at most.
type connList struct {
	first, last *conn
	count       int
}

// append puts a connection at the end.
func (l *connList) append(c *conn) {
	c.prev, c.next = l.last, nil
	if l.last == nil {
		l.first = c
	} else {
		l.last.next = c
	}

	l.last = c
	l.count++
}

// remove takes a connection out.
func (l *connList) remove(c *conn) {
	if c.prev == nil {
		l.first = c.next
	} else {
		c.prev.next = c.next
	}

	if c.next == nil {
		l.last = c.prev
	} else {
		c.next.prev = c.prev
	}

	c.prev, c.next = nil, nil
	l.count--
}

// lists returns all lists of connections.
func (c *tcpCarrier) lists() []*connList {
	lists := []*connList{&c.joined}
	for i := range c.legs {
		t := &c.legs[i]
		lists = append(lists, &t.pacer.waits, &t.queue, &t.unbound)
	}

	return lists
}
