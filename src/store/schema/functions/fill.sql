-- A template with its places, `{name}`, filled. What is put in is not looked through again; a place that is not known stays.
CREATE OR REPLACE FUNCTION hub.fill(template text, places jsonb) RETURNS text LANGUAGE sql IMMUTABLE
  SET search_path = pg_catalog, hub, pg_temp AS $$
  SELECT string_agg(CASE WHEN m.part[1] ~ '^[{][a-z_]+[}]$' THEN coalesce(places ->> btrim(m.part[1], '{}'), m.part[1])
                         ELSE m.part[1] END, '' ORDER BY m.n)
  FROM regexp_matches(template, '[{][a-z_]+[}]|[^{]+|[{]', 'g') WITH ORDINALITY AS m(part, n)
$$;
