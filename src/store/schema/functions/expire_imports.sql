-- Forgets imports that have rested for longer than `max_age`, and deletes at most `step` of what they leave. Returns how many rows went.
CREATE OR REPLACE FUNCTION hub.expire_imports(max_age interval, step int) RETURNS bigint LANGUAGE plpgsql
  SET search_path = pg_catalog, hub, pg_temp AS $$
DECLARE
  n bigint;
BEGIN
  -- The lock of those who compact.
  IF NOT pg_try_advisory_xact_lock(hub.lock_class(), 5) THEN RETURN 0; END IF;
  UPDATE hub.import SET id = NULL, generation = generation + 1
    WHERE id IS NOT NULL AND updated_at < clock_timestamp() - max_age;
  DELETE FROM hub.import_failure WHERE (import, index) IN (
    SELECT f.import, f.index FROM hub.import i JOIN hub.import_failure f ON f.import = i.number WHERE i.id IS NULL LIMIT step);
  GET DIAGNOSTICS n = ROW_COUNT;
  IF n = 0 THEN
    DELETE FROM hub.import WHERE number IN (SELECT number FROM hub.import WHERE id IS NULL LIMIT step);
    GET DIAGNOSTICS n = ROW_COUNT;
  END IF;
  RETURN n;
END $$;
