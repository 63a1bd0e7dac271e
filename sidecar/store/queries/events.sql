-- name: InsertEvent :exec
INSERT INTO events (cursor, happened_at, data)
VALUES ($1, $2, $3);

-- name: EventsAfter :many
SELECT * FROM events
WHERE cursor > $1
ORDER BY cursor
LIMIT $2;

-- name: FirstCursor :one
SELECT CAST(COALESCE(MIN(cursor), 0) AS BIGINT) FROM events;

-- name: LastCursor :one
SELECT CAST(COALESCE(MAX(cursor), 0) AS BIGINT) FROM events;

-- name: OldestEvents :many
SELECT cursor, happened_at FROM events
ORDER BY cursor
LIMIT $1;

-- name: DeleteEvents :exec
DELETE FROM events
WHERE cursor <= $1;
