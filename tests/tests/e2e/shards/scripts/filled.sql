-- sharded: marks tenant int8
-- sharded: numbered id int8
CREATE TABLE marks (tenant int8, id int8, n int DEFAULT 5, at date DEFAULT '2024-01-01', PRIMARY KEY (tenant, id))
CREATE TABLE numbered (id int8 PRIMARY KEY, a text, b int DEFAULT 3)
INSERT INTO marks SELECT g, g FROM generate_series(1, 6) g
INSERT INTO marks VALUES (7, 7), (8, 8)
INSERT INTO marks (tenant, id) SELECT tenant + 100, id FROM marks
INSERT INTO marks SELECT tenant + 200, id, n * 2 FROM marks WHERE tenant < 3
CREATE TABLE loose AS SELECT g AS tenant, g * 2 AS id FROM generate_series(50, 53) g
INSERT INTO marks SELECT * FROM loose
INSERT INTO marks TABLE loose ON CONFLICT DO NOTHING
INSERT INTO marks SELECT 9, 9, 9, '2025-01-01', 9
INSERT INTO numbered SELECT tenant, 'm' || id FROM marks
INSERT INTO numbered SELECT tenant + 1000 FROM marks RETURNING b
SELECT * FROM marks ORDER BY 1, 2
SELECT count(*), sum(b), count(a) FROM numbered
DROP TABLE marks, numbered, loose
