-- An expression for a row as JSON. `whole`: the row; `alias`: what its columns are reached by; `columns`: those that are written,
-- NULL: all. Only rows that may be large are looked at closely.
CREATE OR REPLACE FUNCTION hub.row_expression(whole text, alias text, columns text[]) RETURNS text LANGUAGE sql IMMUTABLE
  SET search_path = pg_catalog, hub, pg_temp AS $$
  SELECT format('CASE WHEN pg_catalog.pg_column_size(%1$s) OPERATOR(pg_catalog.<=) 16384 THEN pg_catalog.to_json(%1$s) ELSE hub.large_row(%1$s) END',
    CASE WHEN columns IS NULL THEN whole
      ELSE format('(SELECT x FROM (SELECT %s) x)', (SELECT string_agg(format('%s.%I', alias, c), ', ' ORDER BY n)
                                                    FROM unnest(columns) WITH ORDINALITY u(c, n))) END)
$$;
