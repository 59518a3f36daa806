-- An expression: have two rows the same resource id? By text: 1.0 and 1.00 are equal numbers and two resources.
CREATE OR REPLACE FUNCTION hub.same_key(key_names text[], a text, b text) RETURNS text LANGUAGE sql IMMUTABLE
  SET search_path = pg_catalog, hub, pg_temp AS $$
  SELECT string_agg(format('%2$s.%1$I::pg_catalog.text COLLATE pg_catalog."C" OPERATOR(pg_catalog.=) %3$s.%1$I::pg_catalog.text COLLATE pg_catalog."C"',
                           k, a, b), ' AND ')
  FROM unnest(key_names) k
$$;
