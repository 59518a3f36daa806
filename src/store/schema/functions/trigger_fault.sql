-- What a trigger of the capture that is in the wrong state means for its table.
CREATE OR REPLACE FUNCTION hub.trigger_fault(name text, wanted "char", enabled "char") RETURNS text LANGUAGE sql IMMUTABLE
  SET search_path = pg_catalog, hub, pg_temp AS $$
  SELECT format(CASE
      WHEN enabled = 'D' AND wanted = 'R' THEN 'trigger %s is disabled: changes that replication applies are not captured'
      WHEN enabled = 'D' THEN 'trigger %s is disabled: changes are not captured'
      WHEN enabled = 'R' THEN 'trigger %s fires only while replication applies changes: others are not captured'
      ELSE 'trigger %s does not fire while replication applies changes: those are not captured' END, name)
$$;
