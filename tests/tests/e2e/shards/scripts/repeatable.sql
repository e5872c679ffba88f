-- sharded: visits id int8
DO $$ BEGIN CREATE TYPE visit_state AS ENUM ('open', 'shut'); EXCEPTION WHEN duplicate_object THEN null; END $$
DO $$ BEGIN CREATE TYPE visit_state AS ENUM ('open', 'shut'); EXCEPTION WHEN duplicate_object THEN null; END $$
DO $$ BEGIN CREATE TYPE visit_state AS ENUM ('open', 'shut'); END $$
CREATE TABLE visits (id int8 PRIMARY KEY, state visit_state, w int8)
INSERT INTO visits VALUES (1, 'open', 1), (2, 'shut', 1), (3, 'open', 1) RETURNING id
SELECT state, count(*) FROM visits GROUP BY state ORDER BY state
DO LANGUAGE plpgsql $body$ BEGIN ALTER TABLE visits ADD COLUMN extra int; EXCEPTION WHEN duplicate_column OR duplicate_object THEN RAISE NOTICE 'there'; END; $body$
DO LANGUAGE plpgsql $body$ BEGIN ALTER TABLE visits ADD COLUMN extra int; EXCEPTION WHEN duplicate_column OR duplicate_object THEN RAISE NOTICE 'there'; END; $body$
SELECT count(extra), count(*) FROM visits
DO $$ BEGIN ALTER TABLE visits ADD CONSTRAINT positive CHECK (w > 0); EXCEPTION WHEN duplicate_object THEN null; END $$
INSERT INTO visits VALUES (4, 'open', 0)
DO $$ BEGIN ALTER TABLE visits ADD CONSTRAINT small CHECK (id < 3); EXCEPTION WHEN duplicate_object THEN null; END $$
! DO $$ BEGIN ALTER TABLE visits ADD CONSTRAINT small CHECK (id < 3); EXCEPTION WHEN others THEN null; END $$
DO $$ BEGIN IF NOT EXISTS (SELECT 1 FROM pg_indexes WHERE indexname = 'by_w') THEN CREATE INDEX by_w ON visits (w); END IF; END $$
! DO $$ DECLARE r record; BEGIN FOR r IN SELECT id FROM visits LOOP UPDATE visits SET w = 2 WHERE id = r.id; END LOOP; END $$
SELECT conname FROM pg_constraint WHERE conrelid = 'visits'::regclass ORDER BY 1
DROP TABLE visits
DROP TYPE visit_state
