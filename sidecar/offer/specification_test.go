package offer

import (
	"fmt"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/socketd/socketd/sidecar/wire"
	"github.com/stretchr/testify/require"
)

// grouped returns a number as the specification has it, with commas.
func grouped(n int) string {
	digits := strconv.Itoa(n)
	for i := len(digits) - 3; i > 0; i -= 3 {
		digits = digits[:i] + "," + digits[i:]
	}

	return digits
}

// seconds returns durations as the specification has them, in seconds.
func seconds(delays []time.Duration) string {
	words := make([]string, len(delays))
	for i, delay := range delays {
		words[i] = strconv.FormatFloat(delay.Seconds(), 'f', -1, 64)
	}

	return strings.Join(words, ", ")
}

// TestSpecificationNumbers checks that the numbers of the specification are
// those that hold here.
func TestSpecificationNumbers(t *testing.T) {
	raw, err := os.ReadFile(specification)
	require.NoError(t, err)
	text := strings.Join(strings.Fields(string(raw)), " ")

	var resends, connects []time.Duration
	for i := range 7 {
		resends = append(resends, retryDelay(i+1))
	}
	for i := range 6 {
		connects = append(connects, connectDelay(i+1)/60)
	}

	l := DefaultLimits()
	minutes := func(d time.Duration) int { return int(d.Minutes()) }
	for _, want := range []string{
		fmt.Sprintf("| length of a body | %s bytes |",
			grouped(wire.MaxSize)),
		fmt.Sprintf("| messages of a peer | %v a second, bursts of "+
			"%d |", l.Rate, l.Burst),
		fmt.Sprintf("| messages of all peers | %s a second, bursts of "+
			"%s |", grouped(int(l.TotalRate)),
			grouped(l.TotalBurst)),
		fmt.Sprintf("| messages waiting to be read | %s |",
			grouped(maxInbound)),
		fmt.Sprintf("| undecided offers and requests of a peer | %d |",
			l.PendingPerPeer),
		fmt.Sprintf("| undecided offers and requests in all, own ones "+
			"included | %s |", grouped(l.Pending)),
		fmt.Sprintf("| remembered offers and requests of a peer | "+
			"%s |", grouped(l.RecordsPerPeer)),
		fmt.Sprintf("| remembered offers and requests of all peers | "+
			"%s |", grouped(l.Records)),
		fmt.Sprintf("| own offers and requests remembered | %s |",
			grouped(l.Records)),
		fmt.Sprintf("| remembered closes of what is unknown | %d of a "+
			"peer, %s in all |", l.PendingPerPeer,
			grouped(l.Pending)),
		fmt.Sprintf("| replies waiting to be sent | %d to a peer, %s "+
			"in all |", maxRepliesPerPeer, grouped(maxReplies)),
		fmt.Sprintf("| sends in flight | %d, one to a peer |",
			maxInFlight),
		fmt.Sprintf("| time for one send | %v seconds |",
			sendTimeout.Seconds()),
		fmt.Sprintf("| attempts to connect to nodes | %d at a time "+
			"and %d a second; to one node 1 at a time, and 1 a "+
			"minute, later 1 in %d minutes |", maxConnects,
			time.Second/connectGap, minutes(connectMax)),
		fmt.Sprintf("| time for one attempt to connect | %d minute, ",
			minutes(connectTimeout)),
		fmt.Sprintf("Clocks may differ by %d minutes, the *slack*",
			minutes(Slack)),
		fmt.Sprintf("`expiry > now + %v days + %d minutes`",
			MaxLifetime.Hours()/24, minutes(Slack)),
		fmt.Sprintf("`expiry <= now - %d minutes`", minutes(Slack)),
		fmt.Sprintf("| %s, 30 … s after the attempt before |",
			seconds(resends)),
		fmt.Sprintf("| %s … minutes after the attempt before ",
			seconds(connects)),
	} {
		require.Contains(t, text, want)
	}
}

// TestSpecificationTexts checks that the texts of the specification with which
// offers and requests are refused are ours, and are sent as they are.
func TestSpecificationTexts(t *testing.T) {
	raw, err := os.ReadFile(specification)
	require.NoError(t, err)
	text := strings.Join(strings.Fields(string(raw)), " ")

	node := PubKey{2}
	most := RequestPolicy{
		Any:          true,
		MaxHosted:    50,
		MaxPerNode:   5,
		MaxLifetime:  24 * time.Hour,
		MaxBandwidth: 12_500_000,
	}
	request := Offer{IsRequest: true, Peer: node, Admission: ByToken}
	refusal := func(p RequestPolicy, o Offer, facts requestFacts) string {
		refused := p.judge(&o, facts)
		require.NotNil(t, refused)

		return refused.text
	}

	open, long, fast := request, request, request
	open.Admission = Open
	long.Limits.Lifetime = 86401
	fast.Limits.Bandwidth = 12_500_001
	none := requestFacts{}
	for _, want := range []string{
		textOwnSocket,
		textCircle,
		refusal(RequestPolicy{}, request, none),
		refusal(RequestPolicy{Channel: true}, request, none),
		refusal(RequestPolicy{Nodes: []PubKey{{3}}}, request, none),
		refusal(most, open, none),
		refusal(most, request, requestFacts{ofNode: 5}),
		refusal(most, request, requestFacts{hosted: 50}),
		refusal(most, long, none),
		refusal(most, fast, none),
	} {
		require.Contains(t, text, "`"+want+"`")
		require.NoError(t, wire.CheckText(want))
	}
}
