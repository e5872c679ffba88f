-- sharded: pots id int8
-- sharded: letters k text
-- sharded: lids id int8
CREATE TABLE pots (id int8 PRIMARY KEY, a int)
INSERT INTO pots SELECT i, i FROM generate_series(1,20) i
CREATE TABLE lids (id int8 PRIMARY KEY, no int)
INSERT INTO lids SELECT i, i FROM generate_series(1,10) i
CREATE TABLE hooks (x int, y text)
INSERT INTO hooks VALUES (20, 'twenty')
SELECT (SELECT sum(pots.a)) FROM pots
SELECT EXISTS (SELECT 1 WHERE max(pots.a) > 0) FROM pots
SELECT count(*) FROM (SELECT (SELECT max(pots.a)) FROM pots) q
SELECT (SELECT hooks.y FROM hooks WHERE hooks.x = max(pots.a)) FROM pots
SELECT ARRAY(SELECT max(pots.a)) FROM pots
SELECT 20 IN (SELECT max(pots.a)) FROM pots
SELECT (VALUES (max(pots.a))) FROM pots
SELECT (SELECT (SELECT min(pots.a))) FROM pots
SELECT (SELECT x FROM (SELECT sum(pots.a) AS x) q) FROM pots
SELECT (WITH q AS (SELECT max(pots.a) AS m) SELECT m FROM q) FROM pots
SELECT (SELECT max(pots.a) UNION SELECT max(pots.a)) FROM pots
SELECT (SELECT max(pots.a) FILTER (WHERE pots.a < 5)) FROM pots
SELECT (SELECT string_agg(pots.a::text, ',' ORDER BY pots.a)) FROM pots
SELECT (SELECT percentile_cont(0.5) WITHIN GROUP (ORDER BY pots.a)) FROM pots
SELECT sum(sum(pots.a)) OVER () FROM pots
SELECT (SELECT sum(pots.a)) FROM pots WHERE id IN (1,2,3)
SELECT (SELECT sum(a)) FROM pots
SELECT (SELECT count(pots)) FROM pots
SELECT (SELECT count(pots.*)) FROM pots
SELECT (SELECT sum(pots.a)) FROM pots JOIN lids USING (id)
SELECT (SELECT sum(pots.a + lids.no) FROM lids) FROM pots ORDER BY 1 LIMIT 2
SELECT (SELECT sum(lids.no) FROM lids WHERE lids.id = pots.id) FROM pots ORDER BY 1 LIMIT 2
CREATE VIEW pot_sums AS SELECT (SELECT sum(pots.a)) AS s FROM pots
SELECT * FROM pot_sums
INSERT INTO hooks SELECT y.s, 'z' FROM pot_sums y
UPDATE lids x SET no = no + 1 FROM pot_sums y WHERE x.no = y.s
SELECT pots.count FROM pots
SELECT x.count FROM (SELECT * FROM pots) x
SELECT (pots).count FROM pots
SELECT pots.count AS n FROM pots LIMIT 1
SELECT x.array_agg FROM (SELECT id, a FROM pots WHERE id < 3) x
CREATE VIEW all_pots AS SELECT id, a FROM pots
SELECT all_pots.count FROM all_pots
SELECT lids.count FROM pots JOIN lids USING (id)
SELECT (lids).count FROM pots LEFT JOIN lids USING (id)
SELECT (SELECT pots.count) FROM pots
SELECT q.count FROM (SELECT a % 3 AS m, count(*) FROM pots GROUP BY 1) q ORDER BY 1
CREATE TABLE letters (k text PRIMARY KEY, a int)
INSERT INTO letters SELECT 'k'||i, i FROM generate_series(1,20) i
CREATE FUNCTION same_letters(text, varchar) RETURNS bool LANGUAGE sql IMMUTABLE AS 'SELECT lower($1) OPERATOR(pg_catalog.=) lower($2::text)'
CREATE OPERATOR = (LEFTARG = text, RIGHTARG = varchar, FUNCTION = same_letters)
SELECT k FROM letters WHERE k = 'K2'::varchar
UPDATE letters SET a = 0 WHERE k = 'K5'::varchar
DELETE FROM letters WHERE k = 'K7'::varchar
SELECT k FROM letters WHERE k IN ('K2'::varchar)
SELECT count(*) FROM pots x JOIN lids y ON x.id = y.id
SELECT count(*) FROM pots WHERE id = 5
DROP OPERATOR = (text, varchar)
