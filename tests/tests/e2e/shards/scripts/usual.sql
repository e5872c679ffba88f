-- sharded: people id int8
CREATE TABLE people (id bigserial PRIMARY KEY, mail text NOT NULL, name text, made timestamptz NOT NULL DEFAULT now())
CREATE TABLE orders (id bigserial PRIMARY KEY, person bigint NOT NULL, total numeric(10,2) NOT NULL DEFAULT 0, state text NOT NULL DEFAULT 'new')
INSERT INTO people (mail, name) VALUES ('a@x', 'A'), ('b@x', 'B'), ('c@x', 'C') RETURNING mail
INSERT INTO orders (person, total) SELECT 1, g FROM generate_series(1, 3) g
SELECT p.mail, count(o.id), coalesce(sum(o.total), 0) FROM people p LEFT JOIN orders o ON o.person = p.id AND p.mail = 'a@x' GROUP BY p.mail ORDER BY p.mail
SELECT mail, name FROM people WHERE mail = 'b@x' LIMIT 1
UPDATE orders SET total = (SELECT count(*) FROM people)
SELECT state, sum(total) FROM orders GROUP BY state
SELECT mail FROM people WHERE mail = 'c@x' FOR UPDATE
DELETE FROM people WHERE mail = 'a@x'
SELECT count(*) FROM people
DROP TABLE people, orders
CREATE TABLE people (id bigint NOT NULL, mail text)
CREATE SEQUENCE people_id_seq START WITH 1 INCREMENT BY 1 NO MINVALUE NO MAXVALUE CACHE 1
ALTER SEQUENCE people_id_seq OWNED BY people.id
ALTER TABLE ONLY people ALTER COLUMN id SET DEFAULT nextval('people_id_seq'::regclass)
ALTER TABLE ONLY people ADD CONSTRAINT people_pkey PRIMARY KEY (id)
CREATE TABLE notes (id int)
INSERT INTO people (id, mail) VALUES (1, 'a@x'), (2, 'b@x')
SELECT pg_catalog.setval('people_id_seq', 2, true)
INSERT INTO people (mail) VALUES ('c@x') RETURNING id > 2
INSERT INTO notes VALUES (1)
TRUNCATE TABLE notes, ONLY people RESTART IDENTITY CASCADE
SELECT (SELECT count(*) FROM notes), (SELECT count(*) FROM people)
DROP TABLE people, notes
