-- Did a transaction that is not sealed yet truncate rows that its snapshot did not see? They are gone, and no change says so. To be
-- asked after the snapshot is taken that will be sealed up to, so that everything that is sealed was looked at.
CREATE OR REPLACE FUNCTION hub.truncated_unseen(sealed pg_snapshot) RETURNS boolean LANGUAGE sql STABLE
  SET search_path = pg_catalog, hub, pg_temp AS $$
  SELECT EXISTS (
    SELECT FROM hub.truncated t
    WHERE t.xid >= pg_snapshot_xmin(sealed) AND NOT pg_visible_in_snapshot(t.xid, sealed)
      -- What was trimmed since cannot be looked at.
      AND (t.compacted <> (SELECT r.compacted FROM hub.retention r)
           OR EXISTS (SELECT FROM hub.change c
                      WHERE c.xid >= pg_snapshot_xmin(t.snapshot) AND c.xid <> t.xid AND NOT pg_visible_in_snapshot(c.xid, t.snapshot)
                        AND c.kind = t.kind AND c.seq < t.seq)))
$$;
