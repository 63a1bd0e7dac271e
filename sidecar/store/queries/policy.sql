-- name: GetPolicy :one
SELECT * FROM policy
WHERE id = 1;

-- name: PutPolicy :exec
INSERT INTO policy (
    id, allow_any, allow_channel, nodes, open_for, max_hosted, max_per_node,
    max_lifetime, max_bandwidth, node_bandwidth, total_bandwidth
) VALUES (
    1, $1, $2, $3, $4, $5, $6, $7, $8, $9, $10
)
ON CONFLICT (id) DO UPDATE SET
    allow_any = excluded.allow_any,
    allow_channel = excluded.allow_channel,
    nodes = excluded.nodes,
    open_for = excluded.open_for,
    max_hosted = excluded.max_hosted,
    max_per_node = excluded.max_per_node,
    max_lifetime = excluded.max_lifetime,
    max_bandwidth = excluded.max_bandwidth,
    node_bandwidth = excluded.node_bandwidth,
    total_bandwidth = excluded.total_bandwidth;

-- name: DeletePolicy :exec
DELETE FROM policy
WHERE id = 1;
