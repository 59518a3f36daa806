-- The watched tables.

-- One row per watched table. Its id names its capture functions, so names of any length and renames mean nothing there.
CREATE TABLE hub.watched (
  id             int      GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  -- In hub.change: the name of a kind that is compiled into the program, else '#' and the id.
  kind           text     NOT NULL UNIQUE,
  relation       regclass NOT NULL UNIQUE,
  -- The columns that identify a row, by attribute number, in the order of the index that makes them unique.
  key            int2[]   NOT NULL,
  key_index      oid      NOT NULL,
  -- The key by name: a dump and restore gives the columns other numbers.
  key_names      text[]   NOT NULL,
  -- How it was captured when its functions were made, what these were made of, and a digest of them.
  mode           text,
  shape          text,
  made           text
);
