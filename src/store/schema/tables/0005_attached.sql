-- Tables that are attached while hubs run. One that was detached, or dropped, stays here, so that every hub can say which it was.
CREATE TABLE hub.attached (
  -- As in hub.watched.
  id                int      PRIMARY KEY,
  -- The table; NULL: it was dropped, or is attached again since.
  relation          oid,
  -- Its history begins here; NULL: its capture has just begun, and the next look fixes it.
  attached_revision bigint,
  -- Counts the changes of its description, of which there is a digest.
  schema_version    bigint   NOT NULL DEFAULT 0,
  described         text,
  -- Only these columns may be seen; NULL: all but those that are hidden. Each by number and by name: the number, so that a renamed secret
  -- stays secret; the name, because a dump and restore gives columns other numbers. When they disagree, less is seen.
  shown             int2[],
  shown_names       text[],
  hidden            int2[]   NOT NULL DEFAULT '{}',
  hidden_names      text[]   NOT NULL DEFAULT '{}',
  -- These are not captured either.
  never_stored       int2[]  NOT NULL DEFAULT '{}',
  never_stored_names text[]  NOT NULL DEFAULT '{}',
  attached_at       timestamptz NOT NULL DEFAULT clock_timestamp(),
  detached_at       timestamptz
);
