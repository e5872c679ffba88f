-- sharded: parcels id int8
-- reference: depots
CREATE TABLE depots (id int PRIMARY KEY, city text)
CREATE TABLE parcels (id int8 PRIMARY KEY, label text)
INSERT INTO parcels SELECT g, 'p' || g FROM generate_series(1, 12) g
INSERT INTO depots VALUES (1, 'here'), (2, 'there')
ALTER TABLE parcels ADD COLUMN weight numeric(8,2) NOT NULL DEFAULT 0, ADD COLUMN tags text[] NOT NULL DEFAULT ARRAY[]::text[]
ALTER TABLE parcels ADD COLUMN info jsonb NOT NULL DEFAULT '{}'::jsonb
ALTER TABLE parcels ADD COLUMN word text DEFAULT 'now'
ALTER TABLE parcels ADD COLUMN seen timestamptz NOT NULL DEFAULT now()
ALTER TABLE parcels ADD COLUMN IF NOT EXISTS seen timestamptz NOT NULL DEFAULT now()
ALTER TABLE parcels ADD COLUMN seen timestamptz NOT NULL DEFAULT now()
SELECT count(DISTINCT seen), bool_and(seen <= now()), max(word), max(weight), max(info::text) FROM parcels
SELECT column_name, column_default FROM information_schema.columns WHERE table_name = 'parcels' ORDER BY ordinal_position
ALTER TABLE parcels ALTER COLUMN seen DROP NOT NULL, ADD COLUMN place int
ALTER TABLE parcels ADD CONSTRAINT light CHECK (weight < 100) NOT VALID
ALTER TABLE parcels VALIDATE CONSTRAINT light
ALTER TABLE parcels ADD CONSTRAINT heavy CHECK (weight > 0)
! ALTER TABLE parcels ADD COLUMN parent int8 REFERENCES parcels (id)
ALTER TABLE parcels RENAME COLUMN label TO title
ALTER TABLE parcels DROP COLUMN tags
CREATE INDEX CONCURRENTLY IF NOT EXISTS by_title ON parcels (title)
CREATE INDEX CONCURRENTLY IF NOT EXISTS by_title ON parcels (title)
SELECT title, place FROM parcels WHERE id < 4 ORDER BY id
CREATE TABLE drafts (id int, note text)
CREATE VIEW heavy_parcels AS SELECT id FROM parcels WHERE weight > 10
DROP TABLE parcels, depots, drafts, nowhere CASCADE
DROP TABLE parcels, depots, drafts CASCADE
DROP TABLE IF EXISTS parcels, depots, drafts CASCADE
