-- Triggers of a watched table's capture that should not be where they are; a clone goes with the trigger of the table above.
CREATE OR REPLACE FUNCTION hub.misplaced_triggers(wanted_id int) RETURNS TABLE (relation regclass, name name, is_clone boolean)
  LANGUAGE sql STABLE
  SET search_path = pg_catalog, hub, pg_temp AS $$
  WITH wanted AS MATERIALIZED (
         SELECT t.relation, t.name FROM hub.watched w CROSS JOIN hub.wanted_triggers(w.id, hub.capture_mode(w.relation)) t WHERE w.id = wanted_id),
       own AS MATERIALIZED (
         SELECT to_regproc(hub.capture_function(wanted_id, e.event))::oid AS oid FROM hub.capture_events() e(event)),
       -- A part may be watched by itself as well.
       others AS MATERIALIZED (
         SELECT to_regproc(hub.capture_function(o.id, e.event))::oid AS oid
         FROM hub.watched o CROSS JOIN hub.capture_events() e(event) WHERE o.id <> wanted_id)
  SELECT g.tgrelid, g.tgname, g.tgparentid <> 0
  FROM pg_trigger g
  WHERE (g.tgfoid IN (SELECT oid FROM own)
         OR left(g.tgname, 6) = '!trex_' AND g.tgrelid IN (SELECT w.relation FROM wanted w)
            AND NOT EXISTS (SELECT FROM others o WHERE o.oid = g.tgfoid))
    AND NOT EXISTS (SELECT FROM wanted w WHERE w.relation = g.tgrelid AND w.name = g.tgname)
$$;
