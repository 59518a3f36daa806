-- Undoes a statement that would leave a row which its writer does not see.
CREATE OR REPLACE FUNCTION hub.refuse_unseen() RETURNS int LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, hub, pg_temp AS $$
BEGIN
  RAISE EXCEPTION 'the row would not be seen by who writes it' USING ERRCODE = 'TX003';
END $$;
