-- Why the rows of a table may be others than its events say, now that its structure is another; NULL: they are not. A table without a
-- row in its files has none that could have changed.
CREATE OR REPLACE FUNCTION hub.rows_differ(before jsonb, now jsonb) RETURNS text LANGUAGE sql STABLE
  SET search_path = pg_catalog, hub, pg_temp SET quote_all_identifiers = off SET jit = off AS $$
  WITH same AS MATERIALIZED (
    SELECT b.key, b.value <> n.value AS is_rewritten FROM jsonb_each(before -> 'parts') b JOIN jsonb_each(now -> 'parts') n USING (key)),
  columns AS MATERIALIZED (
    SELECT n.value ->> 'name' AS name, b.key IS NULL AS is_new, (n.value ->> 'filled')::boolean AS is_filled,
           n.value -> 'made' <> b.value -> 'made' AS is_altered,
           n.value -> 'type' <> b.value -> 'type'
             AND NOT ((n.value ->> 'type')::oid IN (25, 1043) AND (b.value ->> 'type')::oid IN (25, 1043)) AS has_other_type
    FROM jsonb_each(now -> 'columns') n LEFT JOIN jsonb_each(before -> 'columns') b USING (key))
  SELECT CASE
    WHEN before -> 'relation' IS DISTINCT FROM now -> 'relation' THEN 'another table has come in its place'
    WHEN EXISTS (SELECT FROM jsonb_object_keys(before -> 'parts') p
                 WHERE NOT now -> 'parts' ? p AND coalesce(pg_relation_size(p::oid), 1) > 0) THEN 'a partition went'
    WHEN EXISTS (SELECT FROM jsonb_object_keys(now -> 'parts') p
                 WHERE NOT before -> 'parts' ? p AND pg_relation_size(p::oid) > 0) THEN 'a partition came with rows'
    WHEN NOT EXISTS (SELECT FROM jsonb_object_keys(now -> 'parts') p WHERE pg_relation_size(p::oid) > 0) THEN NULL
    ELSE coalesce(
      (SELECT format('column %I came with values', c.name) FROM columns c
       WHERE c.is_new AND (c.is_filled OR EXISTS (SELECT FROM same s WHERE s.is_rewritten)) LIMIT 1),
      (SELECT format('column %I has another type', c.name) FROM columns c WHERE c.has_other_type LIMIT 1),
      (SELECT format('column %I was written anew', c.name) FROM columns c
       WHERE c.is_altered AND EXISTS (SELECT FROM same s WHERE s.is_rewritten) LIMIT 1),
      (SELECT 'a type is written in another way' FROM jsonb_each(before -> 'types') b JOIN jsonb_each(now -> 'types') n USING (key)
       WHERE b.value <> n.value LIMIT 1))
  END
$$;
