-- The primary key's columns, in order.
CREATE OR REPLACE FUNCTION hub.key_columns(relation regclass) RETURNS text[] LANGUAGE sql STABLE
  SET search_path = pg_catalog, hub, pg_temp AS $$
  SELECT array_agg(a.attname::text ORDER BY k.position)
  FROM pg_index i
  CROSS JOIN unnest(i.indkey::int2[]) WITH ORDINALITY AS k(attnum, position)
  JOIN pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = k.attnum
  WHERE i.indrelid = relation AND i.indisprimary AND k.position <= i.indnkeyatts
$$;
