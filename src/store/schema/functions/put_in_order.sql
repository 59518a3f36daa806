-- Puts what came inside a statement's triggers, from `since` on, in order with what the statement itself did, from `first` on.
-- `disturbed`: the rows that are not as the statement left them. Values are compared as text: they are somebody else's, and nothing
-- may fail here.
CREATE OR REPLACE FUNCTION hub.put_in_order(captured_kind text, since bigint, first bigint, disturbed text[]) RETURNS void
  LANGUAGE plpgsql
  SET search_path = pg_catalog, hub, pg_temp SET enable_seqscan = off SET jit = off AS $$
BEGIN
  -- A row may also be as the statement left it, and have been otherwise meanwhile: to look for that too is cheap only while little
  -- was captured.
  IF disturbed IS NULL AND first - since > 1000 THEN RETURN; END IF;

  WITH own AS MATERIALIZED (
    SELECT c.resource_id, c.before::text, c.after::text, c.resource_id = ANY (disturbed) IS TRUE AS is_disturbed
    FROM hub.change c WHERE c.xid = pg_current_xact_id() AND c.seq >= first AND c.kind = captured_kind
  ), chained AS (
    SELECT c.resource_id, c.seq, c.before::text, c.after::text, row_number() OVER chain = 1 AS is_first, lag(c.after::text) OVER chain AS earlier,
           last_value(c.after::text) OVER (chain ROWS BETWEEN UNBOUNDED PRECEDING AND UNBOUNDED FOLLOWING) AS latest
    FROM hub.change c
    WHERE c.xid = pg_current_xact_id() AND c.seq >= since AND c.seq < first AND c.kind = captured_kind
      AND c.resource_id IN (SELECT own.resource_id FROM own)
    WINDOW chain AS (PARTITION BY c.resource_id ORDER BY c.seq)
  ), parts AS (
    -- Between two of them the chain is broken.
    SELECT n.*, count(*) FILTER (WHERE n.earlier IS DISTINCT FROM n.before) OVER (PARTITION BY n.resource_id ORDER BY n.seq) AS part FROM chained n
  ), nested AS MATERIALIZED (
    SELECT p.*, last_value(p.after) OVER (PARTITION BY p.resource_id, p.part ORDER BY p.seq ROWS BETWEEN UNBOUNDED PRECEDING AND UNBOUNDED FOLLOWING) AS part_end
    FROM parts p
  ), later AS (
    -- A row's changes are a chain, each beginning with what the one before left. Ours stands before one that begins with what ours left: where
    -- the chain is broken, if it is (by ours, or by one around us that is not captured yet), or where ours fits in, or at the beginning. A row
    -- that is as ours left it was changed after ours only if it came back to that.
    SELECT DISTINCT ON (n.resource_id) n.resource_id, n.seq, n.part, o.before AS begun_with
    FROM own o JOIN nested n USING (resource_id)
    WHERE n.before IS NOT DISTINCT FROM o.after
      AND (n.is_first OR n.earlier IS DISTINCT FROM n.before OR n.earlier IS NOT DISTINCT FROM o.before)
      AND (o.is_disturbed OR n.latest IS NOT DISTINCT FROM o.after AND n.latest IS DISTINCT FROM o.before)
    ORDER BY n.resource_id, n.is_first, n.earlier IS NOT DISTINCT FROM n.before, n.earlier IS DISTINCT FROM o.before, n.seq
  ), moved AS (
    -- A part that ends with what ours began with was captured late itself, and stands before ours.
    DELETE FROM hub.change c USING later l JOIN nested n USING (resource_id)
    WHERE c.xid = pg_current_xact_id() AND c.seq = n.seq AND n.seq >= l.seq
      AND NOT (n.part > l.part AND n.part_end IS NOT DISTINCT FROM l.begun_with)
    RETURNING c.*
  )
  INSERT INTO hub.change (kind, resource_id, type, after, before, captured_at, actor, origin, trace)
    SELECT m.kind, m.resource_id, m.type, m.after, m.before, m.captured_at, m.actor, m.origin, m.trace FROM moved m ORDER BY m.seq;
END $$;
