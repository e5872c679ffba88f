-- sharded: crates id int8
-- sharded: events id int8
CREATE TYPE size AS ENUM ('s', 'm')
CREATE TABLE crates (id int8 PRIMARY KEY, size size, "concurrently" int)
CREATE TABLE shelves (x int)
INSERT INTO crates (id, size) SELECT g, 's' FROM generate_series(1, 12) g
INSERT INTO shelves VALUES (1), (15), (25)
CREATE FUNCTION few_shelves(int8) RETURNS bigint LANGUAGE plpgsql IMMUTABLE AS $$ BEGIN RETURN (SELECT count(*) FROM shelves) + $1; END $$
! SELECT max(few_shelves(id)) FROM crates
SELECT few_shelves(1)
BEGIN
ALTER TYPE size ADD VALUE 'l'
COMMIT
UPDATE crates SET size = 'l'
BEGIN
ALTER TYPE size ADD VALUE 'xl'
UPDATE crates SET size = 'xl'
ROLLBACK
ALTER TYPE size ADD VALUE IF NOT EXISTS 'l'
ALTER TYPE size ADD VALUE 'l'
BEGIN
ALTER TABLE crates ALTER "concurrently" SET DEFAULT 3
CREATE INDEX crates_concurrently ON crates ("concurrently")
COMMIT
INSERT INTO crates (id) SELECT g FROM generate_series(13, 20) g
SELECT count(*), sum("concurrently") FROM crates
CREATE DOMAIN few AS int
ALTER TABLE crates ADD COLUMN few few
UPDATE crates SET few = CASE id WHEN 2 THEN 99 ELSE 1 END
ALTER DOMAIN few ADD CONSTRAINT few_enough CHECK (VALUE < 50)
UPDATE crates SET few = 98 WHERE id = 5
BEGIN
ALTER DOMAIN few ADD CHECK (VALUE > 0) NOT VALID
COMMIT
UPDATE crates SET few = 0 WHERE id < 4
DO $$ BEGIN ALTER TYPE size ADD VALUE IF NOT EXISTS 'xxl'; END $$
UPDATE crates SET size = 'xxl' WHERE id < 4
DO $$ BEGIN IF NOT EXISTS (SELECT FROM pg_extension WHERE extname = 'pgcrypto') THEN CREATE EXTENSION pgcrypto; END IF; END $$
SELECT count(digest(id::text, 'sha1')) FROM crates
! DO $$ BEGIN DROP TYPE size CASCADE; END $$
! DO $$ BEGIN GRANT SELECT ON ALL TABLES IN SCHEMA public TO PUBLIC; END $$
DO $$ BEGIN CREATE TEMP TABLE passing (a int); DROP TABLE passing; END $$
CREATE FUNCTION tidy() RETURNS void LANGUAGE sql AS 'DROP SCHEMA IF EXISTS nowhere CASCADE'
! SELECT tidy()
CREATE FUNCTION many() RETURNS bigint LANGUAGE sql AS 'SELECT count(*) FROM crates'
CREATE FUNCTION more(n bigint DEFAULT many()) RETURNS bigint LANGUAGE sql AS 'SELECT n'
! SELECT more()
! SELECT count(*) FROM crates WHERE id < more()
! ALTER TABLE shelves ADD COLUMN y bigint DEFAULT many()
! ALTER TABLE shelves ALTER COLUMN x TYPE bigint USING many() + x
! ALTER TABLE shelves ADD CHECK (many() > 10)
! ALTER TABLE crates ADD CHECK (many() > 10)
ALTER TABLE crates ADD CHECK (id < 1000)
! CREATE POLICY looks ON shelves USING (x < many())
CREATE FUNCTION bound() RETURNS bigint LANGUAGE sql AS 'SELECT 20::bigint'
ALTER TABLE shelves ENABLE ROW LEVEL SECURITY
CREATE POLICY looks ON shelves USING (x < bound())
SELECT * FROM shelves ORDER BY x
CREATE OR REPLACE FUNCTION bound() RETURNS bigint LANGUAGE sql AS 'SELECT count(*) FROM crates'
! SELECT * FROM shelves ORDER BY x
! DELETE FROM shelves
CREATE FUNCTION sure(int8) RETURNS bigint LANGUAGE sql IMMUTABLE AS 'SELECT count(*) + $1 FROM crates'
CREATE TABLE counted (id int, g bigint GENERATED ALWAYS AS (sure(id)) STORED)
! INSERT INTO counted VALUES (1)
! CREATE FUNCTION watch() RETURNS event_trigger LANGUAGE plpgsql AS $$ BEGIN PERFORM count(*) FROM crates; END $$
CREATE TABLE events (id int8 PRIMARY KEY, seen timestamptz NOT NULL DEFAULT now())
INSERT INTO events (id) VALUES (1), (2), (3), (4), (5), (6), (7), (8), (9)
CREATE VIEW seen_events AS SELECT id, seen FROM events
CREATE VIEW later_events AS SELECT id FROM seen_events WHERE id > 4
SELECT count(*), bool_and(seen <= now()) FROM seen_events
SELECT count(*) FROM later_events
CREATE VIEW new_events AS SELECT id FROM events WHERE seen <= now()
SELECT count(*) FROM new_events
