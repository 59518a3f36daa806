-- Who may call. Only the hub's role has rights here.

-- API keys: what is kept of them in their place.
CREATE TABLE hub.api_key (
  id           text        PRIMARY KEY,
  -- Who has it: the subject of its calls.
  name         text        NOT NULL,
  -- The SHA-256 of its text.
  digest       bytea       NOT NULL CHECK (octet_length(digest) = 32),
  -- What it is good for; empty: whatever its owner may do.
  scopes       text[]      NOT NULL,
  created_at   timestamptz NOT NULL DEFAULT clock_timestamp(),
  created_by   text,
  expires_at   timestamptz,
  revoked_at   timestamptz,
  -- To the minute.
  last_used_at timestamptz
);

-- Counts the changes of the keys: a hub that has seen this number has them all.
CREATE TABLE hub.key_ring (
  singleton boolean PRIMARY KEY DEFAULT true CHECK (singleton),
  version   bigint NOT NULL DEFAULT 0
);
INSERT INTO hub.key_ring DEFAULT VALUES;

-- Random bytes that the hubs of this database share: with them they know again what they gave to a client.
CREATE TABLE hub.secret (
  name  text  PRIMARY KEY,
  bytes bytea NOT NULL CHECK (octet_length(bytes) = 32)
);
