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
-- Whoever follows the trail looks for the beginning of a new history.
CREATE INDEX audit_gap ON hub.audit (epoch, revision) WHERE type = 0;
