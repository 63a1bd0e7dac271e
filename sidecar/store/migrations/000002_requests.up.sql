-- Requests are kept among the offers, and whose requests are met besides.

-- Whether it is a request, which has no addresses and no ports. One of ours has
-- a socket_id of zeros until it is answered.
ALTER TABLE offers ADD COLUMN is_request BOOLEAN NOT NULL DEFAULT FALSE;

-- The offer that this one passes on a leg of.
ALTER TABLE offers ADD COLUMN parent_id BLOB;

-- The limits that a request asks for, as limit=value. What is not there is left
-- to the host.
ALTER TABLE offers ADD COLUMN limits TEXT NOT NULL DEFAULT '';

-- The one row of policy tells whose requests are met, if that was set at run
-- time. Without it the configuration does.
CREATE TABLE IF NOT EXISTS policy (
    -- Always 1.
    id SMALLINT PRIMARY KEY,

    -- Whether all nodes may ask, and those that we have an open channel with.
    allow_any BOOLEAN NOT NULL,
    allow_channel BOOLEAN NOT NULL,

    -- Public keys in hex: of further nodes that may ask, and of those that may
    -- ask for an OPEN socket.
    nodes TEXT NOT NULL,
    open_for TEXT NOT NULL,

    max_hosted BIGINT NOT NULL,
    max_per_node BIGINT NOT NULL,

    -- In nanoseconds.
    max_lifetime BIGINT NOT NULL,

    -- In bytes per second: of a hosted socket in each direction, of all sockets
    -- of a node, and of all sockets. 0 for no limit.
    max_bandwidth BIGINT NOT NULL,
    node_bandwidth BIGINT NOT NULL,
    total_bandwidth BIGINT NOT NULL
);
