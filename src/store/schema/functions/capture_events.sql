-- A trigger function for each: one that had to ask which event it is would cost more, for plpgsql prepares each expression anew in
-- each transaction.
CREATE OR REPLACE FUNCTION hub.capture_events() RETURNS SETOF text LANGUAGE sql IMMUTABLE
  SET search_path = pg_catalog, hub, pg_temp AS $$
  VALUES ('insert'), ('update'), ('delete'), ('truncate'), ('row')
$$;
