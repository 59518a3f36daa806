-- Raises the floor over at most `step` transactions that are older than `max_age`, or that leave `max_events` events above them.
-- NULL: another hub is at it.
CREATE OR REPLACE FUNCTION hub.raise_floor(max_age interval, max_events bigint, step int) RETURNS bigint LANGUAGE plpgsql
  SET search_path = pg_catalog, hub, pg_temp
  SET enable_seqscan = off SET jit = off SET plan_cache_mode = force_generic_plan
  SET enable_nestloop = on SET enable_indexscan = on SET enable_indexonlyscan = on AS $$
DECLARE
  floor bigint;
BEGIN
  IF NOT pg_try_advisory_xact_lock(hub.lock_class(), 5) THEN RETURN NULL; END IF;
  SELECT compacted INTO STRICT floor FROM hub.retention;
  SELECT coalesce(max(old.revision), floor) INTO floor
  FROM (SELECT l.revision, l.sealed_at FROM hub.log l WHERE l.revision > floor ORDER BY l.revision LIMIT step) old
  WHERE old.sealed_at < clock_timestamp() - max_age OR old.revision < (SELECT h.revision - max_events FROM hub.head h);
  UPDATE hub.retention SET compacted = floor WHERE compacted < floor;
  RETURN floor;
END $$;
