-- The attribute numbers of these columns.
CREATE OR REPLACE FUNCTION hub.column_numbers(relation regclass, names text[]) RETURNS int2[] LANGUAGE sql STABLE
  SET search_path = pg_catalog, hub, pg_temp AS $$
  SELECT coalesce(array_agg(a.attnum ORDER BY a.attnum), '{}')
  FROM pg_attribute a WHERE a.attrelid = relation AND a.attname = ANY (names) AND a.attnum > 0 AND NOT a.attisdropped
$$;
