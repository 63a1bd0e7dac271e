//go:build itest

package itest

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"encoding/json"
	"io"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/socketd/socketd/socketrpc"
	"github.com/stretchr/testify/require"
)

// macaroonHTTPHeader carries the macaroon of a REST call.
const macaroonHTTPHeader = "Grpc-Metadata-Macaroon"

// tlsConfig trusts the node's certificate and nothing else.
func (n *node) tlsConfig(t *testing.T) *tls.Config {
	t.Helper()

	pool := x509.NewCertPool()
	require.True(t, pool.AppendCertsFromPEM(
		readFile(t, n.Socketd.TLSCertPath()),
	))

	return &tls.Config{RootCAs: pool, MinVersion: tls.VersionTLS12}
}

// httpClient returns a client that trusts the node's certificate.
func (n *node) httpClient(t *testing.T) *http.Client {
	t.Helper()

	transport := &http.Transport{TLSClientConfig: n.tlsConfig(t)}
	t.Cleanup(transport.CloseIdleConnections)

	return &http.Client{Transport: transport}
}

// macaroonHex is the node's own macaroon in hex.
func (n *node) macaroonHex(t *testing.T) string {
	t.Helper()

	return hex.EncodeToString(readFile(t, n.Socketd.MacaroonPath()))
}

// restRequest makes a request to a node's REST API.
func (n *node) restRequest(t *testing.T, method, path, body string,
	header http.Header) *http.Response {

	t.Helper()

	req, err := http.NewRequestWithContext(
		testContext(t), method, "https://"+n.Socketd.RESTAddr()+path,
		strings.NewReader(body),
	)
	require.NoError(t, err)
	for name, values := range header {
		req.Header[name] = values
	}
	resp, err := n.httpClient(t).Do(req)
	require.NoError(t, err)
	t.Cleanup(func() { _ = resp.Body.Close() })

	return resp
}

// rest makes a call that is to succeed and returns the JSON of its answer.
func (n *node) rest(t *testing.T, method, path,
	body string) map[string]any {

	t.Helper()

	resp := n.restRequest(t, method, path, body, http.Header{
		macaroonHTTPHeader: {n.macaroonHex(t)},
	})
	raw, err := io.ReadAll(resp.Body)
	require.NoError(t, err)
	require.Equal(t, http.StatusOK, resp.StatusCode, "%s", raw)

	var decoded map[string]any
	require.NoError(t, json.Unmarshal(raw, &decoded), "%s", raw)

	return decoded
}

// requireKeys checks that a JSON object has exactly these names.
func requireKeys(t *testing.T, object any, names ...string) {
	t.Helper()

	var got []string
	for name := range object.(map[string]any) {
		got = append(got, name)
	}
	slices.Sort(got)
	slices.Sort(names)
	require.Equal(t, names, got)
}

// offerKeys are the JSON names of an offer.
var offerKeys = []string{
	"id", "direction", "state", "is_request", "peer_pubkey", "host_pubkey",
	"protocol", "ip", "port1", "port2", "label", "reply_to_id", "socket_id",
	"created_at", "expires_at", "reason", "leg", "admission", "peer_alias",
	"next", "ips", "both_legs", "parent_id", "limits",
}

// policyKeys are the JSON names of a policy.
var policyKeys = []string{
	"allow_requests", "open_for", "max_hosted", "max_per_node",
	"max_lifetime", "max_bandwidth", "node_bandwidth", "total_bandwidth",
}

// legKeys are the JSON names of a leg.
var legKeys = []string{
	"port", "client_addr", "packets_in", "bytes_in", "packets_out",
	"bytes_out", "drops", "last_seen", "accepted", "open", "waiting",
	"resets", "allow", "unbound",
}

