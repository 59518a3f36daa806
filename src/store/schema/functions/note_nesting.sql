-- Called by a capture function that has captured this many rows of a watched table, if it runs inside another statement's trigger, or if
-- rows of that table were captured inside one before it in this transaction. A statement that fires a trigger which changes rows of the
-- same table is captured when it ends, and so behind what the trigger did. `hub.nested_I_N` is the first `seq` that was captured of table I
-- inside a trigger of a statement of depth N.
-- Returns that number and the first one of the rows just captured, if something came inside this statement.
CREATE OR REPLACE FUNCTION hub.note_nesting(watched_id int, captured bigint) RETURNS bigint[] LANGUAGE plpgsql
  SET search_path = pg_catalog, hub, pg_temp SET enable_seqscan = off SET jit = off AS $$
DECLARE
  depth int := pg_trigger_depth();
  noted text := format('hub.nested_%s_', watched_id);
  since bigint := substring(current_setting(noted || depth, true) FROM '^[0-9]{1,18}$')::bigint;
  first bigint;
BEGIN
  -- Nothing came inside this statement, and those around it know already that something came inside them.
  IF since IS NULL AND depth > 1 AND coalesce(current_setting(noted || depth - 1, true), '') <> '' THEN RETURN NULL; END IF;
  SELECT min(own.seq) INTO first
    FROM (SELECT c.seq FROM hub.change c WHERE c.xid = pg_current_xact_id() ORDER BY c.seq DESC LIMIT captured) own;
  FOR around IN 1..depth - 1 LOOP
    IF coalesce(current_setting(noted || around, true), '') = '' THEN
      PERFORM set_config(noted || around, first::text, true);
    END IF;
  END LOOP;
  RETURN CASE WHEN since IS NOT NULL THEN ARRAY[since, first] END;
END $$;
