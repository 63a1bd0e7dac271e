-- name: PutSocket :exec
INSERT INTO sockets (
    socket_id, protocol, admission, port1, port2, label, is_default, allow1,
    allow2, bandwidth, packets, total_bytes, pairs, idle_timeout, created_at,
    expires_at, token1, token2, state, reason, account
) VALUES (
    $1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17,
    $18, $19, $20, $21
)
ON CONFLICT (socket_id) DO UPDATE SET
    protocol = excluded.protocol,
    admission = excluded.admission,
    port1 = excluded.port1,
    port2 = excluded.port2,
    label = excluded.label,
    is_default = excluded.is_default,
    allow1 = excluded.allow1,
    allow2 = excluded.allow2,
    bandwidth = excluded.bandwidth,
    packets = excluded.packets,
    total_bytes = excluded.total_bytes,
    pairs = excluded.pairs,
    idle_timeout = excluded.idle_timeout,
    created_at = excluded.created_at,
    expires_at = excluded.expires_at,
    token1 = excluded.token1,
    token2 = excluded.token2,
    state = excluded.state,
    reason = excluded.reason,
    account = excluded.account;

-- name: DeleteSocket :exec
DELETE FROM sockets
WHERE socket_id = $1;

-- name: ListSockets :many
SELECT * FROM sockets
ORDER BY created_at, socket_id;

-- name: PutPin :exec
INSERT INTO pins (
    socket_id, leg, client_addr, local_addr, token, pinned_at
)
SELECT s.socket_id, $2, $3, $4, $5, $6
FROM sockets s
WHERE s.socket_id = $1
ON CONFLICT (socket_id, leg) DO UPDATE SET
    client_addr = excluded.client_addr,
    local_addr = excluded.local_addr,
    token = excluded.token,
    pinned_at = excluded.pinned_at;

-- name: DeletePin :exec
DELETE FROM pins
WHERE socket_id = $1 AND leg = $2;

-- name: ListPins :many
SELECT * FROM pins
ORDER BY socket_id, leg;

-- name: PutCounters :exec
INSERT INTO counters (
    socket_id, leg, packets_in, bytes_in, packets_out, bytes_out, accepted,
    resets, drops, last_seen
)
SELECT s.socket_id, $2, $3, $4, $5, $6, $7, $8, $9, $10
FROM sockets s
WHERE s.socket_id = $1
ON CONFLICT (socket_id, leg) DO UPDATE SET
    packets_in = excluded.packets_in,
    bytes_in = excluded.bytes_in,
    packets_out = excluded.packets_out,
    bytes_out = excluded.bytes_out,
    accepted = excluded.accepted,
    resets = excluded.resets,
    drops = excluded.drops,
    last_seen = excluded.last_seen;

-- name: ListCounters :many
SELECT * FROM counters
ORDER BY socket_id, leg;
