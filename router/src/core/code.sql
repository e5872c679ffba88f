-- Which names of a database have code behind them that is not proven to leave nothing in the session that uses it. It
-- stands behind seeds.sql, where these are found.
--
-- `tainted` is what reaches the seeds: by pg_depend, by what PostgreSQL does of itself (rules, triggers, defaults, checks,
-- indexes, cascades, partitions, negators, commutators), and by names in bodies. A body that PostgreSQL has parsed (BEGIN
-- ATOMIC) is not printed, which would wait for who has locked a table of it: pg_depend says all that it names.
-- PostgreSQL looks for functions of pg_temp by qualified names only: of those the schemas are the names.
, named AS (SELECT class, id, name, kind, pg_catalog.lower(pg_catalog.lower(name COLLATE "C") COLLATE "default") AS lower FROM (
  SELECT 'pg_catalog.pg_class'::pg_catalog.regclass::oid AS class, oid AS id, relname::text AS name, 'relation' AS kind FROM pg_catalog.pg_class WHERE oid >= 16384 AND relkind <> 't'
  UNION ALL SELECT 'pg_catalog.pg_proc'::pg_catalog.regclass, oid, proname::text, 'function' FROM pg_catalog.pg_proc WHERE oid >= 16384
  UNION ALL SELECT 'pg_catalog.pg_type'::pg_catalog.regclass, oid, typname::text, 'type' FROM pg_catalog.pg_type WHERE oid >= 16384
  UNION ALL SELECT 'pg_catalog.pg_operator'::pg_catalog.regclass, oid, oprname::text, 'operator' FROM pg_catalog.pg_operator WHERE oid >= 16384) n),
odd AS MATERIALIZED (SELECT class, id, pg_catalog.replace(lower, '"', '""') AS written, (pg_catalog.regexp_match(lower, '[\w$]+'))[1] AS first
  FROM named WHERE kind = 'operator' OR name !~ '^[\w$]+$'),
words AS MATERIALIZED (SELECT DISTINCT t.oid AS id, n.class, n.id AS of FROM texts t
  CROSS JOIN LATERAL pg_catalog.regexp_split_to_table(t.body, '[^\w$]+') w(word) JOIN named n ON n.lower = w.word
  WHERE EXISTS (SELECT 1 FROM seeds)
  UNION SELECT t.oid, n.class, n.id FROM texts t CROSS JOIN LATERAL pg_catalog.regexp_split_to_table(t.body, '[^\w$]+') w(word)
  JOIN named n ON pg_catalog.octet_length(w.word) > 63 AND pg_catalog.octet_length(n.name) >= 60 AND pg_catalog.starts_with(w.word, n.lower)
  WHERE EXISTS (SELECT 1 FROM seeds) AND EXISTS (SELECT 1 FROM named WHERE pg_catalog.octet_length(name) >= 60)
  UNION SELECT t.oid, o.class, o.id FROM texts t CROSS JOIN LATERAL pg_catalog.regexp_split_to_table(t.body, '[^\w$]+') w(word)
  JOIN odd o ON o.first = w.word AND pg_catalog.strpos(t.body, o.written) > 0
  WHERE EXISTS (SELECT 1 FROM seeds) AND EXISTS (SELECT 1 FROM odd)
  UNION SELECT t.oid, o.class, o.id FROM texts t JOIN odd o ON o.first IS NULL AND pg_catalog.strpos(t.body, o.written) > 0 WHERE EXISTS (SELECT 1 FROM seeds)),
