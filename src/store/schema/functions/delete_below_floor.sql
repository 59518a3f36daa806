-- Deletes at most about `step` changes below the floor. Returns how many rows went; 0: nothing is left to delete, or another hub is at it.
CREATE OR REPLACE FUNCTION hub.delete_below_floor(step int) RETURNS bigint LANGUAGE plpgsql
  SET search_path = pg_catalog, hub, pg_temp
  -- By the index, always: where a few large transactions make up most of the table, the planner would rather read it all.
  SET enable_seqscan = off SET jit = off SET plan_cache_mode = force_generic_plan
  SET enable_nestloop = on SET enable_indexscan = on SET enable_indexonlyscan = on AS $$
DECLARE
  deleted bigint := 0;
  n bigint;
  bounds record;
  t record;
BEGIN
  IF NOT pg_try_advisory_xact_lock(hub.lock_class(), 5) THEN RETURN 0; END IF;
  SELECT r.low_water, r.compacted INTO STRICT bounds FROM hub.retention r;
  FOR t IN SELECT l.revision, l.xid FROM hub.log l WHERE l.revision > bounds.low_water AND l.revision <= bounds.compacted
    ORDER BY l.revision LIMIT step
  LOOP
    DELETE FROM hub.change WHERE xid = t.xid AND seq IN (SELECT c.seq FROM hub.change c WHERE c.xid = t.xid ORDER BY c.seq LIMIT step - deleted);
    GET DIAGNOSTICS n = ROW_COUNT;
    deleted := deleted + n;
    EXIT WHEN EXISTS (SELECT FROM hub.change c WHERE c.xid = t.xid);
    DELETE FROM hub.log WHERE revision = t.revision;
    UPDATE hub.retention SET low_water = t.revision;
    deleted := deleted + 1;
    EXIT WHEN deleted >= step;
  END LOOP;
  RETURN deleted;
END $$;
