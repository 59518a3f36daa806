-- An expression, for the capture functions: does a hub listen and sleep? Each try and its release stand in one expression: a cancel
-- between two statements would leak a session lock. NOTIFY forbids PREPARE TRANSACTION: hubs poll a server that allows it. A full
-- queue fails the writer.
CREATE OR REPLACE FUNCTION hub.bell_expression() RETURNS text LANGUAGE sql IMMUTABLE
  SET search_path = pg_catalog, hub, pg_temp AS $$
  SELECT hub.fill($e$(CASE WHEN pg_catalog.pg_try_advisory_lock_shared({class}, 2)
           THEN pg_catalog.pg_advisory_unlock_shared({class}, 2) ELSE false END)
      AND NOT (CASE WHEN pg_catalog.pg_try_advisory_lock({class}, 3)
                    THEN pg_catalog.pg_advisory_unlock({class}, 3) ELSE false END)
      AND pg_catalog.current_setting('max_prepared_transactions') OPERATOR(pg_catalog.=) '0'
      AND pg_catalog.pg_notification_queue_usage() OPERATOR(pg_catalog.<=) 0.5$e$,
    jsonb_build_object('class', hub.lock_class()))
$$;
