-- An expression for the resource id of a row called `alias`: the key's text; the parts of a composite key joined by '/',
-- with '%' and '/' inside a part written as %25 and %2F, so that no two keys give one id. It is never NULL: a column that identifies
-- rows today may allow NULL tomorrow, and its writers must not fail.
CREATE OR REPLACE FUNCTION hub.key_expression(key_names text[], alias text) RETURNS text LANGUAGE sql IMMUTABLE
  SET search_path = pg_catalog, hub, pg_temp AS $$
  SELECT format('coalesce(%s, '''')', CASE cardinality(key_names)
    WHEN 1 THEN format('%s.%I::pg_catalog.text', alias, key_names[1])
    ELSE (SELECT string_agg(format('pg_catalog.replace(pg_catalog.replace(%s.%I::pg_catalog.text, ''%%'', ''%%25''), ''/'', ''%%2F'')',
                                   alias, k), ' OPERATOR(pg_catalog.||) ''/'' OPERATOR(pg_catalog.||) ' ORDER BY n)
          FROM unnest(key_names) WITH ORDINALITY AS u(k, n))
  END)
$$;
