-- Controllers: consumers inside the hub, each with a durable position, and what they could not do. The audit trail is one of them.

-- One row per controller. It is its lease and its fence as well: whoever takes a turn locks it, finds the number of the turn that it
-- expects, and commits its effects, the position and the next number together.
CREATE TABLE hub.controller (
  name     text PRIMARY KEY,
  -- The history that the position belongs to; '': it never ran.
  epoch    text   NOT NULL DEFAULT '',
  -- Every event up to here has had its effect, or is a dead letter.
  revision bigint NOT NULL DEFAULT 0,
  -- Of that event, if it was read: the next read begins there at no cost, even inside a transaction of a million rows.
  seq      bigint,
  turn     bigint NOT NULL DEFAULT 0,
  -- For people: who took the last turn, and when.
  holder   text,
  moved_at timestamptz NOT NULL DEFAULT clock_timestamp()
) WITH (fillfactor = 10);

-- Events that a controller could not handle, and those of the same resource that came later and wait behind them. By resource, the one
-- with the lowest id is tried first, and no other before it is gone.
CREATE TABLE hub.dead_letter (
  id          bigint GENERATED ALWAYS AS IDENTITY (CACHE 1) PRIMARY KEY,
  controller  text        NOT NULL,
  epoch       text        NOT NULL,
  revision    bigint      NOT NULL,
  kind        text        NOT NULL,
  resource_id text        NOT NULL,
  type        smallint    NOT NULL, -- as in hub.change; 4: a row of a table that was listed anew
  after       json,
  before      json,
  captured_at timestamptz,
  actor       text,
  origin      text,
  trace       text,
  attempts    int         NOT NULL DEFAULT 0, -- 0: waits behind another
  error       text,
  failed_at   timestamptz,
  due_at      timestamptz -- NULL: is not tried by itself
);
CREATE INDEX dead_letter_resource ON hub.dead_letter (controller, kind, resource_id, id);
CREATE INDEX dead_letter_due ON hub.dead_letter (controller, due_at) WHERE due_at IS NOT NULL;

-- The audit trail: one row per change, and one (type 0) for each place where changes may be missing.
CREATE TABLE hub.audit (
  revision    bigint      NOT NULL,
  epoch       text        NOT NULL,
  kind        text        NOT NULL,
  resource_id text        NOT NULL,
  type        smallint    NOT NULL, -- as in hub.change; 0: a gap
  captured_at timestamptz NOT NULL,
  actor       text,
  origin      text,
  trace       text,
  after       json,
  before      json,
  PRIMARY KEY (revision, epoch)
);
CREATE INDEX audit_resource ON hub.audit (kind, resource_id, revision);
CREATE INDEX audit_actor ON hub.audit (actor, revision);
-- Rows come nearly in the order of time: a few pages serve for weeks.
CREATE INDEX audit_captured_at ON hub.audit USING brin (captured_at);

-- As store/read.sql, for controllers: with who did it, and without the rows of kinds other than `wanted`, unless that is NULL. The n-th row
-- has revision `start` + n. In one snapshot with the floor, which is raised before anything is deleted.
CREATE FUNCTION hub.changes_after(start bigint, start_seq bigint, most bigint, wanted text)
  RETURNS TABLE (base bigint, revision bigint, compacted bigint, seq bigint, kind text, resource_id text, type smallint,
    after text, before text, captured_at timestamptz, actor text, origin text, trace text)
  LANGUAGE sql STABLE SET enable_seqscan = off SET jit = off SET max_parallel_workers_per_gather = 0 SET plan_cache_mode = force_generic_plan AS $$
  SELECT l.revision - l.events, l.revision, (SELECT r.compacted FROM hub.retention r), c.seq, c.kind, c.resource_id, c.type,
    CASE WHEN wanted IS NULL OR c.kind = wanted THEN c.after::text END, CASE WHEN wanted IS NULL OR c.kind = wanted THEN c.before::text END,
    c.captured_at, c.actor, c.origin, c.trace
  FROM (SELECT * FROM hub.log g WHERE g.revision > start ORDER BY g.revision LIMIT most) l
  CROSS JOIN LATERAL (
    SELECT * FROM hub.change h
    WHERE h.xid = l.xid AND h.seq > CASE WHEN start <= l.revision - l.events THEN 0
      ELSE coalesce(start_seq, (SELECT s.seq FROM hub.change s WHERE s.xid = l.xid ORDER BY s.seq OFFSET start - (l.revision - l.events) - 1 LIMIT 1)) END
    ORDER BY h.seq LIMIT most OFFSET 0) c
  ORDER BY l.revision, c.seq
  LIMIT most
$$;
