-- What socketd keeps. Times are microseconds since 1970, 0 for none. Ids, keys
-- and tokens are their bytes, and NULL where there is none; addresses and
-- networks are text, several of them separated by a space.
--
-- PostgreSQL takes the same file, with the types that lnd's sqldb gives it for
-- those that SQLite has.

-- The one row of meta tells whose database this is.
CREATE TABLE IF NOT EXISTS meta (
    -- Always 1.
    id SMALLINT PRIMARY KEY,

    -- The public key of the node that everything here belongs to.
    node BLOB NOT NULL
);

-- The sockets of this node that have not ended.
CREATE TABLE IF NOT EXISTS sockets (
    socket_id BLOB PRIMARY KEY,

    -- 1 UDP, 2 TCP.
    protocol SMALLINT NOT NULL,

    -- 0 OPEN, 1 TOKEN.
    admission SMALLINT NOT NULL,

    port1 INTEGER NOT NULL,
    port2 INTEGER NOT NULL,
    label TEXT NOT NULL,

    -- Whether it is the socket that an empty request starts.
    is_default BOOLEAN NOT NULL,

    -- The networks that the clients of each leg may come from.
    allow1 TEXT NOT NULL,
    allow2 TEXT NOT NULL,

    -- What may pass, 0 for no limit.
    bandwidth BIGINT NOT NULL,
    packets BIGINT NOT NULL,
    total_bytes BIGINT NOT NULL,
    pairs INTEGER NOT NULL,

    -- In nanoseconds, 0 for never.
    idle_timeout BIGINT NOT NULL,
    created_at BIGINT NOT NULL,
    expires_at BIGINT NOT NULL,

    -- The own token of each leg of a TOKEN socket.
    token1 BLOB,
    token2 BLOB,

    -- 0 ACTIVE, 1 FAILED.
    state SMALLINT NOT NULL,

    -- Why it is FAILED.
    reason TEXT NOT NULL,

    -- Whom it is counted against.
    account TEXT NOT NULL
);

-- The clients of legs. A leg without a client has no row.
CREATE TABLE IF NOT EXISTS pins (
    socket_id BLOB NOT NULL REFERENCES sockets(socket_id) ON DELETE CASCADE,

    -- 1 or 2.
    leg SMALLINT NOT NULL,

    -- Where the client is, and the address of ours that it came to.
    client_addr TEXT NOT NULL,
    local_addr TEXT NOT NULL,

    -- The token that the client proved to hold.
    token BLOB,

    pinned_at BIGINT NOT NULL,

    PRIMARY KEY (socket_id, leg)
);

-- What the legs of a socket had counted when it was last looked at.
CREATE TABLE IF NOT EXISTS counters (
    socket_id BLOB NOT NULL REFERENCES sockets(socket_id) ON DELETE CASCADE,
    leg SMALLINT NOT NULL,
    packets_in BIGINT NOT NULL,
    bytes_in BIGINT NOT NULL,
    packets_out BIGINT NOT NULL,
    bytes_out BIGINT NOT NULL,
    accepted BIGINT NOT NULL,
    resets BIGINT NOT NULL,

    -- What was dropped, as reason=count, by reason.
    drops TEXT NOT NULL,

    last_seen BIGINT NOT NULL,

    PRIMARY KEY (socket_id, leg)
);

-- The offers of both directions: those that are known, and those that are
-- forgotten and kept to look back on.
CREATE TABLE IF NOT EXISTS offers (
    offer_id BLOB NOT NULL,
    peer BLOB NOT NULL,

    -- 0 INCOMING, 1 OUTGOING.
    direction SMALLINT NOT NULL,

    -- The number of the state in the API.
    state SMALLINT NOT NULL,

    host BLOB NOT NULL,
    protocol SMALLINT NOT NULL,
    addrs TEXT NOT NULL,
    port1 INTEGER NOT NULL,
    port2 INTEGER NOT NULL,

    -- 1 leg 1, 2 leg 2, 3 both.
    legs SMALLINT NOT NULL,

    admission SMALLINT NOT NULL,
    label TEXT NOT NULL,
    reply_to BLOB,
    socket_id BLOB NOT NULL,
    created_at BIGINT NOT NULL,
    expires_at BIGINT NOT NULL,
    ended_at BIGINT NOT NULL,
    reason TEXT NOT NULL,
    decision_id BLOB,

    -- The tokens that let the far end in, as long as the offer has not ended.
    token1 BLOB,
    token2 BLOB,

    -- When it was forgotten, 0 if it was not.
    forgotten_at BIGINT NOT NULL,

    PRIMARY KEY (offer_id, peer)
);

CREATE INDEX IF NOT EXISTS offers_forgotten_idx
    ON offers (forgotten_at) WHERE forgotten_at > 0;

-- The messages about offers that are still to be delivered.
CREATE TABLE IF NOT EXISTS outbox (
    offer_id BLOB NOT NULL,

    -- The peer of the offer, to whom it goes.
    peer BLOB NOT NULL,

    -- The type of the custom message.
    msg_type INTEGER NOT NULL,

    message_id BLOB NOT NULL,
    body BLOB NOT NULL,

    -- When it is given up.
    deadline BIGINT NOT NULL,

    PRIMARY KEY (offer_id, peer, msg_type)
);

-- What happened, in order. The latest one is never deleted, so that no cursor
-- is used twice.
CREATE TABLE IF NOT EXISTS events (
    cursor INTEGER PRIMARY KEY,
    happened_at BIGINT NOT NULL,

    -- The event as its reader encoded it.
    data BLOB NOT NULL
);
