-- Makes a watched table's capture functions and triggers as they must be. What is as it must be already is left alone, and not locked.
CREATE OR REPLACE FUNCTION hub.install(watched_id int) RETURNS void LANGUAGE plpgsql
  SET search_path = pg_catalog, hub, pg_temp SET quote_all_identifiers = off AS $$
DECLARE
  w hub.watched;
  present_mode text;
  row_is_new boolean;
  mending text := current_setting('hub.mending', true);
  t record;
BEGIN
  SELECT s.* INTO STRICT w FROM hub.watched s WHERE s.id = watched_id;
  present_mode := hub.capture_mode(w.relation);
  -- The event triggers let the hub's own statements pass.
  PERFORM set_config('hub.mending', 'on', true);
  -- SECURITY DEFINER: a writer needs no right on hub.
  FOR t IN SELECT e.event, hub.capture_settings(w.relation, w.key_names, e.event, present_mode) AS settings FROM hub.capture_events() e(event) LOOP
    EXECUTE format('CREATE OR REPLACE FUNCTION %s() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER %s AS %L',
      hub.capture_function(w.id, t.event),
      (SELECT string_agg(format('SET %s = %s', split_part(s, '=', 1),
         -- A list is not quoted as a whole.
         CASE WHEN left(s, 12) = 'search_path=' THEN split_part(s, '=', 2) ELSE quote_literal(split_part(s, '=', 2)) END),
         ' ' ORDER BY n)
       FROM unnest(t.settings) WITH ORDINALITY u(s, n)),
      hub.capture_source(w.id, t.event, present_mode));
  END LOOP;

  FOR t IN SELECT m.relation, m.name FROM hub.misplaced_triggers(w.id) m WHERE NOT m.is_clone LOOP
    EXECUTE format('DROP TRIGGER %I ON %s', t.name, t.relation);
  END LOOP;
  -- A row trigger on a partitioned table is cloned to its partitions.
  row_is_new := EXISTS (SELECT FROM hub.trigger_states(w.id, present_mode) x
                        WHERE x.name = hub.trigger_name(w.id, 'row') AND (x.present IS NULL OR x.is_altered));
  FOR t IN SELECT x.*, CASE WHEN x.name = hub.trigger_name(w.id, 'row') THEN row_is_new ELSE x.present IS NULL OR x.is_altered END AS is_new
    FROM hub.trigger_states(w.id, present_mode) x ORDER BY x.depth
  LOOP
    IF t.is_new AND (t.name <> hub.trigger_name(w.id, 'row') OR t.depth = 0) THEN
      EXECUTE format('CREATE OR REPLACE TRIGGER %I %s ON %s %s FOR EACH %s EXECUTE FUNCTION %s()', t.name, t.event, t.relation,
        CASE WHEN t.old_table IS NOT NULL OR t.new_table IS NOT NULL THEN concat_ws(' ', 'REFERENCING',
          CASE WHEN t.old_table IS NOT NULL THEN 'OLD TABLE AS old_rows' END,
          CASE WHEN t.new_table IS NOT NULL THEN 'NEW TABLE AS new_rows' END) END,
        t.level, t.function);
    END IF;
    IF t.is_new OR t.state NOT IN (t.enabled, t.also) THEN
      EXECUTE format('ALTER TABLE ONLY %s ENABLE %s TRIGGER %I', t.relation,
        CASE t.enabled WHEN 'A' THEN 'ALWAYS' WHEN 'R' THEN 'REPLICA' ELSE '' END, t.name);
    END IF;
  END LOOP;
  PERFORM set_config('hub.mending', coalesce(mending, ''), true);
  -- Looked at, and sealed.
  DELETE FROM hub.truncated x USING hub.head h WHERE x.xid < pg_snapshot_xmin(h.snapshot);
  UPDATE hub.watched s SET mode = present_mode, structure = hub.structure(w.id, w.relation), shape = hub.capture_shape(s.id), made = hub.capture_digest(s.id)
    WHERE s.id = w.id;
END $$;
