-- A shop, as such schemas usually are: customers, orders with lines that go with them, stock that triggers keep, a tree of categories, an
-- enum, domains, arrays, jsonb, a generated column, a view; and what its users do. Made for these tests.
CREATE TYPE order_state AS ENUM ('open', 'paid', 'sent', 'cancelled');
CREATE DOMAIN money_amount AS numeric(12, 2) CHECK (VALUE >= 0);

CREATE TABLE category (
  id     int GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  parent int REFERENCES category ON DELETE CASCADE,
  name   text NOT NULL
);
CREATE TABLE product (
  sku      varchar(20) PRIMARY KEY,
  category int REFERENCES category ON DELETE SET NULL,
  price    money_amount NOT NULL,
  tags     text[] NOT NULL DEFAULT '{}',
  details  jsonb,
  stock    int NOT NULL DEFAULT 100 CHECK (stock >= 0)
);
CREATE TABLE customer (
  id      uuid PRIMARY KEY DEFAULT gen_random_uuid(),
  email   text NOT NULL UNIQUE,
  born    date,
  since   timestamptz NOT NULL DEFAULT clock_timestamp(),
  balance float8 NOT NULL DEFAULT 0
);
CREATE TABLE "order" (
  id       bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  customer uuid NOT NULL REFERENCES customer ON DELETE CASCADE,
  state    order_state NOT NULL DEFAULT 'open',
  placed   timestamptz NOT NULL DEFAULT clock_timestamp(),
  note     json
);
CREATE TABLE order_line (
  "order"  bigint REFERENCES "order" ON DELETE CASCADE,
  line     smallint,
  sku      varchar(20) NOT NULL REFERENCES product ON UPDATE CASCADE ON DELETE CASCADE,
  quantity int NOT NULL CHECK (quantity > 0),
  price    money_amount NOT NULL,
  total    numeric GENERATED ALWAYS AS (quantity * price) STORED,
  PRIMARY KEY ("order", line)
);
CREATE VIEW open_order AS SELECT * FROM "order" WHERE state = 'open';

-- What a line takes from the stock, and gives back.
CREATE FUNCTION keep_stock() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  IF TG_OP IN ('UPDATE', 'DELETE') THEN UPDATE product SET stock = stock + OLD.quantity WHERE sku = OLD.sku; END IF;
  IF TG_OP IN ('UPDATE', 'INSERT') THEN UPDATE product SET stock = stock - NEW.quantity WHERE sku = NEW.sku; END IF;
  RETURN NULL;
END $$;
CREATE TRIGGER keep_stock AFTER INSERT OR UPDATE OR DELETE ON order_line FOR EACH ROW EXECUTE FUNCTION keep_stock();

CREATE SCHEMA sample;
-- What somebody does at a step: random, and the same each time.
CREATE FUNCTION sample.statement(step bigint, seed bigint) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
  dice int := abs(hashint8(seed * 1000003 + step)) % 100;
  n    int := abs(hashint8(seed * 7919 + step * 31)) % 50;
BEGIN
  RETURN CASE
    WHEN dice < 8 THEN format('INSERT INTO category (parent, name) SELECT (SELECT max(id) FROM category WHERE id %% 3 = 0), %L', 'c' || n)
    WHEN dice < 22 THEN format('INSERT INTO product (sku, category, price, tags, details) SELECT %L, (SELECT max(id) FROM category), %s, ARRAY[%L, NULL], %L
                                ON CONFLICT (sku) DO UPDATE SET price = excluded.price', 'p/' || n, n * 1.25, 't' || n, jsonb_build_object('n', n, 'deep', ARRAY[n]))
    WHEN dice < 34 THEN format('INSERT INTO customer (email, born) VALUES (%L, %L) ON CONFLICT DO NOTHING', n || '@example.com', CASE WHEN n % 5 = 0 THEN 'infinity' ELSE '1990-01-01' END)
    WHEN dice < 55 THEN format('WITH o AS (INSERT INTO "order" (customer, note) SELECT id, %L FROM customer ORDER BY email LIMIT 1 OFFSET %s RETURNING id)
                                INSERT INTO order_line ("order", line, sku, quantity, price) SELECT o.id, p.line, p.sku, 1 + %s %% 3, p.price
                                FROM o, (SELECT row_number() OVER (ORDER BY sku) AS line, * FROM product LIMIT 4) p', E'{"n" :\n ' || n || '}', n % 7, n)
    WHEN dice < 65 THEN format('UPDATE "order" SET state = %L WHERE id %% 10 = %s', (enum_range(NULL::order_state))[1 + n % 4], n % 10)
    WHEN dice < 73 THEN format('UPDATE order_line SET quantity = quantity + 1 WHERE "order" %% 11 = %s', n % 11)
    WHEN dice < 78 THEN format('UPDATE product SET sku = sku || ''%%'' WHERE sku = %L', 'p/' || n)
    WHEN dice < 84 THEN format('UPDATE customer SET balance = balance + 0.1, since = clock_timestamp() WHERE email = %L', n || '@example.com')
    WHEN dice < 89 THEN format('DELETE FROM "order" WHERE id %% 17 = %s', n % 17)
    WHEN dice < 93 THEN format('DELETE FROM customer WHERE email = %L', n || '@example.com')
    WHEN dice < 95 THEN format('DELETE FROM category WHERE name = %L', 'c' || n)
    WHEN dice < 98 THEN format('BEGIN; UPDATE open_order SET note = NULL WHERE id %% 5 = %s; UPDATE product SET price = price + 1 WHERE sku LIKE %L; %s', n % 5, '%' || n, CASE WHEN n % 2 = 0 THEN 'COMMIT' ELSE 'ROLLBACK' END)
    ELSE format('DELETE FROM product WHERE sku LIKE %L', 'p/' || n || '%')
  END;
END $$;
