-- Imports: how far each has come, kept in the transactions of its rows. Only the hub's role has rights here.

CREATE TABLE hub.import (
  number     bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  kind       text        NOT NULL,
  -- As the client chose it; NULL: expired, and its failures are being deleted.
  id         text,
  -- Of the stream that may go on. An older stream finds another number here, and writes nothing any more.
  generation bigint      NOT NULL DEFAULT 1,
  -- Every item below is decided: created or failed.
  next_index bigint      NOT NULL DEFAULT 0,
  created    bigint      NOT NULL DEFAULT 0,
  failed     bigint      NOT NULL DEFAULT 0,
  started_at timestamptz NOT NULL DEFAULT clock_timestamp(),
  updated_at timestamptz NOT NULL DEFAULT clock_timestamp(),
  UNIQUE (kind, id),
  -- A batch of which a trigger swallowed rows is refused by this, and split until the row is found.
  CONSTRAINT every_item_is_decided CHECK (created + failed = next_index)
) WITH (fillfactor = 50); -- room for updates that touch no index

-- The items that failed, so that a stream which resumes can say it again.
CREATE TABLE hub.import_failure (
  import  bigint NOT NULL,
  index   bigint NOT NULL,
  code    int    NOT NULL,
  reason  text   NOT NULL,
  message text   NOT NULL,
  PRIMARY KEY (import, index)
);
