-- To be called in a REPEATABLE READ transaction that began under the seal lock and captures nothing.
-- `force`: although nothing can be seen from inside. `served`: the epoch of a hub that missed what it had published; it forces nothing
-- where another hub has done so because of the same epoch. Returns the epoch.
CREATE OR REPLACE FUNCTION hub.begin_epoch(force boolean, served text) RETURNS text LANGUAGE plpgsql
  SET search_path = pg_catalog, hub, pg_temp AS $$
DECLARE
  fault text := hub.history_fault(true);
  moved boolean := fault IN ('the server is on another timeline', 'this is another server');
  before hub.incarnation;
BEGIN
  IF current_setting('transaction_isolation') <> 'repeatable read' THEN
    RAISE EXCEPTION 'hub.begin_epoch() needs REPEATABLE READ';
  END IF;
  SELECT * INTO before FROM hub.incarnation;
  IF fault IS NULL AND (NOT force OR served = ANY (before.replaces)) THEN
    RETURN before.epoch;
  END IF;
  IF force OR NOT moved THEN
    -- Transaction ids begin anew, or may: those of old rows would come to mean other transactions. What this snapshot sees is part of
    -- the state that watchers list in the new epoch; what it does not see is captured after it, and will be numbered.
    -- A head that is missing is where the log ends: a hub that finds its number there knows that it was not rolled back.
    INSERT INTO hub.head (revision, snapshot)
      SELECT greatest((SELECT max(l.revision) FROM hub.log l), (SELECT max(r.compacted) FROM hub.retention r), 0), pg_current_snapshot()
      ON CONFLICT (singleton) DO UPDATE SET snapshot = excluded.snapshot;
    DELETE FROM hub.change;
    DELETE FROM hub.log;
    UPDATE hub.retention r SET compacted = h.revision, low_water = h.revision FROM hub.head h;
  END IF;
  DELETE FROM hub.incarnation;
  INSERT INTO hub.incarnation (epoch, database, system_identifier, timeline, replaces)
    SELECT hub.new_epoch(), d.oid, s.system_identifier, hub.timeline(), array_remove(ARRAY[before.epoch, served], NULL)
    FROM pg_database d, pg_control_system() s WHERE d.datname = current_database();
  -- Hubs look, and find it.
  PERFORM pg_notify('hub_doorbell', '');
  RETURN (SELECT epoch FROM hub.incarnation);
END $$;
