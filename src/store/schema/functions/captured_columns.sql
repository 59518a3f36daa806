-- The columns whose values are captured; NULL: all.
CREATE OR REPLACE FUNCTION hub.captured_columns(watched_id int) RETURNS text[] LANGUAGE sql STABLE
  SET search_path = pg_catalog, hub, pg_temp AS $$
  SELECT NULL::text[]
$$;
