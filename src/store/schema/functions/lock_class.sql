-- The class of the advisory locks that serve as flags, because they are seen at once and not through a snapshot; 'trex' in ASCII.
--   1 seal     one hub seals at a time (transaction lock; session lock for an exact initial state)
--   2 busy     exclusive: a hub is sealing at short intervals and needs no bell
--   3 present  shared: a hub listens
--   4 migrate
--   5 compact
CREATE OR REPLACE FUNCTION hub.lock_class() RETURNS int LANGUAGE sql IMMUTABLE
  SET search_path = pg_catalog, hub, pg_temp AS $$
  SELECT LOCK_CLASS
$$;
