CREATE TABLE singles (id serial PRIMARY KEY, v text)
CREATE TABLE heaps (no serial, v text)
SELECT lastval()
SELECT currval('singles_id_seq')
INSERT INTO singles (v) VALUES ('a')
SELECT lastval()
SELECT currval('singles_id_seq')
SELECT currval(pg_get_serial_sequence('singles', 'id')) AS id
SELECT currval('heaps_no_seq')
INSERT INTO singles (v) VALUES ('b'), ('c')
SELECT lastval()
BEGIN
INSERT INTO singles (v) VALUES ('d')
SELECT lastval()
SELECT currval('singles_id_seq')
ROLLBACK
SELECT lastval()
BEGIN
INSERT INTO heaps (v) VALUES ('x')
SELECT currval('heaps_no_seq'::regclass)
INSERT INTO heaps (v) SELECT 'g' FROM generate_series(1, 5)
SELECT currval('heaps_no_seq')
COMMIT
SELECT currval('heaps_no_seq')
DISCARD SEQUENCES
SELECT lastval()
INSERT INTO heaps (v) VALUES ('z')
SELECT lastval(), currval('heaps_no_seq')
DISCARD ALL
SELECT lastval()
DROP TABLE singles, heaps
