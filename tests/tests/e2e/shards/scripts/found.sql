-- sharded: signs id int8
-- sharded: markers id int8
CREATE TABLE signs (id int8 PRIMARY KEY, x int)
CREATE TABLE markers (id int8 PRIMARY KEY, k int8, rel regclass)
INSERT INTO signs SELECT g, g FROM generate_series(1, 12) g
INSERT INTO markers VALUES (1, 2, 'pg_class')
INSERT INTO markers VALUES (2, 3, 0)
INSERT INTO markers VALUES (3, 4, 999999)
INSERT INTO markers VALUES (4, 5, NULL)
SELECT m.rel, s.id FROM markers m JOIN signs s ON s.id = m.k ORDER BY 2
SELECT s.id, m.rel::text FROM markers m JOIN signs s ON s.id = m.k ORDER BY m.rel::text, 1
SET client_min_messages = error
BEGIN
BEGIN
COMMIT
COMMIT
RESET client_min_messages
BEGIN
BEGIN
ROLLBACK
ROLLBACK
DROP TABLE signs, markers
