-- What is wrong with the capture of a kind, and whether the table that is captured still has the name under which it is to be
-- watched; no row: nothing.
CREATE OR REPLACE FUNCTION hub.capture_faults(wanted_kind text, wanted_table text DEFAULT NULL) RETURNS TABLE (fault text)
  LANGUAGE sql STABLE
  SET search_path = pg_catalog, hub, pg_temp SET quote_all_identifiers = off SET jit = off AS $$
  WITH w AS MATERIALIZED (SELECT s.* FROM hub.watched s JOIN pg_class c ON c.oid = s.relation WHERE s.kind = wanted_kind),
       found AS MATERIALIZED (SELECT t.* FROM w CROSS JOIN hub.trigger_states(w.id, hub.capture_mode(w.relation)) t)
  SELECT format('the table of kind %s was never watched, or is gone', wanted_kind) WHERE NOT EXISTS (SELECT FROM w)
  UNION ALL
  SELECT format('%s: trigger %s is missing', f.relation, f.name) FROM found f WHERE f.present IS NULL
  UNION ALL
  SELECT format('%s: trigger %s is altered', f.relation, f.name) FROM found f WHERE f.present IS NOT NULL AND f.is_altered
  UNION ALL
  SELECT format('%s: %s', f.relation, hub.trigger_fault(f.name, f.enabled, f.state))
    FROM found f WHERE f.present IS NOT NULL AND NOT f.is_altered AND f.state NOT IN (f.enabled, f.also)
  UNION ALL
  SELECT format('%s: trigger %s does not belong here', t.relation, t.name) FROM w CROSS JOIN hub.misplaced_triggers(w.id) t
  UNION ALL
  SELECT format('%s: is not permanent: a crash empties it without an event; ALTER TABLE %1$s SET LOGGED', p.part)
    FROM w CROSS JOIN hub.parts(w.relation) p JOIN pg_class c ON c.oid = p.part WHERE c.relpersistence <> 'p'
  UNION ALL
  SELECT format('%s: has no primary key', w.relation) FROM w WHERE hub.key_columns(w.relation) IS NULL
  UNION ALL
  SELECT format('%s: the capture function does not fit the table''s columns or primary key', w.relation)
    FROM w WHERE hub.key_columns(w.relation) IS NOT NULL
      AND (w.key_names, w.shape) IS DISTINCT FROM (hub.key_columns(w.relation), hub.capture_shape(w.id))
  UNION ALL
  SELECT format('%s: a capture function is missing or altered', w.relation)
    FROM w WHERE w.made IS DISTINCT FROM hub.capture_digest(w.id)
  UNION ALL
  SELECT format('%s: changes of this table are not captured, but those of %s', wanted_table, w.relation)
    FROM w WHERE wanted_table IS NOT NULL AND to_regclass(wanted_table) IS DISTINCT FROM w.relation
$$;
