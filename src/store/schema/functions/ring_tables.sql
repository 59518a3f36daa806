-- Has all hubs look at the tables. NOTIFY forbids PREPARE TRANSACTION, and a full queue fails whoever commits: then they look by themselves.
CREATE OR REPLACE FUNCTION hub.ring_tables() RETURNS void LANGUAGE plpgsql
  SET search_path = pg_catalog, hub, pg_temp AS $$
BEGIN
  IF current_setting('max_prepared_transactions') = '0' AND pg_notification_queue_usage() <= 0.5 THEN
    PERFORM pg_notify('hub_tables', ''), pg_notify('hub_doorbell', '');
  END IF;
END $$;
