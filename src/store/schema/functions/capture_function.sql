-- The name of a watched table's trigger function for an event.
CREATE OR REPLACE FUNCTION hub.capture_function(watched_id int, event text) RETURNS text LANGUAGE sql IMMUTABLE
  SET search_path = pg_catalog, hub, pg_temp AS $$
  SELECT format('hub.capture_%s_%s', watched_id, event)
$$;
