CREATE OR REPLACE FUNCTION hub.new_epoch() RETURNS text LANGUAGE sql
  SET search_path = pg_catalog, hub, pg_temp AS $$
  SELECT replace(gen_random_uuid()::text, '-', '')
$$;
