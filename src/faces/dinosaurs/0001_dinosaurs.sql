-- IF NOT EXISTS: a table that is there and fits is taken as it is.
CREATE TABLE IF NOT EXISTS public.dinosaurs (
  -- A version 7 UUID: the first 48 bits are milliseconds, so ids sort by time.
  id text PRIMARY KEY DEFAULT encode(set_bit(set_bit(overlay(uuid_send(gen_random_uuid())
    PLACING substring(int8send((extract(epoch FROM clock_timestamp()) * 1000)::bigint) FROM 3) FROM 1 FOR 6), 52, 1), 53, 1), 'hex')::uuid::text,
  species text NOT NULL,
  created_at timestamptz NOT NULL DEFAULT now(),
  updated_at timestamptz NOT NULL DEFAULT now()
);

CREATE OR REPLACE FUNCTION public.dinosaurs_touch() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  NEW.updated_at := now();
  RETURN NEW;
END $$;
CREATE OR REPLACE TRIGGER touch BEFORE UPDATE ON public.dinosaurs FOR EACH ROW EXECUTE FUNCTION public.dinosaurs_touch();
