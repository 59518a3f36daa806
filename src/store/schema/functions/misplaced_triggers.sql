-- Triggers of a watched table's capture that should not be where they are; a clone goes with the trigger of the table above.
CREATE OR REPLACE FUNCTION hub.misplaced_triggers(wanted_id int) RETURNS TABLE (relation regclass, name name, is_clone boolean)
  LANGUAGE sql STABLE
  SET search_path = pg_catalog, hub, pg_temp AS $$
  SELECT g.tgrelid, g.tgname, g.tgparentid <> 0
  FROM pg_trigger g
  WHERE (g.tgfoid IN (SELECT to_regproc(hub.capture_function(wanted_id, e.event))::oid FROM hub.capture_events() e(event))
         OR left(g.tgname, 6) = '!trex_'
            AND g.tgrelid IN (SELECT p.part FROM hub.watched w CROSS JOIN hub.parts(w.relation) p WHERE w.id = wanted_id))
    AND NOT EXISTS (SELECT FROM hub.wanted_triggers(wanted_id) t WHERE t.relation = g.tgrelid AND t.name = g.tgname)
$$;
