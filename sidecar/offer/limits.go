package offer

// Limits bound what peers, and we ourselves, can make the manager keep and do.
// A limit of zero lets nothing through.
type Limits struct {
	// PendingPerPeer is how many undecided offers of one peer are kept.
	PendingPerPeer int

	// Pending is how many undecided offers there may be in both directions.
	Pending int

	// RecordsPerPeer is how many offers of one peer are remembered,
	// including those that have ended.
	RecordsPerPeer int

	// Records is how many offers are remembered in each direction,
	// including those that have ended.
	Records int

	// Rate is how many messages per second are read from one peer.
	Rate float64

	// Burst is how many messages of one peer are read at once.
	Burst int

	// TotalRate is how many messages per second are read from all peers
	// together. What Rate and Burst refuse does not count.
	TotalRate float64

	// TotalBurst is how many messages of all peers are read at once.
	TotalBurst int
}

// DefaultLimits returns the limits of version 1.
func DefaultLimits() Limits {
	return Limits{
		PendingPerPeer: 20,
		Pending:        1000,
		RecordsPerPeer: 200,
		Records:        10000,
		Rate:           10,
		Burst:          30,
		TotalRate:      1000,
		TotalBurst:     2000,
	}
}
