-- A table and, if it is partitioned, its partitions; the table itself has depth 0.
CREATE OR REPLACE FUNCTION hub.parts(relation regclass) RETURNS TABLE (part regclass, depth int) LANGUAGE sql STABLE
  SET search_path = pg_catalog, hub, pg_temp AS $$
  SELECT relation, 0
  UNION
  SELECT relid, level FROM pg_partition_tree(relation)
$$;
