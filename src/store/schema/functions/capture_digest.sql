-- A digest of a watched table's capture functions as they are; NULL: there are none.
CREATE OR REPLACE FUNCTION hub.capture_digest(watched_id int) RETURNS text LANGUAGE sql STABLE
  SET search_path = pg_catalog, hub, pg_temp AS $$
  SELECT md5(string_agg(concat_ws('|', e.event, f.prosrc, f.prosecdef, f.proconfig::text), '' ORDER BY e.event))
  FROM hub.capture_events() e(event) JOIN pg_proc f ON f.oid = to_regproc(hub.capture_function(watched_id, e.event))
$$;
