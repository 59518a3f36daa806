-- A large row as JSON; NULL if that is larger than the setting `hub.max_row_bytes` (32 MiB), or cannot be made at all: a value has
-- at most 1 GB, and a change holds two rows. Never an error, for it would be the writer's.
CREATE OR REPLACE FUNCTION hub.large_row(given anyelement) RETURNS json LANGUAGE plpgsql STABLE
  SET search_path = pg_catalog, hub, pg_temp AS $$
DECLARE
  said  pg_catalog.text := pg_catalog.current_setting('hub.max_row_bytes', true);
  bound pg_catalog.int8 := 33554432;
  made  pg_catalog.json;
BEGIN
  IF said OPERATOR(pg_catalog.~) '^[0-9]{1,8}$' THEN bound := said; END IF;
  -- No row is much smaller as JSON than as it is.
  IF pg_catalog.pg_column_size(given) OPERATOR(pg_catalog./) 8 OPERATOR(pg_catalog.>) bound THEN RETURN NULL; END IF;
  made := pg_catalog.to_json(given);
  RETURN CASE WHEN pg_catalog.octet_length(made::pg_catalog.text) OPERATOR(pg_catalog.<=) bound THEN made END;
EXCEPTION WHEN OTHERS THEN
  RETURN NULL;
END $$;
