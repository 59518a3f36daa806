-- Looks whether a watched table is as it was at the last look. If it is not, its capture is mended, its description brought up to date, and
-- what happened told at its place in the log, by a row of type 6 without an id:
--   state_changed   why rows may be others than their events say: whoever follows them has to begin anew
--   key_changed     whether rows are called by other ids
--   table           the description, of an attached table
-- `thorough`: what somebody did to the triggers themselves is mended, too; else it is told once they are as they must be.
-- In the transaction of the ALTER TABLE itself, or at a later look. Returns whether anything was to be done; where nothing is, it takes no lock.
-- With the rights of who migrated: a hub that may change nothing must not leave it untold.
CREATE OR REPLACE FUNCTION hub.mend(watched_id int, thorough boolean) RETURNS boolean LANGUAGE plpgsql SECURITY DEFINER
  SET search_path = pg_catalog, hub, pg_temp SET quote_all_identifiers = off SET jit = off AS $$
DECLARE
  w hub.watched;
  now jsonb;
  why text;
  digest text;
  is_other_key boolean;
  is_described boolean;
BEGIN
  SELECT s.* INTO w FROM hub.watched s WHERE s.id = watched_id;
  now := coalesce(hub.structure(w.id, w.relation), '{}');
  digest := hub.description_digest(w.id);
  IF now IS NOT DISTINCT FROM w.structure AND NOT EXISTS (SELECT FROM hub.attached a WHERE a.id = w.id AND a.described IS DISTINCT FROM digest)
    AND (now = '{}' OR w.shape IS NOT DISTINCT FROM hub.capture_shape(w.id) AND w.made IS NOT DISTINCT FROM hub.capture_digest(w.id))
  THEN RETURN false; END IF;

  -- One at a time. What another has done meanwhile is seen now, or at the next look.
  SELECT s.* INTO w FROM hub.watched s WHERE s.id = watched_id FOR UPDATE;
  IF NOT FOUND THEN RETURN false; END IF;
  now := coalesce(hub.structure(w.id, w.relation), '{}');
  is_other_key := false;
  IF now = '{}' THEN
    -- Of an attached one the next look takes leave.
    IF w.structure = '{}' OR EXISTS (SELECT FROM hub.attached a WHERE a.id = w.id) THEN RETURN false; END IF;
    why := 'the table was dropped';
    UPDATE hub.watched s SET structure = now WHERE s.id = w.id;
  ELSIF jsonb_typeof(now -> 'key') <> 'array' THEN
    RETURN false; -- Rows are captured by the columns of the key that was, as long as these are there; hub.capture_faults tells it.
  ELSIF NOT thorough AND now - 'triggers' = w.structure - 'triggers' AND w.shape = hub.capture_shape(w.id)
    AND EXISTS (SELECT FROM hub.capture_faults(w.kind)) THEN
    RETURN false; -- As hub.capture_faults tells.
  ELSE
    IF w.structure IS NOT NULL THEN
      why := CASE WHEN hub.capture_was_interrupted(w.id) THEN 'changes were not captured for some time' ELSE hub.rows_differ(w.structure, now) END;
      is_other_key := to_jsonb(w.key) <> now -> 'key';
    END IF;
    UPDATE hub.watched s SET key = (i.indkey::int2[])[0:i.indnkeyatts - 1], key_index = i.indexrelid, key_names = hub.key_columns(w.relation)
      FROM pg_index i WHERE s.id = w.id AND i.indrelid = w.relation AND i.indisprimary;
    PERFORM hub.install(w.id);
  END IF;

  digest := hub.description_digest(w.id);
  UPDATE hub.attached a SET schema_version = a.schema_version + 1, described = digest WHERE a.id = w.id AND a.described IS DISTINCT FROM digest
    RETURNING a.schema_version > 1 INTO is_described;
  IF why IS NOT NULL OR is_other_key OR is_described THEN
    INSERT INTO hub.change (kind, resource_id, type, after, actor)
      VALUES (w.kind, '', 6, json_build_object('state_changed', why, 'key_changed', is_other_key, 'table', hub.description(w.id, w.structure)), session_user);
  END IF;
  PERFORM hub.ring_tables();
  RETURN true;
END $$;
