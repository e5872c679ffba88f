-- Code of users that is not proven to leave nothing in the session that uses it: the `seeds`.
--
-- $1 is the schema of the router's own functions, $2 the extensions whose code is known, $3 the functions whose bodies
-- were read and may leave something. Run with search_path = pg_catalog, pg_temp, so that no operator or function of a user
-- is meant. Besides these functions, seeds are those in languages that are not read, and what calls a built-in function
-- that leaves something. What is to be known of them follows: whether there are any, or what reaches them (code.sql).
WITH RECURSIVE
stateful AS (SELECT p.oid FROM pg_catalog.pg_proc p WHERE p.oid < 16384 AND p.proname::text COLLATE "C" ~ '^(set_config|setseed|pg_replication_origin_session_setup|pg_(try_)?advisory_(lock|unlock).*|(query|cursor|table|schema|database)_to_xml.*|ts_stat|ts_rewrite|brin_summarize.*|(array|domain|multirange|range|record)_(in|recv)|pg_input_.*|pg_restore_attribute_stats|satisfies_hash_partition)$'),
marks AS (SELECT ':(funcid|opfuncid|aggfnoid|winfnoid) (' || pg_catalog.string_agg(oid::text, '|') || ')\M|:relid ' || 'pg_catalog.pg_settings'::pg_catalog.regclass::oid::text || '\M' AS mark FROM stateful),
texts AS (SELECT f.oid, f.lanname, pg_catalog.length(f.body) AS size,
    CASE WHEN pg_catalog.length(f.body) <= 32768 THEN pg_catalog.lower(pg_catalog.lower(f.body COLLATE "C") COLLATE "default") END AS body
  FROM (SELECT p.oid, CASE WHEN p.prosqlbody IS NULL THEN p.prosrc ELSE '' END AS body, l.lanname
    FROM pg_catalog.pg_proc p JOIN pg_catalog.pg_language l ON l.oid = p.prolang JOIN pg_catalog.pg_namespace n ON n.oid = p.pronamespace
    WHERE p.oid >= 16384 AND p.prokind <> 'a' AND n.nspname <> $1 AND NOT EXISTS (SELECT 1 FROM pg_catalog.pg_depend d
      JOIN pg_catalog.pg_extension x ON x.oid = d.refobjid
      WHERE d.classid = 'pg_catalog.pg_proc'::pg_catalog.regclass AND d.objid = p.oid AND d.deptype = 'e'
      AND d.refclassid = 'pg_catalog.pg_extension'::pg_catalog.regclass AND x.extname::text = ANY ($2))) f),
seeds AS (SELECT 'pg_catalog.pg_proc'::pg_catalog.regclass::oid AS class, oid AS id FROM texts
    WHERE (lanname NOT IN ('sql', 'plpgsql') AND NOT (lanname = 'internal' AND body ~ '^(range|multirange)_constructor[0-3]$')) OR size > 32768 OR oid::int8 = ANY ($3::int8[])
  UNION SELECT 'pg_catalog.pg_proc'::pg_catalog.regclass, oid FROM pg_catalog.pg_proc, marks WHERE oid >= 16384 AND (prosqlbody::text ~ mark OR proargdefaults::text ~ mark)
  UNION SELECT 'pg_catalog.pg_proc'::pg_catalog.regclass, oid FROM pg_catalog.pg_proc WHERE oid >= 16384
    AND (EXISTS (SELECT 1 FROM pg_catalog.unnest(proconfig) c WHERE c ~* '^seed=') OR proname = ANY (ARRAY['set_limit', 'isn_weak']))
  UNION SELECT 'pg_catalog.pg_attrdef'::pg_catalog.regclass, oid FROM pg_catalog.pg_attrdef, marks WHERE oid >= 16384 AND adbin::text ~ mark
  UNION SELECT 'pg_catalog.pg_constraint'::pg_catalog.regclass, oid FROM pg_catalog.pg_constraint, marks WHERE oid >= 16384 AND conbin::text ~ mark
  UNION SELECT 'pg_catalog.pg_rewrite'::pg_catalog.regclass, oid FROM pg_catalog.pg_rewrite, marks WHERE oid >= 16384 AND (ev_action::text ~ mark OR ev_qual::text ~ mark)
  UNION SELECT 'pg_catalog.pg_policy'::pg_catalog.regclass, oid FROM pg_catalog.pg_policy, marks WHERE polqual::text ~ mark OR polwithcheck::text ~ mark
  UNION SELECT 'pg_catalog.pg_trigger'::pg_catalog.regclass, oid FROM pg_catalog.pg_trigger, marks WHERE oid >= 16384 AND tgqual::text ~ mark
  UNION SELECT 'pg_catalog.pg_class'::pg_catalog.regclass, indexrelid FROM pg_catalog.pg_index, marks WHERE indexrelid >= 16384 AND (indexprs::text ~ mark OR indpred::text ~ mark)
  UNION SELECT 'pg_catalog.pg_type'::pg_catalog.regclass, oid FROM pg_catalog.pg_type, marks WHERE oid >= 16384 AND typdefaultbin::text ~ mark
  UNION SELECT 'pg_catalog.pg_operator'::pg_catalog.regclass, o.oid FROM pg_catalog.pg_operator o
    CROSS JOIN LATERAL (VALUES (o.oprcode::oid), (o.oprrest::oid), (o.oprjoin::oid)) f(id) JOIN stateful s ON s.oid = f.id
  UNION SELECT 'pg_catalog.pg_cast'::pg_catalog.regclass, c.oid FROM pg_catalog.pg_cast c JOIN stateful s ON c.castfunc = s.oid
  UNION SELECT 'pg_catalog.pg_proc'::pg_catalog.regclass, a.aggfnoid::oid FROM pg_catalog.pg_aggregate a JOIN stateful s ON s.oid = ANY (ARRAY[a.aggtransfn::oid, a.aggfinalfn::oid, a.aggcombinefn::oid, a.aggmtransfn::oid, a.aggminvtransfn::oid, a.aggmfinalfn::oid, a.aggserialfn::oid, a.aggdeserialfn::oid]) WHERE a.aggfnoid::oid >= 16384)
