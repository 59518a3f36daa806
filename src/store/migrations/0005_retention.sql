-- Retention: the floor is raised and committed first, and only then are rows deleted below it, in small steps. So whoever sees rows
-- missing sees a floor that says so.

-- Raises the floor over at most `step` transactions that are older than `max_age`, or that leave `max_events` events above them.
-- NULL: another hub is at it.
CREATE FUNCTION hub.raise_floor(max_age interval, max_events bigint, step int) RETURNS bigint LANGUAGE plpgsql AS $$
DECLARE
  floor bigint;
BEGIN
  IF NOT pg_try_advisory_xact_lock(1953654136, 5) THEN RETURN NULL; END IF;
  SELECT compacted INTO STRICT floor FROM hub.retention;
  SELECT coalesce(max(old.revision), floor) INTO floor
  FROM (SELECT l.revision, l.sealed_at FROM hub.log l WHERE l.revision > floor ORDER BY l.revision LIMIT step) old
  WHERE old.sealed_at < clock_timestamp() - max_age OR old.revision < (SELECT h.revision - max_events FROM hub.head h);
  UPDATE hub.retention SET compacted = floor WHERE compacted < floor;
  RETURN floor;
END $$;

-- Deletes at most about `step` changes below the floor. Returns how many rows went; 0: nothing is left to delete.
CREATE FUNCTION hub.delete_below_floor(step int) RETURNS bigint LANGUAGE plpgsql AS $$
DECLARE
  deleted bigint := 0;
  n bigint;
  t record;
BEGIN
  IF NOT pg_try_advisory_xact_lock(1953654136, 5) THEN RETURN 0; END IF;
  FOR t IN SELECT l.revision, l.xid FROM hub.retention r JOIN hub.log l ON l.revision > r.low_water AND l.revision <= r.compacted
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
