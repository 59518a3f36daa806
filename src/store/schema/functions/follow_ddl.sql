-- Makes the event triggers, where this role may and nobody has said `ALTER DATABASE ... SET hub.event_triggers = off`; else hubs find what
-- was altered when they look. Takes no lock when nothing is to be done. Returns whether they are there.
CREATE OR REPLACE FUNCTION hub.follow_ddl() RETURNS boolean LANGUAGE plpgsql
  SET search_path = pg_catalog, hub, pg_temp SET quote_all_identifiers = off SET lock_timeout = '200ms' AS $$
DECLARE
  wanted boolean := lower(coalesce(current_setting('hub.event_triggers', true), '')) NOT IN ('off', 'false', 'no', '0');
  present int;
BEGIN
  SELECT count(*) INTO present FROM pg_event_trigger e
    WHERE e.evtname IN ('trex_ddl_end', 'trex_sql_drop') AND e.evtfoid = to_regproc('hub.after_ddl') AND (NOT wanted OR e.evtenabled = 'A');
  IF present = (CASE WHEN wanted THEN 2 ELSE 0 END) THEN RETURN wanted; END IF;
  DROP EVENT TRIGGER IF EXISTS trex_ddl_end;
  DROP EVENT TRIGGER IF EXISTS trex_sql_drop;
  IF wanted THEN
    CREATE EVENT TRIGGER trex_ddl_end ON ddl_command_end
      WHEN TAG IN ('ALTER TABLE', 'CREATE TABLE', 'ALTER TYPE', 'CREATE TRIGGER', 'ALTER SCHEMA', 'COMMENT') EXECUTE FUNCTION hub.after_ddl();
    CREATE EVENT TRIGGER trex_sql_drop ON sql_drop
      WHEN TAG IN ('DROP TABLE', 'DROP SCHEMA', 'DROP OWNED', 'DROP TRIGGER') EXECUTE FUNCTION hub.after_ddl();
    -- Whatever session_replication_role the session has.
    ALTER EVENT TRIGGER trex_ddl_end ENABLE ALWAYS;
    ALTER EVENT TRIGGER trex_sql_drop ENABLE ALWAYS;
  END IF;
  RETURN wanted;
EXCEPTION WHEN insufficient_privilege OR lock_not_available OR deadlock_detected OR duplicate_object OR unique_violation THEN
  RETURN false;
END $$;
