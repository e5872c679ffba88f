# transactions
BEGIN
begin;
BEGIN WORK
Begin Transaction
BEGIN ISOLATION LEVEL SERIALIZABLE, READ ONLY, DEFERRABLE
begin transaction isolation level repeatable read read write not deferrable
BEGIN/* a */TRANSACTION/**/READ--x\nONLY
START TRANSACTION
start transaction isolation level read committed
START TRANSACTION ISOLATION LEVEL READ UNCOMMITTED , READ WRITE
BEGIN READ ONLY READ WRITE
COMMIT
END
end transaction
COMMIT WORK AND CHAIN
commit and no chain
END AND CHAIN
ROLLBACK
ABORT
abort work and chain
rollback transaction and no chain
ROLLBACK AND CHAIN
SAVEPOINT a
savepoint "A b"
SAVEPOINT U&"\0061b"
SAVEPOINT U&"!0061b" UESCAPE '!'
SAVEPOINT Savepoint
ROLLBACK TO a
rollback to savepoint A
ROLLBACK WORK TO SAVEPOINT "x""y"
rollback transaction to savepoint
RELEASE a
release savepoint sp_1
RELEASE SAVEPOINT
PREPARE TRANSACTION 'gid-1'
prepare transaction 'it''s'
COMMIT PREPARED 'gid-1'
rollback /**/ prepared $$gid$$
SET TRANSACTION ISOLATION LEVEL SERIALIZABLE
set transaction read only
SET LOCAL TRANSACTION READ WRITE
SET SESSION TRANSACTION READ ONLY
SET TRANSACTION SNAPSHOT '00000003-0000001B-1'
SET SESSION CHARACTERISTICS AS TRANSACTION READ ONLY, ISOLATION LEVEL REPEATABLE READ
SET CONSTRAINTS ALL DEFERRED
set constraints a, s.b immediate
# settings
SET a.b = 5
SET mothership.Max_Lag TO '10s'
set search_path to a, "B", public
SET search_path = ''
SET LOCAL search_path TO app
SET SESSION search_path = app, public
SET search_path = pg_temp, public
SET "Search_Path" = 'x'
SET TIME ZONE 'Europe/Berlin'
set time zone local
SET TIME ZONE DEFAULT
SET LOCAL TIME ZONE -7
SET TIME ZONE INTERVAL '-08:00' HOUR TO MINUTE
SET TimeZone TO UTC
SET NAMES 'latin1'
SET NAMES
SET NAMES DEFAULT
SET SCHEMA 'app'
SET LOCAL SCHEMA 'app'
SET SEED TO 0.5
SET XML OPTION DOCUMENT
set statement_timeout=0
SET statement_timeout = '5min';
SET statement_timeout TO DEFAULT
SET work_mem = DEFAULT
SET work_mem FROM CURRENT
SET SESSION work_mem TO '1MB'
SET DateStyle TO ISO, MDY
SET datestyle = 'ISO, DMY'
SET standard_conforming_strings = off
SET extra_float_digits = -15
SET geqo_threshold = +5
SET application_name TO E'it\\'s'
SET application_name = $$x$$
SET/**/application_name/**/=/**/'a;b'
set  LOCAL\n\tlock_timeout\n=\n'1s'
SET local = 1
SET session.x = 1
SET SESSION session.x = 1
SET ROLE admin
SET ROLE "Admin"
SET ROLE 'admin'
set role none
SET LOCAL ROLE app
SET SESSION ROLE app
SET role = 'x'
SET role TO none
SET role TO DEFAULT
SET SESSION AUTHORIZATION joe
SET SESSION AUTHORIZATION DEFAULT
SET LOCAL SESSION AUTHORIZATION 'joe'
SET SESSION SESSION AUTHORIZATION joe
SET session_authorization = joe
SET time = 1
SET transaction_read_only = on
SET default_transaction_isolation TO 'serializable'
RESET search_path
reset all
RESET ROLE
RESET SESSION AUTHORIZATION
RESET TIME ZONE
RESET TRANSACTION ISOLATION LEVEL
RESET a.B
SHOW ALL
show search_path
SHOW TIME ZONE
SHOW SESSION AUTHORIZATION
SHOW TRANSACTION ISOLATION LEVEL
SHOW mothership.max_lag
SHOW "TimeZone"
DISCARD ALL
discard plans
DISCARD SEQUENCES
DISCARD TEMP
DISCARD TEMPORARY
SELECT set_config('search_path', '', false)
SELECT pg_catalog.set_config('search_path', '', false);
select SET_CONFIG('Role','x',TRUE) as y
select set_config($1, $2, true), set_config('a.b', $3::text, false) z
SELECT set_config('a.b', NULL, false)
SELECT set_config('search_path', 'pg_temp', false)
SELECT "set_config"(E'a\\x2eb', 'c'::text, false)
SELECT set_config('a', 'b', $1)
SELECT set_config('a', 'b', 1 = 1)
SELECT set_config('a' || 'b', 'c', false)
SELECT set_config('a', 'b', false) FROM t
SELECT set_config('a', 'b', false) WHERE false
SELECT 1, set_config('a', 'b', false)
INSERT INTO t SELECT set_config('a', 'b', false)
SELECT other.set_config('a', 'b', false)
SELECT current_setting('jit') AS cur, set_config('jit', 'off', false) AS new
SELECT set_config('jit', $1, false)
SELECT set_config('JIT', $1, false), set_config('search_path', $2, false)
SELECT set_config('jit' || $1, 'off', false)
SELECT "set_config"('search_path', $1, false), set_config('jit', 'off', false)
SELECT set_config('jit', 'off', false)
SELECT 'set_config(''a'', ''b'', false)'
# statements and cursors
PREPARE p AS SELECT 1
PREPARE p (int, text) AS SELECT pg_advisory_lock($1)
prepare "P 1"(numeric(10,2)) as insert into t values ($1)
PREPARE transaction AS SELECT 1
EXECUTE p
EXECUTE p (5, 'x)')
execute "P 1"(1)
DEALLOCATE p
DEALLOCATE PREPARE p
DEALLOCATE ALL
deallocate prepare all
DEALLOCATE prepare
DECLARE c CURSOR FOR SELECT 1
DECLARE c BINARY NO SCROLL CURSOR WITHOUT HOLD FOR SELECT a FROM t
declare "C" insensitive scroll cursor with hold for select * from t
DECLARE c CURSOR FOR SELECT * FROM t FOR UPDATE
DECLARE c CURSOR WITH HOLD FOR VALUES (1)
FETCH c
FETCH NEXT FROM c
FETCH 10 IN "C"
fetch forward all from c
FETCH BACKWARD 5 c
FETCH ABSOLUTE -1 FROM c
FETCH -1 c
FETCH ALL c
FETCH next
MOVE c
MOVE FORWARD 3 IN c
CLOSE c
CLOSE ALL
close "All"
# channels and locks
LISTEN a
listen "My Channel"
UNLISTEN a
UNLISTEN *
NOTIFY a
notify a, 'it''s; x'
NOTIFY a, U&'d!0061' UESCAPE '!'
SELECT pg_notify('a', 'b')
LOCK t
LOCK TABLE a, b IN SHARE MODE NOWAIT
SELECT pg_advisory_lock(1)
SELECT pg_try_advisory_lock(1, 2)
select pg_catalog . /* x */ pg_advisory_lock_shared ( 5 )
SELECT "pg_advisory_lock"(1)
SELECT U&"pg_advisory\005flock"(1)
SELECT PG_ADVISORY_UNLOCK(1)
SELECT pg_advisory_unlock_all()
SELECT pg_advisory_xact_lock(7)
SELECT pg_try_advisory_xact_lock_shared(7)
SELECT 'pg_advisory_lock(1)' -- pg_advisory_lock(1)
SELECT pg_advisory_lock FROM t
UPDATE t SET a = 1 WHERE pg_try_advisory_lock(id)
# what belongs to a backend
SELECT pg_backend_pid()
SELECT * FROM pg_stat_activity WHERE pid = pg_backend_pid()
SELECT currval('s')
SELECT lastval()
SELECT nextval('s')
SELECT setval('s', 5)
SELECT setseed(0.5)
SELECT random()
SELECT * FROM pg_prepared_statements
SELECT name FROM pg_prepared_statement()
SELECT name FROM pg_catalog.pg_cursors
SELECT pg_create_physical_replication_slot('s', true, true)
SELECT slot_name FROM pg_copy_logical_replication_slot('a', 'b', true)
SELECT pg_drop_replication_slot('s')
SELECT pg_my_temp_schema()
LOAD 'auto_explain'
SELECT pg_replication_origin_session_setup('x')
SELECT pg_export_snapshot()
SELECT dblink_connect('x', 'y')
SELECT public.dblink('x', 'delete from t')
SELECT query_to_xml('delete from t', true, true, '')
# temporary objects
CREATE TEMP TABLE t (a int)
CREATE TEMPORARY TABLE t AS SELECT 1
create local temp table t (a int) on commit drop
CREATE GLOBAL TEMPORARY TABLE t (a int)
CREATE TEMP VIEW v AS SELECT pg_backend_pid()
CREATE OR REPLACE TEMP VIEW v AS SELECT 1
CREATE TEMP RECURSIVE VIEW v (n) AS SELECT 1
CREATE TEMP SEQUENCE s
CREATE/**/TEMP/**/TABLE t (a int)
CREATE TABLE pg_temp.t (a int)
CREATE TABLE "pg_temp".t (a int)
CREATE FUNCTION pg_temp.f() RETURNS int LANGUAGE sql AS 'SELECT 1'
SELECT 1 AS a INTO TEMP t
SELECT 1 AS a INTO TEMPORARY TABLE t
select 1 as a into local temp t
SELECT 1 AS a INTO UNLOGGED t
SELECT 1 AS a INTO t
SELECT * FROM pg_temp.t
SELECT * FROM pg_temp_3.t
SELECT 'pg_temp'
CREATE TABLE temp (a int)
CREATE TABLE temporary_things (a int)
# reads
SELECT 1
select
SELECT now()
(SELECT 1)
((SELECT a FROM t) UNION ALL (SELECT 2))
VALUES (1), (2)
TABLE t
table only t
WITH x AS (SELECT 1) SELECT * FROM x
WITH x AS (SELECT 1) (SELECT * FROM x)
(WITH x AS (SELECT 1) SELECT * FROM x)
with recursive x(n) as (select 1 union all select n + 1 from x where n < 5) table x
WITH x AS MATERIALIZED (SELECT 1), y AS NOT MATERIALIZED (SELECT 2) VALUES (3)
WITH insert AS (SELECT 1), delete AS (SELECT 2) SELECT 3
SELECT count(*) FILTER (WHERE a > 1) OVER (PARTITION BY b), lower(c), s.f(d) FROM t
SELECT coalesce(a, 0), a IN (1, 2), cast(a AS numeric(10, 2)), a::varchar(5) FROM t
SELECT left(a, 1), "Quoted F"(a), "lower"(a) FROM f(1) AS g(x), LATERAL h(x)
SELECT a FROM t AS x (a) WHERE EXISTS (SELECT 1)
SELECT 'for update', "for update", $$into$$, /* for update into */ 1 -- for share
SELECT t.update, t.delete AS insert FROM t
SELECT update FROM t
SELECT "insert" FROM "update"
SELECT extract(year FROM ts), substring(a FROM 1 FOR 2), overlay(a PLACING b FROM 1), position(a IN b) FROM t
SELECT a->'x'->>'y', a #>> '{b}', a @> b, a ? 'x' FROM t
SELECT * FROM t WHERE a = 'x' \n 'y; DELETE FROM t'
SELECT $1::int, $2
SELECT version(), pg_is_in_recovery(), inet_server_addr(), pg_last_wal_replay_lsn()
SELECT gen_random_uuid(), clock_timestamp()
SELECT pg_sleep(1)
SELECT txid_current()
SELECT pg_database_size('x')
SELECT * FROM generate_series(1, 3)
SELECT current_user, current_date, current_schema
SELECT 0x1F
SELECT 1_000
SELECT 1 FROM "select; into"
SELECT * FROM t TABLESAMPLE SYSTEM (10) REPEATABLE (1)
SELECT xmlelement(name a, xmlattributes(b AS c)), xmlforest(a) FROM t
SELECT a FROM t WHERE (a, b) OVERLAPS (c, d)
SELECT E'\\'; drop table t; --'
# locking and writing reads
SELECT * FROM t FOR UPDATE
select * from t for no key update of t nowait
SELECT * FROM t FOR SHARE SKIP LOCKED
SELECT * FROM t for/**/key/**/share
SELECT * FROM (SELECT * FROM t FOR UPDATE) x
WITH x AS (DELETE FROM t RETURNING *) SELECT * FROM x
WITH x AS (SELECT 1), y AS (INSERT INTO t VALUES (1) RETURNING a) SELECT * FROM y
with x as (with y as (select 1) update t set a = 2 returning a) select * from x
SELECT lo_unlink(5)
SELECT pg_terminate_backend(5)
SELECT pg_switch_wal()
# writes
INSERT INTO t VALUES (1, 'x')
insert into s.t (a, b) select c, d from u on conflict (a) do update set b = excluded.b returning *
INSERT INTO t DEFAULT VALUES
INSERT INTO temp (a) VALUES (1)
UPDATE t SET a = a + 1 WHERE id = 5
update only t set (a, b) = (1, 2) from u where t.id = u.id
DELETE FROM t WHERE CURRENT OF c
DELETE FROM t USING u WHERE t.id = u.id
MERGE INTO t USING u ON t.id = u.id WHEN MATCHED THEN UPDATE SET a = 1 WHEN NOT MATCHED THEN INSERT VALUES (u.id)
WITH x AS (SELECT 1) INSERT INTO t SELECT * FROM x
WITH x AS (SELECT 1) UPDATE t SET a = 1
WITH x AS (SELECT 1) DELETE FROM t
WITH x AS (SELECT 1 AS a) MERGE INTO t USING x ON true WHEN MATCHED THEN DO NOTHING
WITH RECURSIVE x(a) AS (SELECT 1 UNION ALL SELECT a FROM x) SEARCH DEPTH FIRST BY a SET o CYCLE a SET c USING p DELETE FROM t
TRUNCATE t
truncate table only a, b restart identity cascade
INSERT INTO t VALUES (nextval('s'), currval('s'))
# copy
COPY t FROM STDIN
copy t (a, b) from stdin with (format csv, header true)
COPY s."T" TO STDOUT
COPY (SELECT a FROM t WHERE b = ')') TO STDOUT WITH CSV HEADER
COPY (DELETE FROM t RETURNING a) TO STDOUT
COPY t FROM '/tmp/x'
COPY t TO PROGRAM 'gzip > /tmp/x'
COPY BINARY t FROM STDIN
COPY t FROM STDOUT
COPY t FROM STDIN DELIMITER ',' NULL ''
COPY t FROM STDIN (FORMAT binary) WHERE a > 5
COPY (SELECT set_config('a', 'b', false)) TO STDOUT
# explain
EXPLAIN SELECT 1
explain analyze delete from t
EXPLAIN ANALYSE VERBOSE SELECT 1
EXPLAIN VERBOSE UPDATE t SET a = 1
EXPLAIN (ANALYZE, BUFFERS) INSERT INTO t VALUES (1)
EXPLAIN (ANALYZE off, FORMAT json) DELETE FROM t
EXPLAIN (ANALYZE 'false') DELETE FROM t
EXPLAIN (ANALYZE 0, COSTS) DELETE FROM t
EXPLAIN (ANALYZE true) SELECT pg_advisory_lock(1)
EXPLAIN SELECT pg_advisory_lock(1)
EXPLAIN (SELECT 1)
EXPLAIN ((SELECT 1))
EXPLAIN EXECUTE p(5)
EXPLAIN ANALYZE EXECUTE p(5)
EXPLAIN CREATE TABLE x AS SELECT 1
EXPLAIN ANALYZE CREATE TEMP TABLE x AS SELECT 1
EXPLAIN (ROUTE) SELECT 1
explain ( route , verbose ) delete from t
# code
DO $$begin perform 1; end$$
DO LANGUAGE plpgsql 'begin end'
CALL p(1, 'x')
call s.p()
# definitions
CREATE TABLE t (a int PRIMARY KEY, b text DEFAULT 'x;y', CHECK (a > 0))
CREATE UNLOGGED TABLE t (a int)
create table if not exists s.t as select 1
CREATE TABLE t AS EXECUTE p(5)
CREATE TABLE t AS SELECT nextval('s')
CREATE TABLE t (a bigint DEFAULT nextval('s'))
CREATE UNIQUE INDEX i ON t (a)
CREATE INDEX CONCURRENTLY i ON t (lower(a))
DROP INDEX CONCURRENTLY i
REINDEX TABLE t
REINDEX (VERBOSE) DATABASE d
REINDEX INDEX CONCURRENTLY i
ALTER TABLE t ADD COLUMN a int DEFAULT f()
ALTER TABLE t DETACH PARTITION p CONCURRENTLY
ALTER TABLE t RENAME TO u
CREATE VIEW v AS SELECT pg_backend_pid()
CREATE MATERIALIZED VIEW v AS SELECT f()
REFRESH MATERIALIZED VIEW CONCURRENTLY v
CREATE FUNCTION f() RETURNS int LANGUAGE sql AS $$SELECT pg_advisory_lock(1)$$
CREATE OR REPLACE FUNCTION f() RETURNS int BEGIN ATOMIC SELECT pg_advisory_lock(1); SELECT 2; END
CREATE PROCEDURE p() LANGUAGE sql BEGIN ATOMIC INSERT INTO t VALUES (1); END
CREATE RULE r AS ON INSERT TO t DO ALSO (INSERT INTO u VALUES (1); DELETE FROM w)
CREATE TRIGGER g BEFORE INSERT ON t FOR EACH ROW EXECUTE FUNCTION pg_notify()
CREATE CONSTRAINT TRIGGER g AFTER INSERT ON t FOR EACH ROW EXECUTE FUNCTION f()
CREATE POLICY p ON t USING (a = current_setting('x.y'))
CREATE SCHEMA s
CREATE SCHEMA s CREATE TABLE t (a int)
CREATE EXTENSION IF NOT EXISTS hstore
CREATE TYPE m AS ENUM ('a', 'b')
ALTER TYPE m ADD VALUE 'c'
CREATE DOMAIN d AS int CHECK (VALUE > 0)
CREATE SEQUENCE s
CREATE DATABASE d
DROP DATABASE d
ALTER DATABASE d SET search_path = a
ALTER DATABASE d SET TABLESPACE s
CREATE ROLE r LOGIN PASSWORD 'x'
CREATE USER MAPPING FOR u SERVER s
ALTER ROLE r SET search_path = a
DROP OWNED BY r
REASSIGN OWNED BY a TO b
CREATE TABLESPACE s LOCATION '/x'
ALTER SYSTEM SET work_mem = '1MB'
CREATE PUBLICATION p FOR ALL TABLES
CREATE SUBSCRIPTION s CONNECTION 'x' PUBLICATION p
CREATE AGGREGATE a (int) (SFUNC = f, STYPE = int)
CREATE OPERATOR + (LEFTARG = int, RIGHTARG = int, FUNCTION = f)
CREATE FOREIGN TABLE t (a int) SERVER s
CREATE EVENT TRIGGER e ON ddl_command_end EXECUTE FUNCTION f()
IMPORT FOREIGN SCHEMA a FROM SERVER b INTO c
COMMENT ON TABLE t IS 'x'
SECURITY LABEL ON TABLE t IS 'x'
GRANT SELECT ON t TO r
GRANT SELECT (a), UPDATE ON TABLE t TO r
GRANT EXECUTE ON FUNCTION pg_advisory_lock(bigint) TO r
GRANT a TO b
GRANT ALL ON ALL TABLES IN SCHEMA s TO r
GRANT USAGE ON SCHEMA s TO r
REVOKE ALL ON DATABASE d FROM r
DROP TABLE IF EXISTS t CASCADE
DROP FUNCTION f(int)
ALTER DEFAULT PRIVILEGES GRANT SELECT ON TABLES TO r
# other
ANALYZE t
VACUUM
VACUUM (FULL, ANALYZE) t
CLUSTER
CLUSTER t USING i
CHECKPOINT
# empty, several, refused
 
