-- Takes off what other tools have put on the hub's own tables (hub.strangers), and returns what. What is locked, or not the caller's
-- to change, is left for another time.
CREATE OR REPLACE FUNCTION hub.shield() RETURNS SETOF text LANGUAGE plpgsql
  SET search_path = pg_catalog, hub, pg_temp SET lock_timeout = '200ms' AS $$
DECLARE
  found record;
BEGIN
  FOR found IN SELECT s.* FROM hub.strangers() s LOOP
    BEGIN
      EXECUTE found.remedy;
      RETURN NEXT found.what;
    EXCEPTION WHEN lock_not_available OR deadlock_detected OR insufficient_privilege OR undefined_table OR undefined_object THEN
      NULL;
    END;
  END LOOP;
END $$;
