CREATE TABLE orders (id serial PRIMARY KEY, item text NOT NULL);
CREATE UNLOGGED TABLE counters (name text PRIMARY KEY, value integer NOT NULL);
CREATE SEQUENCE numbers;
INSERT INTO counters VALUES ('orders', 0);