edges AS MATERIALIZED (
  SELECT refclassid AS class, refobjid AS id, classid AS toclass, objid AS toid FROM pg_catalog.pg_depend
    WHERE EXISTS (SELECT 1 FROM seeds) AND objid >= 16384 AND deptype <> 'e' AND (refclassid <> 'pg_catalog.pg_class'::pg_catalog.regclass
    OR classid = ANY (ARRAY['pg_catalog.pg_rewrite', 'pg_catalog.pg_proc', 'pg_catalog.pg_policy']::pg_catalog.regclass[]::oid[]))
  UNION ALL SELECT 'pg_catalog.pg_rewrite'::pg_catalog.regclass, oid, 'pg_catalog.pg_class'::pg_catalog.regclass, ev_class FROM pg_catalog.pg_rewrite WHERE oid >= 16384
  UNION ALL SELECT 'pg_catalog.pg_trigger'::pg_catalog.regclass, oid, 'pg_catalog.pg_class'::pg_catalog.regclass, tgrelid FROM pg_catalog.pg_trigger
  UNION ALL SELECT 'pg_catalog.pg_policy'::pg_catalog.regclass, oid, 'pg_catalog.pg_class'::pg_catalog.regclass, polrelid FROM pg_catalog.pg_policy
  UNION ALL SELECT 'pg_catalog.pg_attrdef'::pg_catalog.regclass, oid, 'pg_catalog.pg_class'::pg_catalog.regclass, adrelid FROM pg_catalog.pg_attrdef
  UNION ALL SELECT 'pg_catalog.pg_constraint'::pg_catalog.regclass, oid, 'pg_catalog.pg_class'::pg_catalog.regclass, conrelid FROM pg_catalog.pg_constraint WHERE conrelid <> 0
  UNION ALL SELECT 'pg_catalog.pg_constraint'::pg_catalog.regclass, oid, 'pg_catalog.pg_type'::pg_catalog.regclass, contypid FROM pg_catalog.pg_constraint WHERE contypid <> 0
  UNION ALL SELECT 'pg_catalog.pg_class'::pg_catalog.regclass, indexrelid, 'pg_catalog.pg_class'::pg_catalog.regclass, indrelid FROM pg_catalog.pg_index WHERE indexrelid >= 16384
  UNION ALL SELECT 'pg_catalog.pg_statistic_ext'::pg_catalog.regclass, oid, 'pg_catalog.pg_class'::pg_catalog.regclass, stxrelid FROM pg_catalog.pg_statistic_ext
  UNION ALL SELECT 'pg_catalog.pg_type'::pg_catalog.regclass, a.atttypid, 'pg_catalog.pg_type'::pg_catalog.regclass, c.reltype FROM pg_catalog.pg_attribute a JOIN pg_catalog.pg_class c ON c.oid = a.attrelid WHERE a.atttypid >= 16384 AND c.reltype <> 0
  UNION ALL SELECT 'pg_catalog.pg_class'::pg_catalog.regclass, conrelid, 'pg_catalog.pg_class'::pg_catalog.regclass, confrelid FROM pg_catalog.pg_constraint WHERE contype = 'f' AND (confdeltype IN ('c', 'n', 'd') OR confupdtype IN ('c', 'n', 'd')
    OR EXISTS (SELECT 1 FROM pg_catalog.pg_trigger WHERE tgtype & 32 <> 0))
  UNION ALL SELECT 'pg_catalog.pg_class'::pg_catalog.regclass, inhrelid, 'pg_catalog.pg_class'::pg_catalog.regclass, inhparent FROM pg_catalog.pg_inherits
  UNION ALL SELECT 'pg_catalog.pg_cast'::pg_catalog.regclass, oid, 'pg_catalog.pg_type'::pg_catalog.regclass, u.t FROM pg_catalog.pg_cast c CROSS JOIN LATERAL (VALUES (castsource), (casttarget)) u(t) WHERE oid >= 16384 AND u.t >= 16384
  UNION ALL SELECT 'pg_catalog.pg_amproc'::pg_catalog.regclass, a.oid, 'pg_catalog.pg_opclass'::pg_catalog.regclass, o.oid FROM pg_catalog.pg_amproc a JOIN pg_catalog.pg_opclass o ON o.opcfamily = a.amprocfamily WHERE a.oid >= 16384
  UNION ALL SELECT 'pg_catalog.pg_amop'::pg_catalog.regclass, a.oid, 'pg_catalog.pg_opclass'::pg_catalog.regclass, o.oid FROM pg_catalog.pg_amop a JOIN pg_catalog.pg_opclass o ON o.opcfamily = a.amopfamily WHERE a.oid >= 16384
  UNION ALL SELECT 'pg_catalog.pg_opclass'::pg_catalog.regclass, oid, 'pg_catalog.pg_type'::pg_catalog.regclass, opcintype FROM pg_catalog.pg_opclass WHERE oid >= 16384
  UNION ALL SELECT 'pg_catalog.pg_operator'::pg_catalog.regclass, oid, 'pg_catalog.pg_type'::pg_catalog.regclass, t.t FROM pg_catalog.pg_operator CROSS JOIN LATERAL (VALUES (oprleft), (oprright)) t(t) WHERE oid >= 16384 AND t.t >= 16384
  UNION ALL SELECT 'pg_catalog.pg_operator'::pg_catalog.regclass, u.o, 'pg_catalog.pg_operator'::pg_catalog.regclass, oid FROM pg_catalog.pg_operator CROSS JOIN LATERAL (VALUES (oprnegate), (oprcom)) u(o) WHERE u.o <> 0 AND (u.o >= 16384 OR oid >= 16384)
  UNION ALL SELECT class, of, 'pg_catalog.pg_proc'::pg_catalog.regclass, id FROM words),
