-- The event trigger: what somebody's ALTER, CREATE or DROP has done to a watched table is seen to in the same transaction, under its locks. It
-- fails nobody: whatever goes wrong here a hub mends at its next look.
CREATE OR REPLACE FUNCTION hub.after_ddl() RETURNS event_trigger LANGUAGE plpgsql SECURITY DEFINER
  SET search_path = pg_catalog, hub, pg_temp SET quote_all_identifiers = off SET lock_timeout = '200ms' SET jit = off AS $$
DECLARE
  touched oid[];
  is_new boolean := false;
  t record;
BEGIN
  -- What is read here would be one more reason for a serializable transaction to fail.
  IF current_setting('hub.mending', true) = 'on' OR current_setting('transaction_isolation') = 'serializable' THEN RETURN; END IF;
  IF TG_EVENT = 'sql_drop' THEN
    SELECT array_agg(d.objid) INTO touched FROM pg_event_trigger_dropped_objects() d
      WHERE NOT d.is_temporary AND d.object_type IN ('table', 'trigger', 'type');
  ELSE
    SELECT array_agg(d.objid), bool_or(d.command_tag = 'CREATE TABLE') INTO touched, is_new FROM pg_event_trigger_ddl_commands() d
      WHERE d.schema_name IS DISTINCT FROM 'pg_temp';
  END IF;
  IF touched IS NULL THEN RETURN; END IF;
  FOR t IN
    WITH RECURSIVE relations(oid) AS (
        SELECT o FROM unnest(touched) o
        UNION SELECT g.tgrelid FROM pg_trigger g WHERE g.oid = ANY (touched)
        UNION SELECT c.reltype FROM pg_class c WHERE c.oid = ANY (touched) AND c.relkind = 'c'
        UNION SELECT c.oid FROM pg_class c JOIN hub.watched w ON w.relation = c.oid WHERE c.relnamespace = ANY (touched)),
      above(oid) AS (SELECT r.oid FROM relations r UNION SELECT i.inhparent FROM above a JOIN pg_inherits i ON i.inhrelid = a.oid)
    SELECT w.id, x.id IS NOT NULL AS is_attached, c.oid IS NULL AS is_gone
    FROM hub.watched w LEFT JOIN hub.attached x ON x.id = w.id LEFT JOIN pg_class c ON c.oid = w.relation
    WHERE w.relation IN (SELECT a.oid FROM above a)
      OR EXISTS (SELECT FROM relations r WHERE w.structure -> 'parts' ? r.oid::text OR w.structure -> 'uses' @> to_jsonb(r.oid::bigint))
    ORDER BY w.id
  LOOP
    BEGIN
      IF NOT (t.is_attached AND t.is_gone) THEN PERFORM hub.mend(t.id, t.is_attached); END IF;
      is_new := true;
    EXCEPTION WHEN OTHERS THEN
      is_new := true;
    END;
  END LOOP;
  -- A new table may be one that a hub is to attach.
  IF is_new THEN PERFORM hub.ring_tables(); END IF;
EXCEPTION WHEN OTHERS THEN
  NULL;
END $$;