// TestREST calls every method over REST and checks the names of its JSON:
// those of the proto files, unpopulated ones too.
func TestREST(t *testing.T) {
	a, b := shared.a, shared.b
	onB := b.subscribe(t)

	info := a.rest(t, http.MethodGet, "/v1/socket/getinfo", "")
	requireKeys(
		t, info, "version", "commit", "node_pubkey", "alias", "network",
		"lnd_version", "can_host", "cannot_host_reason", "external_ip",
		"num_sockets", "max_sockets", "num_pending_offers", "warnings",
		"messages_refused",
	)
	require.Equal(t, a.pubkey(), info["node_pubkey"])
	require.Equal(t, true, info["can_host"])
	require.Equal(t, "regtest", info["network"])

	started := a.rest(
		t, http.MethodPost, "/v1/socket/start", `{"label":"rest",`+
			`"admission":"open","allow2":["127.0.0.0/8"],`+
			`"limits":{"packets":"0","idle_timeout":60}}`,
	)
	requireKeys(
		t, started, "protocol", "ip", "port1", "port2", "socket_id",
		"token1", "token2", "admission", "ips",
	)
	require.IsType(t, "", started["port1"])
	socketID := started["socket_id"].(string)

	list := a.rest(t, http.MethodGet, "/v1/socket/sockets", "")
	requireKeys(t, list, "sockets")
	for _, socket := range list["sockets"].([]any) {
		requireKeys(
			t, socket, "socket_id", "protocol", "ip", "label",
			"is_default", "created_at", "expires_at", "leg1",
			"leg2", "admission", "limits", "state", "reason",
			"ips", "peer_pubkey", "request_id",
		)
		info := socket.(map[string]any)
		requireKeys(t, info["leg1"], legKeys...)
		requireKeys(t, info["leg2"], legKeys...)
		if info["socket_id"] != socketID {
			continue
		}

		// What a UDP socket does not know is not there; what is not
		// limited is 0.
		require.Equal(t, map[string]any{
			"bandwidth": "12500000", "packets": "0",
			"total_bytes": "0", "idle_timeout": "60",
			"lifetime": "86400",
		}, info["limits"])
		require.Empty(t, info["leg1"].(map[string]any)["allow"])
		require.Equal(t, []any{"127.0.0.0/8"},
			info["leg2"].(map[string]any)["allow"])
	}

	send := `{"pubkey":"` + b.pubkey() + `","socket_id":"` + socketID + `"}`
	sent := a.rest(t, http.MethodPost, "/v1/socket/sendRequest", send)
	requireKeys(t, sent, "id")
	onB.next(t, socketrpc.Event_OFFER_RECEIVED)
	other := a.rest(t, http.MethodPost, "/v1/socket/sendRequest", send)
	onB.next(t, socketrpc.Event_OFFER_RECEIVED)

	offers := b.rest(t, http.MethodGet, "/v1/socket/offers", "")
	requireKeys(t, offers, "offers")
	for _, offer := range offers["offers"].([]any) {
		requireKeys(t, offer, offerKeys...)
	}

	accepted := b.rest(
		t, http.MethodPost, "/v1/socket/offers/accept",
		`{"id":"`+sent["id"].(string)+`"}`,
	)
	requireKeys(t, accepted, "id", "offer", "token1", "token2")
	requireKeys(t, accepted["offer"], offerKeys...)
	require.Equal(
		t, "ACCEPTED", accepted["offer"].(map[string]any)["state"],
	)

	rejected := b.rest(
		t, http.MethodPost, "/v1/socket/offers/reject",
		`{"id":"`+other["id"].(string)+`","reason":"no"}`,
	)
	requireKeys(t, rejected, "id")

	withdrawn := b.rest(
		t, http.MethodPost, "/v1/socket/withdraw",
		`{"id":"`+sent["id"].(string)+`","reason":"done"}`,
	)
	requireKeys(t, withdrawn, "id", "offer")
	requireKeys(t, withdrawn["offer"], offerKeys...)
	require.Equal(
		t, "CLOSED", withdrawn["offer"].(map[string]any)["state"],
	)

	pending := b.rest(
		t, http.MethodGet, "/v1/socket/offers?pending_only=true", "",
	)
	for _, offer := range pending["offers"].([]any) {
		require.NotEqual(
			t, other["id"], offer.(map[string]any)["id"],
		)
	}

	stopped := a.rest(
		t, http.MethodPost, "/v1/socket/stop",
		`{"socket_id":"`+socketID+`"}`,
	)
	requireKeys(t, stopped)

	policy := a.rest(t, http.MethodGet, "/v1/socket/policy", "")
	requireKeys(
		t, policy, "policy", "is_set", "num_hosted", "requests_refused",
	)
	requireKeys(t, policy["policy"], policyKeys...)
	updated := a.rest(
		t, http.MethodPost, "/v1/socket/policy",
		`{"allow_requests":{"words":["none"]},"max_hosted":7}`,
	)
	requireKeys(t, updated, "policy")
	requireKeys(t, updated["policy"], policyKeys...)
	require.Equal(t, []any{"none"},
		updated["policy"].(map[string]any)["allow_requests"])
	reset := a.rest(
		t, http.MethodPost, "/v1/socket/policy", `{"reset":true}`,
	)
	require.Equal(t, policy["policy"], reset["policy"])
}

