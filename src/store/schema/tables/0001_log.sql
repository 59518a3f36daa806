-- The log: what was captured, how it was numbered, and which history the numbers belong to.

-- One row per changed row of a watched table, written by the capture triggers inside the writer's own transaction.
-- Nothing here orders by time or waits for anybody: `seq` only keeps the order within a transaction and breaks ties.
CREATE TABLE hub.change (
  seq         bigint GENERATED ALWAYS AS IDENTITY (CACHE 1), -- CACHE 1: real-time order of capture
  xid         xid8        NOT NULL DEFAULT pg_current_xact_id(), -- the top-level transaction
  kind        text        NOT NULL,
  resource_id text        NOT NULL,
  type        smallint    NOT NULL, -- 1 created, 2 updated, 3 deleted
  after       json, -- NULL although the row is there: it was too large, see hub.large_row
  before      json,
  captured_at timestamptz NOT NULL DEFAULT clock_timestamp(),
  actor       text,
  origin      text,
  trace       text,
  -- A primary key, for a publication of all tables must find a replica identity here.
  PRIMARY KEY (xid, seq)
);

-- One row per TRUNCATE of a watched table by a transaction with an older snapshot; see hub.truncated_unseen.
CREATE TABLE hub.truncated (
  xid       xid8        NOT NULL DEFAULT pg_current_xact_id(),
  seq       bigint      NOT NULL DEFAULT nextval('hub.change_seq_seq'), -- stands between those of hub.change
  kind      text        NOT NULL,
  snapshot  pg_snapshot NOT NULL,
  compacted bigint      NOT NULL, -- the floor, as that snapshot sees it
  PRIMARY KEY (xid, seq)
);

-- One row per sealed transaction. Its events have the revisions (revision - events, revision], in the order of `seq`:
-- a transaction of a million rows costs the seal one row, not a million.
CREATE TABLE hub.log (
  revision  bigint      PRIMARY KEY,
  xid       xid8        NOT NULL,
  events    bigint      NOT NULL CHECK (events > 0),
  sealed_at timestamptz NOT NULL DEFAULT clock_timestamp()
);

-- The last seal: the newest revision and the snapshot up to which everything finished is numbered.
CREATE TABLE hub.head (
  singleton boolean PRIMARY KEY DEFAULT true CHECK (singleton),
  revision  bigint      NOT NULL,
  snapshot  pg_snapshot NOT NULL
) WITH (fillfactor = 10);

-- Everything up to `compacted` may be gone; a reader can stand at it, and at whatever comes after.
CREATE TABLE hub.retention (
  singleton boolean PRIMARY KEY DEFAULT true CHECK (singleton),
  compacted bigint NOT NULL DEFAULT 0,
  -- Up to here the rows are gone. Deleting begins here, and not at rows that died long ago.
  low_water bigint NOT NULL DEFAULT 0
) WITH (fillfactor = 10);
INSERT INTO hub.retention DEFAULT VALUES;

-- Names this history. `born` is the row's own xmin; a dump and restore breaks that equality, VACUUM FREEZE does not.
CREATE TABLE hub.incarnation (
  singleton         boolean PRIMARY KEY DEFAULT true CHECK (singleton),
  epoch             text   NOT NULL,
  born              xid8   NOT NULL DEFAULT pg_current_xact_id(),
  database          oid    NOT NULL,
  system_identifier bigint NOT NULL,
  timeline          text   NOT NULL,
  -- The epoch that was here before, and the one that was served by the hub that began this one.
  replaces          text[] NOT NULL DEFAULT '{}'
);
