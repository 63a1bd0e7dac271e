-- name: PutOffer :exec
INSERT INTO offers (
    offer_id, peer, direction, state, host, protocol, addrs, port1, port2, legs,
    admission, label, reply_to, socket_id, created_at, expires_at, ended_at,
    reason, decision_id, token1, token2, is_request, parent_id, limits,
    forgotten_at
) VALUES (
    $1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17,
    $18, $19, $20, $21, $22, $23, $24, 0
)
ON CONFLICT (offer_id, peer) DO UPDATE SET
    direction = excluded.direction,
    state = excluded.state,
    host = excluded.host,
    protocol = excluded.protocol,
    addrs = excluded.addrs,
    port1 = excluded.port1,
    port2 = excluded.port2,
    legs = excluded.legs,
    admission = excluded.admission,
    label = excluded.label,
    reply_to = excluded.reply_to,
    socket_id = excluded.socket_id,
    created_at = excluded.created_at,
    expires_at = excluded.expires_at,
    ended_at = excluded.ended_at,
    reason = excluded.reason,
    decision_id = excluded.decision_id,
    token1 = excluded.token1,
    token2 = excluded.token2,
    is_request = excluded.is_request,
    parent_id = excluded.parent_id,
    limits = excluded.limits,
    forgotten_at = 0;

-- name: ForgetOffer :exec
UPDATE offers
SET forgotten_at = $3, token1 = NULL, token2 = NULL
WHERE offer_id = $1 AND peer = $2 AND forgotten_at = 0;

-- name: DeleteOffer :exec
DELETE FROM offers
WHERE offer_id = $1 AND peer = $2;

-- name: GetOffer :one
SELECT * FROM offers
WHERE offer_id = $1 AND peer = $2 AND forgotten_at = 0;

-- name: FindOffers :many
SELECT * FROM offers
WHERE offer_id = $1 AND forgotten_at = 0;

-- name: ListOffers :many
SELECT * FROM offers
WHERE forgotten_at = 0;

-- name: ListForgottenOffers :many
SELECT * FROM offers
WHERE forgotten_at > 0
ORDER BY forgotten_at DESC
LIMIT $1;

-- name: CountForgottenOffers :one
SELECT COUNT(*) FROM offers
WHERE forgotten_at > 0;

-- name: OldestForgottenOffers :many
SELECT forgotten_at FROM offers
WHERE forgotten_at > 0
ORDER BY forgotten_at
LIMIT $1;

-- name: DeleteForgottenOffers :exec
DELETE FROM offers
WHERE forgotten_at > 0 AND forgotten_at <= $1;

-- name: PutMessage :exec
INSERT INTO outbox (
    offer_id, peer, msg_type, message_id, body, deadline
) VALUES (
    $1, $2, $3, $4, $5, $6
)
ON CONFLICT (offer_id, peer, msg_type) DO UPDATE SET
    message_id = excluded.message_id,
    body = excluded.body,
    deadline = excluded.deadline;

-- name: DeleteMessage :exec
DELETE FROM outbox
WHERE offer_id = $1 AND peer = $2 AND message_id = $3;

-- name: DeleteMessagesOf :exec
DELETE FROM outbox
WHERE offer_id = $1 AND peer = $2;

-- name: ListMessages :many
SELECT * FROM outbox;
