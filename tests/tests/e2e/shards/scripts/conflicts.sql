-- sharded: members tenant int8
CREATE TABLE members (tenant int8, id int8, mail text, nick text, gone timestamptz, PRIMARY KEY (tenant, id))
CREATE UNIQUE INDEX members_nick ON members (tenant, nick)
CREATE UNIQUE INDEX members_mail ON members (tenant, lower(mail)) WHERE gone IS NULL
CREATE UNIQUE INDEX members_all ON members (tenant, coalesce(gone, 'infinity'), mail)
INSERT INTO members VALUES (1, 1, 'A@x', 'one'), (2, 1, 'a@x', 'one'), (3, 1, 'c@x', 'three')
INSERT INTO members VALUES (1, 2, 'a@X', 'two') ON CONFLICT (tenant, lower(mail)) WHERE gone IS NULL DO UPDATE SET nick = excluded.nick RETURNING *
INSERT INTO members VALUES (1, 3, 'a@x', 'free'), (2, 3, 'a@x', 'free'), (3, 3, 'new@x', 'free') ON CONFLICT (tenant, lower(mail)) WHERE gone IS NULL DO NOTHING
INSERT INTO members VALUES (2, 4, 'z@x', 'one') ON CONFLICT (tenant, nick) DO NOTHING
INSERT INTO members VALUES (2, 4, 'a@x', 'many') ON CONFLICT (tenant, coalesce(gone, 'infinity'), mail) DO UPDATE SET nick = members.nick || '+' RETURNING nick
INSERT INTO members VALUES (2, 5, 'A@x', 'again')
INSERT INTO members VALUES (1, 6, 'q@x', 'q') ON CONFLICT (tenant, upper(mail)) DO NOTHING
UPDATE members SET gone = '2024-01-01 00:00+00' WHERE tenant = 1 AND id = 1
INSERT INTO members VALUES (1, 7, 'a@x', 'seven') ON CONFLICT (tenant, lower(mail)) WHERE gone IS NULL DO UPDATE SET nick = 'never' WHERE members.nick <> excluded.nick RETURNING *
! INSERT INTO members VALUES (1, 8, 'a@x', 'eight') ON CONFLICT (lower(mail)) DO NOTHING
! INSERT INTO members VALUES (1, 8, 'a@x', 'eight') ON CONFLICT (tenant, nick) WHERE gone IS NULL DO UPDATE SET tenant = 4
SELECT * FROM members ORDER BY 1, 2
DROP TABLE members
