-- Tells of each table of which rows were truncated by a transaction that did not see them: they are gone, and no change says so. Of the
-- transactions that a seal numbers: those that one snapshot does not see and another one sees. What is told is numbered by the next seal. With
-- the rights of who migrated, for it is a change.
CREATE OR REPLACE FUNCTION hub.truncated_unseen(sealed pg_snapshot, upto pg_snapshot) RETURNS void LANGUAGE plpgsql SECURITY DEFINER
  SET search_path = pg_catalog, hub, pg_temp SET quote_all_identifiers = off AS $$
BEGIN
  INSERT INTO hub.change (kind, resource_id, type, after)
    SELECT w.kind, '', 6, json_build_object('state_changed', 'rows were truncated by a transaction that did not see them', 'key_changed', false,
                                            'table', hub.description(w.id, w.structure))
    FROM hub.watched w
    WHERE EXISTS (
      SELECT FROM hub.truncated t
      WHERE t.kind = w.kind AND t.xid >= pg_snapshot_xmin(sealed)
        AND NOT pg_visible_in_snapshot(t.xid, sealed) AND pg_visible_in_snapshot(t.xid, upto)
        -- What was trimmed since cannot be looked at.
        AND (t.compacted <> (SELECT r.compacted FROM hub.retention r)
             OR EXISTS (SELECT FROM hub.change c
                        WHERE c.xid >= pg_snapshot_xmin(t.snapshot) AND c.xid <> t.xid AND NOT pg_visible_in_snapshot(c.xid, t.snapshot)
                          AND c.kind = t.kind AND c.seq < t.seq)));
  IF FOUND THEN PERFORM pg_notify('hub_doorbell', ''); END IF;
END $$;
