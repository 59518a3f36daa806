-- Numbers everything that finished since the last seal. READ COMMITTED only: an older snapshot would number twice.
-- Nothing may be published before the commit of this transaction is acknowledged.
-- `upto`: the snapshot of another transaction, taken since this session holds the seal lock; what that one sees is then exactly the
-- state at the revision returned.
CREATE OR REPLACE FUNCTION hub.seal(IN upto pg_snapshot DEFAULT NULL, OUT revision bigint, OUT events bigint, OUT transactions bigint, OUT epoch text) LANGUAGE plpgsql
  SET search_path = pg_catalog, hub, pg_temp
  SET enable_seqscan = off SET jit = off SET max_parallel_workers_per_gather = 0 SET plan_cache_mode = force_generic_plan
  SET enable_nestloop = on SET enable_indexscan = on SET enable_indexonlyscan = on AS $$
DECLARE
  prev  hub.head;
  cur   pg_snapshot;
  fault text;
BEGIN
  IF current_setting('transaction_isolation') <> 'read committed' THEN
    RAISE EXCEPTION 'hub.seal() needs READ COMMITTED';
  END IF;
  PERFORM set_config('synchronous_commit', 'on', true);
  PERFORM pg_advisory_xact_lock(hub.lock_class(), 1);
  cur := coalesce(upto, pg_current_snapshot());
  -- After the snapshot: what it sees must have been looked at.
  fault := hub.history_fault(false);
  IF fault IS NOT NULL THEN RAISE EXCEPTION USING ERRCODE = 'TX001', MESSAGE = fault; END IF;
  SELECT * INTO STRICT prev FROM hub.head;
  SELECT i.epoch INTO STRICT epoch FROM hub.incarnation i;
  IF pg_snapshot_xmax(cur) < pg_snapshot_xmax(prev.snapshot) THEN RAISE EXCEPTION 'this snapshot is older than the last seal'; END IF;
  IF EXISTS (SELECT FROM hub.truncated) THEN PERFORM hub.truncated_unseen(prev.snapshot, cur); END IF;
  -- Transactions by their last change: whoever captured after another's commit comes after it.
  INSERT INTO hub.log (revision, xid, events)
    SELECT prev.revision + (sum(n) OVER (ORDER BY last_seq))::bigint, xid, n
    FROM hub.finished_between(prev.snapshot, cur) f
    -- Index ranges through LATERAL: as OR or ANY the plan became a scan of hub.change. No transaction is in two of them, so each is
    -- grouped by itself, in the order of the index.
    CROSS JOIN LATERAL (SELECT c.xid, count(*) AS n, max(c.seq) AS last_seq FROM hub.change c
                        WHERE c.xid >= f.lo AND c.xid < f.hi GROUP BY c.xid OFFSET 0) finished;
  GET DIAGNOSTICS transactions = ROW_COUNT;
  IF transactions = 0 THEN
    revision := prev.revision;
  ELSE
    SELECT max(l.revision) INTO revision FROM hub.log l;
    UPDATE hub.head h SET revision = seal.revision, snapshot = cur;
    PERFORM pg_notify('hub_sealed', revision::text);
  END IF;
  events := revision - prev.revision;
END $$;
