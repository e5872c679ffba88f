-- Bodies of functions that have a word by which they may leave something in a session. Where all together are longer than
-- 4 MiB, the last ones come without their text, and of two owners the one who has more is the last. $1 and $2 as for the names. Letters are those of ASCII, as keywords and
-- unquoted names are read: in a Turkish database the small form of I is another one.
SELECT o.oid::int8, o.is_sql, CASE WHEN pg_catalog.sum(pg_catalog.length(o.body)) OVER (ORDER BY o.of_owner, o.oid) <= 4194304 THEN o.body END FROM (
SELECT b.*, pg_catalog.sum(pg_catalog.length(b.body)) OVER (PARTITION BY b.proowner ORDER BY b.oid) AS of_owner FROM (
  SELECT p.oid, p.proowner, p.prosrc AS body, l.lanname = 'sql' AS is_sql
  FROM pg_catalog.pg_proc p JOIN pg_catalog.pg_language l ON l.oid = p.prolang JOIN pg_catalog.pg_namespace n ON n.oid = p.pronamespace
  WHERE p.oid >= 16384 AND p.prokind <> 'a' AND p.prosqlbody IS NULL AND l.lanname IN ('sql', 'plpgsql') AND n.nspname <> $1
  AND NOT EXISTS (SELECT 1 FROM pg_catalog.pg_depend d JOIN pg_catalog.pg_extension x ON x.oid = d.refobjid
    WHERE d.classid = 'pg_catalog.pg_proc'::pg_catalog.regclass AND d.objid = p.oid AND d.deptype = 'e'
    AND d.refclassid = 'pg_catalog.pg_extension'::pg_catalog.regclass AND x.extname::text = ANY ($2))) b
WHERE pg_catalog.length(b.body) <= 32768
AND b.body COLLATE "C" ~* '\m(set|reset|deallocate|discard|listen|load|prepare|execute|hold|temp|temporary|create|into|analy[sz]e|cluster|reindex|pg_temp\w*|brin_summarize\w*|(array|domain|multirange|range|record)_(in|recv)|pg_input_\w+|pg_restore_attribute_stats|satisfies_hash_partition|set_config|setseed|pg_replication_origin_session_setup|pg_settings|pg_(try_)?advisory_(lock|unlock)\w*|\w+_to_xml\w*|ts_stat|ts_rewrite|dblink\w*|crosstab\w*|connectby)\M|u&["'']') o