;
-- nothing
/* nothing */ ;
; SELECT 1
SELECT 1; SELECT 2
BEGIN; COMMIT
! SELEC 1
! BEGIN x
! COMMIT x
! SAVEPOINT
! SAVEPOINT a b
! SET
! SET a
! SET a =
! SET a = {
! SET a = b c
! SET a = b,
! SET a = - b
! SET a = 1 2
! COPY binary FROM STDIN
! RESET
! SET TRANSACTION
! DISCARD x
! PREPARE p SELECT 1
! EXECUTE p(
! DECLARE c FOR SELECT 1
! FETCH
! COPY t
! COPY (SELECT 1) FROM STDIN
! EXPLAIN
! LISTEN 'x'
! SET a = 'open
! 'x'
! 5
UPDATE pg_settings SET setting = 'x' WHERE name = 'TimeZone'
update only pg_catalog."pg_settings" set setting = 'x'
UPDATE t SET a = 1 FROM pg_settings
UPDATE ONLY (pg_settings) SET setting = 'x'
WITH q AS (SELECT 1) UPDATE pg_settings SET setting = 'x'
EXPLAIN ANALYZE UPDATE ONLY (pg_catalog.pg_settings) SET setting = 'x'
SELECT setting FROM pg_settings WHERE name = 'x'
SELECT (7::bigint).pg_advisory_lock
SELECT x.pg_try_advisory_lock FROM generate_series(7::bigint, 7) x
SELECT (x)."ts_stat" FROM (SELECT 'select 1'::text AS x) q
SELECT (0.5::float8).setseed
SELECT ('s'::regclass).currval, (x).nextval
SELECT (-1).lo_creat
SELECT p.age, (p).version, p.name FROM p
SELECT set_config('seed', '0.5', true)
SELECT set_config($1, '0.5', true)
