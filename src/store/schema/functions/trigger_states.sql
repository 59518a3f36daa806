-- The triggers that a watched table and its partitions must have in this mode, and what there is of each: `present` is NULL for one that
-- is missing.
CREATE OR REPLACE FUNCTION hub.trigger_states(wanted_id int, wanted_mode text)
  RETURNS TABLE (relation regclass, depth int, name text, function text, event text, level text, enabled "char", also "char",
    old_table text, new_table text, present oid, state "char", is_altered boolean)
  LANGUAGE sql STABLE
  SET search_path = pg_catalog, hub, pg_temp AS $$
  SELECT t.relation, t.depth, t.name, t.function, t.event, t.level, t.enabled, t.also, t.old_table, t.new_table, g.oid, g.tgenabled,
    (g.tgtype::int, g.tgoldtable::text, g.tgnewtable::text, g.tgfoid, g.tgqual IS NULL, g.tgattr::text)
      IS DISTINCT FROM (t.tgtype, t.old_table, t.new_table, to_regproc(t.function)::oid, true, '')
  FROM hub.wanted_triggers(wanted_id, wanted_mode) t LEFT JOIN pg_trigger g ON g.tgrelid = t.relation AND g.tgname = t.name
$$;
