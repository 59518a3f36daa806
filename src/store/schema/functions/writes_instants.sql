-- Has a table a column whose text depends on the session's time zone?
CREATE OR REPLACE FUNCTION hub.writes_instants(relation regclass) RETURNS boolean LANGUAGE sql STABLE
  SET search_path = pg_catalog, hub, pg_temp AS $$
  SELECT EXISTS (SELECT FROM pg_attribute a
                 WHERE a.attrelid = relation AND a.attnum > 0 AND NOT a.attisdropped AND a.atttypid = 'timestamptz'::regtype)
$$;
