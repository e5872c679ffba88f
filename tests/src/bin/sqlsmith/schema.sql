-- Tables and views for statements of sqlsmith: what one database holds. The words behind "--@" declare a table.
CREATE TYPE mood AS ENUM ('sad', 'fine', 'glad');
--@ sharded customer id
CREATE TABLE customer (id int8 PRIMARY KEY, name text NOT NULL, mood mood, credit numeric(12,2), since date, region int4);
--@ sharded purchase customer
CREATE TABLE purchase (customer int8, id int8, placed timestamptz, total numeric(12,2), note varchar(40), tags int4[], paid bool, PRIMARY KEY (customer, id));
--@ sharded item code
CREATE TABLE item (code text PRIMARY KEY, price float8, weight real, stock int4, details jsonb, made timestamp);
--@ reference region
CREATE TABLE region (id int4 PRIMARY KEY, label text COLLATE "C", tax numeric(5,3), opens time);
CREATE TABLE staff (id int4 PRIMARY KEY, boss int4, region int4, pay int8, born date, span interval);
CREATE VIEW spending AS SELECT c.id, c.name, p.total, p.placed FROM customer c JOIN purchase p ON p.customer = c.id;
CREATE VIEW wares AS SELECT p.customer, i.code, i.price FROM purchase p JOIN item i ON i.stock = p.id;
CREATE VIEW regional AS SELECT r.label, count(*) AS customers, sum(c.credit) AS credit FROM region r LEFT JOIN customer c ON c.region = r.id GROUP BY r.label;
CREATE VIEW served AS SELECT s.id AS staff, c.id AS customer FROM staff s, customer c WHERE s.region = c.region;
CREATE VIEW big AS SELECT * FROM spending WHERE total > 50;
CREATE VIEW nested AS SELECT b.id, w.code FROM big b LEFT JOIN wares w ON w.customer = b.id;
