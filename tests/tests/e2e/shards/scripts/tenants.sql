-- sharded: papers tenant int4
-- sharded: pages tenant uuid
CREATE TABLE papers (tenant int NOT NULL DEFAULT current_setting('app.tenant')::int, id int NOT NULL, body text, PRIMARY KEY (tenant, id))
CREATE TABLE pages (tenant uuid NOT NULL DEFAULT nullif(current_setting('app.owner', true), '')::uuid, id int NOT NULL, PRIMARY KEY (tenant, id))
INSERT INTO papers (id, body) VALUES (1, 'unset')
SET app.tenant = '3'
INSERT INTO papers (id, body) VALUES (1, 'a')
INSERT INTO papers (tenant, id, body) VALUES (DEFAULT, 2, 'b'), (4, 2, 'four')
INSERT INTO papers (tenant, id, body) VALUES (current_setting('app.tenant')::int, 3, 'c') RETURNING tenant
INSERT INTO papers (tenant, id, body) VALUES (current_setting('app.tenant'), 3, 'c')
SELECT * FROM papers WHERE tenant = (SELECT current_setting('app.tenant')::int) ORDER BY id
SELECT * FROM papers WHERE tenant = current_setting('app.tenant')::int ORDER BY id
BEGIN
SET LOCAL app.tenant = '5'
INSERT INTO papers (id, body) VALUES (1, 'local') RETURNING tenant
COMMIT
INSERT INTO papers (id, body) VALUES (9, 'after') RETURNING tenant
SET app.tenant = 'none'
INSERT INTO papers (id, body) VALUES (10, 'bad')
BEGIN
INSERT INTO papers (id, body) VALUES (10, 'bad')
SELECT 1
ROLLBACK
SET app.owner = 'A0EEBC99-9C0B-4EF8-BB6D-6BB9BD380A11'
INSERT INTO pages (id) VALUES (1), (2) RETURNING tenant, id
SELECT * FROM pages ORDER BY id
SELECT * FROM papers ORDER BY 1, 2
DROP TABLE papers, pages
