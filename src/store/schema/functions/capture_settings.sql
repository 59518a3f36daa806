-- Settings of a watched table's trigger functions, as pg_proc has them. The functions qualify every name, and the types listed here
-- are written by Postgres' own code, so most tables need few: each costs every statement about 1 us of some 10. Only where a column's
-- type is somebody else's code does a fixed search_path keep a writer from lending it names, and only there may a session's output
-- formats change what is recorded. An instant is written in UTC, whoever writes it. Dates and times are always ISO in JSON, but not
-- in a key, whose text they are. TRUNCATE reads the table, so row security must not hide rows.
CREATE OR REPLACE FUNCTION hub.capture_settings(relation regclass, key_names text[], event text, mode text) RETURNS text[] LANGUAGE sql STABLE
  SET search_path = pg_catalog, hub, pg_temp AS $$
  SELECT CASE
    WHEN bool_or(a.atttypid <> ALL ('{text,varchar,bpchar,name,uuid,bool,int2,int4,int8,numeric,oid}'::regtype[])
      AND (a.attname = ANY (key_names)
           OR a.atttypid <> ALL ('{date,time,timestamp,timestamptz,json,jsonb,text[],int4[],int8[],uuid[]}'::regtype[])))
    THEN ARRAY['search_path=pg_catalog, pg_temp', 'row_security=off', 'TimeZone=UTC', 'DateStyle=ISO, YMD',
               'IntervalStyle=iso_8601', 'extra_float_digits=1', 'bytea_output=hex', 'lc_monetary=C', 'quote_all_identifiers=off']
    WHEN event = 'truncate' THEN ARRAY['search_path=pg_catalog, pg_temp', 'row_security=off', 'TimeZone=UTC']
    -- Otherwise the function's body sees to it.
    WHEN hub.writes_instants(relation) AND (event = 'row' OR mode <> 'statement') THEN ARRAY['TimeZone=UTC']
  END
  FROM pg_attribute a WHERE a.attrelid = relation AND a.attnum > 0 AND NOT a.attisdropped
$$;
