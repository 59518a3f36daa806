CREATE OR REPLACE FUNCTION hub.timeline() RETURNS text LANGUAGE sql
  SET search_path = pg_catalog, hub, pg_temp AS $$
  -- Not from the control file, which lags after a promotion.
  SELECT substr(pg_walfile_name(pg_current_wal_insert_lsn()), 1, 8)
$$;
