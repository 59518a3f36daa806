-- The sealed events after revision $1, oldest first, at most $3: the n-th row has revision $1 + n. $2 is the seq of the event at $1,
-- for a reader that stands inside a large transaction; NULL: found here, at the cost of an index-only scan of that transaction.
-- Events of kinds other than $4 come without their rows, unless that is NULL.
-- `base` and `revision` bound the revisions of the row's transaction. The floor is read in the same snapshot as the rows: it is raised
-- before anything is deleted, so rows that are missing here are below it.
SELECT l.revision - l.events AS base, l.revision, (SELECT compacted FROM hub.retention) AS compacted,
  c.seq, c.kind, c.resource_id, c.type,
  CASE WHEN $4::text IS NULL OR c.kind = $4 THEN c.after::text END AS after,
  CASE WHEN $4::text IS NULL OR c.kind = $4 THEN c.before::text END AS before,
  c.captured_at, c.actor, c.origin, c.trace
FROM (SELECT * FROM hub.log WHERE revision > $1 ORDER BY revision LIMIT $3) l
-- OFFSET 0 keeps it a nested loop over the index; as a plain join the planner reads all of hub.change.
CROSS JOIN LATERAL (
  SELECT * FROM hub.change
  WHERE xid = l.xid AND seq > CASE WHEN $1 <= l.revision - l.events THEN 0
    ELSE coalesce($2, (SELECT s.seq FROM hub.change s WHERE s.xid = l.xid ORDER BY s.seq OFFSET $1 - (l.revision - l.events) - 1 LIMIT 1)) END
  ORDER BY seq LIMIT $3 OFFSET 0) c
ORDER BY l.revision, c.seq
LIMIT $3