// TestRESTErrors checks how REST refuses.
func TestRESTErrors(t *testing.T) {
	a := shared.a
	auth := http.Header{macaroonHTTPHeader: {a.macaroonHex(t)}}

	tests := []struct {
		name, method, path, body string
		header                   http.Header
		code                     int
		text                     string
	}{
		{"no such path", http.MethodGet, "/v1/nosuch", "", auth,
			http.StatusNotFound, "Not Found"},
		{"wrong method", http.MethodGet, "/v1/socket/start", "", auth,
			http.StatusNotImplemented, "Method Not Allowed"},
		{"no JSON", http.MethodPost, "/v1/socket/start", "{", auth,
			http.StatusBadRequest, ""},
		{"unknown field", http.MethodPost, "/v1/socket/start",
			`{"lable":"x"}`, auth, http.StatusBadRequest, "lable"},
		{"negative limit", http.MethodPost, "/v1/socket/start",
			`{"limits":{"packets":-1}}`, auth,
			http.StatusBadRequest, "packets"},
		{"limit that overflows", http.MethodPost, "/v1/socket/start",
			`{"limits":{"lifetime":"18446744073709551615"}}`, auth,
			http.StatusBadRequest, "limits.lifetime: "},
		{"too large", http.MethodPost, "/v1/socket/start",
			`{"label":"` + strings.Repeat("x", 1<<17) + `"}`, auth,
			http.StatusBadRequest, "too large"},
		{"bad id", http.MethodPost, "/v1/socket/offers/accept",
			`{"id":"xy"}`, auth, http.StatusBadRequest, "id: "},
		{"no macaroon", http.MethodGet, "/v1/socket/getinfo", "", nil,
			http.StatusUnauthorized, "macaroon"},
		{"foreign origin", http.MethodGet, "/v1/socket/getinfo", "",
			http.Header{
				"Origin":           {"https://evil.example"},
				macaroonHTTPHeader: auth[macaroonHTTPHeader],
			}, http.StatusForbidden, "restcors"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			resp := a.restRequest(
				t, test.method, test.path, test.body,
				test.header,
			)
			raw, err := io.ReadAll(resp.Body)
			require.NoError(t, err)
			require.Equal(t, test.code, resp.StatusCode, "%s", raw)
			require.Contains(t, string(raw), test.text)
		})
	}
}

// TestRESTStream reads events as a stream of JSON lines over plain HTTP, which
// begins before the first of them.
func TestRESTStream(t *testing.T) {
	a := shared.a
	resp := a.restRequest(
		t, http.MethodGet, "/v1/socket/events", "", http.Header{
			macaroonHTTPHeader: {a.macaroonHex(t)},
		},
	)
	require.Equal(t, http.StatusOK, resp.StatusCode)

	socket := a.startSocket(t, "")
	var line struct {
		Result map[string]any `json:"result"`
	}
	require.NoError(t, json.NewDecoder(resp.Body).Decode(&line))
	requireKeys(
		t, line.Result, "id", "reply_to_id", "from_pubkey", "data",
		"service_type", "amount", "type", "cursor", "timestamp",
		"socket_id", "reason",
	)
	require.Equal(t, "SOCKET_STARTED", line.Result["type"])
	require.Equal(t, socket.SocketId, line.Result["socket_id"])

	// A cursor replays what was missed.
	replay := a.restRequest(
		t, http.MethodGet, "/v1/socket/events?after=1", "",
		http.Header{macaroonHTTPHeader: {a.macaroonHex(t)}},
	)
	require.NoError(t, json.NewDecoder(replay.Body).Decode(&line))
	require.Equal(t, "2", line.Result["cursor"])
}

// TestCORS checks that pages of the origins that the owner names may call.
func TestCORS(t *testing.T) {
	n := startNode(t, "--restcors=https://app.example")

	preflight := n.restRequest(
		t, http.MethodOptions, "/v1/socket/start", "", http.Header{
			"Origin":                        {"https://app.example"},
			"Access-Control-Request-Method": {http.MethodPost},
		},
	)
	require.Equal(t, http.StatusNoContent, preflight.StatusCode)
	require.Equal(
		t, "https://app.example",
		preflight.Header.Get("Access-Control-Allow-Origin"),
	)
	require.Contains(
		t, preflight.Header.Get("Access-Control-Allow-Headers"),
		macaroonHTTPHeader,
	)

	called := n.restRequest(
		t, http.MethodGet, "/v1/socket/getinfo", "", http.Header{
			"Origin":           {"https://app.example"},
			macaroonHTTPHeader: {n.macaroonHex(t)},
		},
	)
	require.Equal(t, http.StatusOK, called.StatusCode)

	refused := n.restRequest(
		t, http.MethodOptions, "/v1/socket/start", "",
		http.Header{"Origin": {"https://evil.example"}},
	)
	require.Equal(t, http.StatusForbidden, refused.StatusCode)
}

// TestOpenAPI checks that the OpenAPI file has every path, with the names that
// the daemon uses.
func TestOpenAPI(t *testing.T) {
	spec := readFile(t, "../socketrpc/socket.swagger.json")
	for _, path := range []string{
		"/v1/socket/sendRequest", "/v1/socket/start", "/v1/socket/stop",
		"/v1/socket/sockets", "/v1/socket/offers",
		"/v1/socket/offers/accept", "/v1/socket/offers/reject",
		"/v1/socket/getinfo", "/v1/socket/events", "/v1/subscribe",
	} {
		quoted := []byte(`"` + path + `"`)
		require.True(t, bytes.Contains(spec, quoted), path)
	}
	require.True(t, bytes.Contains(spec, []byte(`"reply_to_id"`)))
}
