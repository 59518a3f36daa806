-- Tables that a change of `relation` reaches through cascading foreign keys.
CREATE OR REPLACE FUNCTION hub.cascades_to(relation regclass) RETURNS SETOF regclass LANGUAGE sql STABLE
  SET search_path = pg_catalog, hub, pg_temp AS $$
  WITH RECURSIVE reached(oid) AS (
      SELECT c.conrelid FROM pg_constraint c
      WHERE c.contype = 'f' AND c.confrelid = relation AND (c.confupdtype IN ('c', 'n', 'd') OR c.confdeltype IN ('c', 'n', 'd'))
    UNION
      SELECT c.conrelid FROM pg_constraint c JOIN reached r ON c.confrelid = r.oid
      WHERE c.contype = 'f' AND (c.confupdtype IN ('c', 'n', 'd') OR c.confdeltype IN ('c', 'n', 'd')))
  SELECT oid::regclass FROM reached
$$;