temporary AS (SELECT p.oid, n.nspname::text AS schema FROM pg_catalog.pg_proc p JOIN pg_catalog.pg_namespace n ON n.oid = p.pronamespace
  WHERE p.oid >= 16384 AND n.nspname::text ~ '^pg_temp_'),
tainted AS (SELECT class, id FROM seeds UNION SELECT e.toclass, e.toid FROM tainted t JOIN edges e ON e.class = t.class AND e.id = t.id)
SELECT DISTINCT n.kind, n.name FROM tainted t JOIN named n ON n.class = t.class AND n.id = t.id
  WHERE n.class <> 'pg_catalog.pg_proc'::pg_catalog.regclass OR n.id NOT IN (SELECT oid FROM temporary)
UNION SELECT 'relation', w.word FROM tainted t JOIN temporary f ON t.class = 'pg_catalog.pg_proc'::pg_catalog.regclass AND f.oid = t.id
  CROSS JOIN LATERAL (VALUES ('pg_temp'), (f.schema)) w(word)
UNION SELECT 'unnamed', '' FROM tainted t WHERE t.class <> ALL (ARRAY['pg_class', 'pg_proc', 'pg_type', 'pg_operator', 'pg_rewrite', 'pg_trigger',
  'pg_policy', 'pg_attrdef', 'pg_constraint', 'pg_cast', 'pg_amproc', 'pg_amop', 'pg_statistic_ext', 'pg_event_trigger']::pg_catalog.regclass[]::oid[])
UNION SELECT 'operator', o.oprname::text FROM tainted t JOIN pg_catalog.pg_operator o ON t.class = 'pg_catalog.pg_operator'::pg_catalog.regclass AND o.oid = t.id WHERE o.oid < 16384
UNION SELECT 'definitions', '' FROM tainted t WHERE t.class = 'pg_catalog.pg_event_trigger'::pg_catalog.regclass
UNION SELECT 'all', '' FROM tainted t JOIN pg_catalog.pg_cast c ON t.class = 'pg_catalog.pg_cast'::pg_catalog.regclass AND c.oid = t.id WHERE c.castsource < 16384 AND c.casttarget < 16384
UNION SELECT 'all', '' FROM tainted t JOIN pg_catalog.pg_opclass o ON t.class = 'pg_catalog.pg_opclass'::pg_catalog.regclass AND o.oid = t.id WHERE o.opcdefault AND o.opcintype < 16384
UNION SELECT 'all', '' FROM tainted t JOIN pg_catalog.pg_operator o ON t.class = 'pg_catalog.pg_operator'::pg_catalog.regclass AND o.oid = t.id
  WHERE o.oprname::text = ANY (ARRAY['=', '<>', '<', '>', '<=', '>=', '~~', '!~~', '~~*', '!~~*', '~', '!~']) AND o.oprleft < 16384 AND o.oprright < 16384
