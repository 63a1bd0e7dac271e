package main

import "encoding/binary"

const (
	// maxSmall is the size up to which most payloads go, in bytes.
	maxSmall = 1_400

	// maxLarge is the size up to which one payload in largeEvery goes. It
	// is more than a packet of any network holds, so that it travels in
	// fragments.
	maxLarge   = 60_000
	largeEvery = 500

	// largeAt is the place of the large payload among largeEvery.
	largeAt = 137

	// maxDatagram is more than any datagram holds.
	maxDatagram = 1 << 16
)

// mixer makes the numbers that a payload consists of. The same start gives the
// same numbers; nobody has to guess them. It is splitmix64.
type mixer uint64

// next returns the next number.
func (m *mixer) next() uint64 {
	*m += 0x9e3779b97f4a7c15
	z := uint64(*m)
	z = (z ^ z>>30) * 0xbf58476d1ce4e5b9
	z = (z ^ z>>27) * 0x94d049bb133111eb

	return z ^ z>>31
}

// payload returns the payload with the given number of the sender with the
// given seed, of at least one byte. It uses the memory of buf, which must have
// room for maxLarge bytes and a word.
func payload(buf []byte, seed uint64, number int) []byte {
	m := mixer(seed ^ uint64(number)*0xd1342543de82ef95)

	size := 1 + int(m.next()%maxSmall)
	if number%largeEvery == largeAt {
		size = maxSmall + 1 + int(m.next()%(maxLarge-maxSmall))
	}

	buf = buf[:0]
	for len(buf) < size {
		buf = binary.LittleEndian.AppendUint64(buf, m.next())
	}

	return buf[:size]
}
