-- The present names of these columns, in this order. Dropped ones are left out.
CREATE OR REPLACE FUNCTION hub.column_names(relation regclass, numbers int2[]) RETURNS text[] LANGUAGE sql STABLE
  SET search_path = pg_catalog, hub, pg_temp AS $$
  SELECT coalesce(array_agg(a.attname::text ORDER BY k.n), '{}')
  FROM unnest(numbers) WITH ORDINALITY AS k(number, n)
  JOIN pg_attribute a ON a.attrelid = relation AND a.attnum = k.number AND NOT a.attisdropped
$$;
