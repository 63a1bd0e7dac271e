package relay

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"math/rand/v2"
	"sync"
)

// headerSize is how long a payload must be to tell where it belongs: who sent
// it, its number, and a checksum of the rest.
const headerSize = 12

// noise returns random bytes, always the same.
var noise = sync.OnceValue(func() []byte {
	random := make([]byte, 1<<18)
	_, _ = rand.NewChaCha8([32]byte{1}).Read(random)

	return random
})

// newPayload returns a payload of the size that no other number of the sender
// has, if it is not too short for that.
func newPayload(sender, number uint32, size int) []byte {
	offset := (number*31 + sender*101) % (1 << 17)
	payload := bytes.Clone(noise()[offset:][:size])
	if size < headerSize {
		return payload
	}

	binary.BigEndian.PutUint32(payload, sender)
	binary.BigEndian.PutUint32(payload[4:], number)
	sum := crc32.ChecksumIEEE(payload[headerSize:])
	binary.BigEndian.PutUint32(payload[8:], sum)

	return payload
}

// parsePayload returns whose payload it is, and its number.
func parsePayload(payload []byte) (sender, number uint32, err error) {
	if len(payload) < headerSize {
		return 0, 0, fmt.Errorf("payload of %d bytes", len(payload))
	}

	sender = binary.BigEndian.Uint32(payload)
	number = binary.BigEndian.Uint32(payload[4:])
	sum := crc32.ChecksumIEEE(payload[headerSize:])
	if sum != binary.BigEndian.Uint32(payload[8:]) {
		return 0, 0, fmt.Errorf("payload of %d bytes, number %d of "+
			"sender %d: wrong checksum", len(payload), number,
			sender)
	}

	return sender, number, nil
}
