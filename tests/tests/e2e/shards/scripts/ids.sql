CREATE TABLE users (id bigserial PRIMARY KEY, email text NOT NULL UNIQUE, name text, created_at timestamptz NOT NULL DEFAULT now())
CREATE TABLE purchases (id bigserial PRIMARY KEY, user_id bigint NOT NULL REFERENCES users (id) ON DELETE CASCADE, total numeric(10,2) NOT NULL DEFAULT 0)
CREATE TABLE lines (id bigserial PRIMARY KEY, purchase_id bigint NOT NULL REFERENCES purchases (id) ON DELETE CASCADE, sku text, qty int)
CREATE TABLE tags (id serial PRIMARY KEY, name text UNIQUE)
CREATE TABLE purchase_tags (purchase_id bigint REFERENCES purchases (id), tag_id int REFERENCES tags (id), PRIMARY KEY (purchase_id, tag_id))
CREATE TABLE logs (id bigint PRIMARY KEY, said text)
CREATE INDEX ON purchases (user_id)
INSERT INTO users (email, name) VALUES ('a@x', 'A'), ('b@x', 'B'), ('c@x', 'C') RETURNING id
INSERT INTO purchases (user_id, total) VALUES (1, 10), (1, 20), (2, 30) RETURNING id
INSERT INTO lines (purchase_id, sku, qty) VALUES (1, 's1', 1), (1, 's2', 2), (2, 's1', 3), (3, 's3', 4)
INSERT INTO tags (name) VALUES ('gift'), ('rush')
INSERT INTO purchase_tags VALUES (1, 1), (1, 2), (3, 1)
INSERT INTO logs SELECT g, 'said' FROM generate_series(1, 30) g
INSERT INTO users (email) VALUES ('a@x') ON CONFLICT (email) DO NOTHING
INSERT INTO users (email) VALUES ('a@x')
SELECT u.email, count(o.id), coalesce(sum(o.total), 0) FROM users u LEFT JOIN purchases o ON o.user_id = u.id GROUP BY u.id ORDER BY u.id
SELECT o.id, string_agg(t.name, ',' ORDER BY t.name) FROM purchases o JOIN purchase_tags ot ON ot.purchase_id = o.id JOIN tags t ON t.id = ot.tag_id GROUP BY o.id ORDER BY 1
SELECT u.id, l.said FROM users u JOIN logs l ON l.id = u.id * 9 ORDER BY u.id
UPDATE purchases SET total = (SELECT sum(qty) FROM lines i WHERE i.purchase_id = purchases.id)
SELECT id, total FROM purchases ORDER BY id
SELECT * FROM purchases WHERE id = 2 FOR UPDATE
DELETE FROM users WHERE id = 1
DELETE FROM users WHERE id = 2
DELETE FROM users WHERE id = 3
SELECT count(*) FROM lines
ALTER TABLE users ADD COLUMN nick text UNIQUE
CREATE UNIQUE INDEX ON purchases (user_id, total)
BEGIN
CREATE TABLE emails (id int PRIMARY KEY, email text UNIQUE)
INSERT INTO emails VALUES (1, 'a'), (2, 'b'), (3, 'c'), (4, 'd')
SELECT count(*) FROM emails
COMMIT
SELECT email FROM emails ORDER BY id
