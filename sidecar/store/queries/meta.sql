-- name: GetNode :one
SELECT node FROM meta
WHERE id = 1;

-- name: InsertNode :exec
INSERT INTO meta (id, node)
VALUES (1, $1);
