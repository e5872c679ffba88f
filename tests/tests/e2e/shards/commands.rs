//! Every command that makes, changes or removes an object of a database, as PostgreSQL lists them.
//!
//! `commands.sql` has a part for each. A statement is answered as by one PostgreSQL, or it is marked with `!` and
//! refused. After each, every object is on all shards or on the home shard alone, with one definition; and what was on
//! all shards is on all or on none.

use super::stage::{Stage, one, say};
use mothership_tests::{Shards, Wire};
use std::collections::{BTreeMap, BTreeSet};

const PARTS: &str = include_str!("commands.sql");

const DECLARED: &str = r#"
[[table]]
name = "log"
key = ["tenant_id"]
key_type = ["int8"]
[[table]]
name = "later"
key = ["id"]
key_type = ["int8"]
[[table]]
name = "app.orders"
key = ["id"]
key_type = ["int8"]
"#;

/// The commands of PostgreSQL 15 that concern objects of a database.
const COMMANDS: &str = "\
    ALTER AGGREGATE,ALTER COLLATION,ALTER CONVERSION,ALTER DEFAULT PRIVILEGES,ALTER DOMAIN,ALTER EVENT TRIGGER,\
    ALTER EXTENSION,ALTER FOREIGN DATA WRAPPER,ALTER FOREIGN TABLE,ALTER FUNCTION,ALTER INDEX,ALTER LANGUAGE,\
    ALTER LARGE OBJECT,ALTER MATERIALIZED VIEW,ALTER OPERATOR,ALTER OPERATOR CLASS,ALTER OPERATOR FAMILY,ALTER POLICY,\
    ALTER PROCEDURE,ALTER PUBLICATION,ALTER ROUTINE,ALTER RULE,ALTER SCHEMA,ALTER SEQUENCE,ALTER SERVER,\
    ALTER STATISTICS,ALTER SUBSCRIPTION,ALTER TABLE,ALTER TEXT SEARCH CONFIGURATION,ALTER TEXT SEARCH DICTIONARY,\
    ALTER TEXT SEARCH PARSER,ALTER TEXT SEARCH TEMPLATE,ALTER TRIGGER,ALTER TYPE,ALTER USER MAPPING,ALTER VIEW,ANALYZE,\
    CLUSTER,COMMENT,CREATE ACCESS METHOD,CREATE AGGREGATE,CREATE CAST,CREATE COLLATION,CREATE CONVERSION,CREATE DOMAIN,\
    CREATE EVENT TRIGGER,CREATE EXTENSION,CREATE FOREIGN DATA WRAPPER,CREATE FOREIGN TABLE,CREATE FUNCTION,CREATE INDEX,\
    CREATE LANGUAGE,CREATE MATERIALIZED VIEW,CREATE OPERATOR,CREATE OPERATOR CLASS,CREATE OPERATOR FAMILY,CREATE POLICY,\
    CREATE PROCEDURE,CREATE PUBLICATION,CREATE RULE,CREATE SCHEMA,CREATE SEQUENCE,CREATE SERVER,CREATE STATISTICS,\
    CREATE SUBSCRIPTION,CREATE TABLE,CREATE TABLE AS,CREATE TEXT SEARCH CONFIGURATION,CREATE TEXT SEARCH DICTIONARY,\
    CREATE TEXT SEARCH PARSER,CREATE TEXT SEARCH TEMPLATE,CREATE TRANSFORM,CREATE TRIGGER,CREATE TYPE,\
    CREATE USER MAPPING,CREATE VIEW,DROP ACCESS METHOD,DROP AGGREGATE,DROP CAST,DROP COLLATION,DROP CONVERSION,\
    DROP DOMAIN,DROP EVENT TRIGGER,DROP EXTENSION,DROP FOREIGN DATA WRAPPER,DROP FOREIGN TABLE,DROP FUNCTION,DROP INDEX,\
    DROP LANGUAGE,DROP MATERIALIZED VIEW,DROP OPERATOR,DROP OPERATOR CLASS,DROP OPERATOR FAMILY,DROP OWNED,DROP POLICY,\
    DROP PROCEDURE,DROP PUBLICATION,DROP ROUTINE,DROP RULE,DROP SCHEMA,DROP SEQUENCE,DROP SERVER,DROP STATISTICS,\
    DROP SUBSCRIPTION,DROP TABLE,DROP TEXT SEARCH CONFIGURATION,DROP TEXT SEARCH DICTIONARY,DROP TEXT SEARCH PARSER,\
    DROP TEXT SEARCH TEMPLATE,DROP TRANSFORM,DROP TRIGGER,DROP TYPE,DROP USER MAPPING,DROP VIEW,GRANT,\
    IMPORT FOREIGN SCHEMA,LOCK,REASSIGN OWNED,REFRESH MATERIALIZED VIEW,REINDEX,REVOKE,SECURITY LABEL,SELECT INTO,\
    TRUNCATE,VACUUM";

/// What is there, by name, and how it is defined.
const OBJECTS: &str = "WITH object (class, id, definition) AS ( \
    SELECT 'pg_class'::regclass, c.oid, concat_ws(' ', c.relkind, c.relpersistence, c.relowner::regrole, c.relacl, \
        c.reloptions, c.relreplident, c.relrowsecurity, c.relforcerowsecurity, pg_get_expr(c.relpartbound, c.oid), \
        (SELECT string_agg(i.inhparent::regclass::text, ',') FROM pg_inherits i WHERE i.inhrelid = c.oid), \
        CASE WHEN c.relkind IN ('v', 'm') THEN pg_get_viewdef(c.oid) WHEN c.relkind = 'p' THEN pg_get_partkeydef(c.oid) \
            WHEN c.relkind IN ('i', 'I') THEN pg_get_indexdef(c.oid) END, \
        (SELECT concat_ws(' ', q.seqtypid::regtype, q.seqincrement, q.seqcycle) FROM pg_sequence q WHERE q.seqrelid = c.oid), \
        (SELECT concat_ws(' ', x.indisclustered, x.indisreplident, x.indisvalid) FROM pg_index x WHERE x.indexrelid = c.oid), \
        (SELECT string_agg(concat_ws(' ', a.attname, format_type(a.atttypid, a.atttypmod), a.attnotnull, a.attidentity, \
            a.attstattarget, a.attstorage, a.attcompression, a.attoptions, a.attacl, col_description(c.oid, a.attnum), \
            pg_get_expr(d.adbin, d.adrelid)), ', ' ORDER BY a.attnum) FROM pg_attribute a \
            LEFT JOIN pg_attrdef d ON d.adrelid = a.attrelid AND d.adnum = a.attnum \
            WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped)) FROM pg_class c WHERE c.relkind <> 't' AND c.oid >= 16384 \
    UNION ALL SELECT 'pg_constraint'::regclass, k.oid, concat_ws(' ', pg_get_constraintdef(k.oid), k.convalidated) FROM pg_constraint k WHERE k.oid >= 16384 \
    UNION ALL SELECT 'pg_trigger'::regclass, t.oid, concat_ws(' ', pg_get_triggerdef(t.oid), t.tgenabled) FROM pg_trigger t WHERE NOT t.tgisinternal \
    UNION ALL SELECT 'pg_rewrite'::regclass, r.oid, pg_get_ruledef(r.oid) FROM pg_rewrite r WHERE r.oid >= 16384 \
    UNION ALL SELECT 'pg_policy'::regclass, p.oid, concat_ws(' ', pg_get_expr(p.polqual, p.polrelid), pg_get_expr(p.polwithcheck, p.polrelid)) FROM pg_policy p \
    UNION ALL SELECT 'pg_proc'::regclass, p.oid, concat_ws(' ', p.proowner::regrole, p.proacl, CASE WHEN p.prokind <> 'a' THEN pg_get_functiondef(p.oid) END) FROM pg_proc p WHERE p.oid >= 16384 \
    UNION ALL SELECT 'pg_type'::regclass, t.oid, concat_ws(' ', t.typtype, t.typowner::regrole, t.typacl, t.typdefault, \
        (SELECT string_agg(e.enumlabel, ',' ORDER BY e.enumsortorder) FROM pg_enum e WHERE e.enumtypid = t.oid)) FROM pg_type t WHERE t.oid >= 16384 \
    UNION ALL SELECT 'pg_namespace'::regclass, n.oid, concat_ws(' ', n.nspowner::regrole, n.nspacl) FROM pg_namespace n WHERE n.nspname !~ '^pg_' \
    UNION ALL SELECT 'pg_statistic_ext'::regclass, s.oid, concat_ws(' ', s.stxstattarget, pg_get_statisticsobjdef(s.oid)) FROM pg_statistic_ext s \
    UNION ALL SELECT 'pg_operator'::regclass, o.oid, concat_ws(' ', o.oprowner::regrole, o.oprcode) FROM pg_operator o WHERE o.oid >= 16384 \
    UNION ALL SELECT 'pg_opclass'::regclass, o.oid, o.opcowner::regrole::text FROM pg_opclass o WHERE o.oid >= 16384 \
    UNION ALL SELECT 'pg_opfamily'::regclass, o.oid, o.opfowner::regrole::text FROM pg_opfamily o WHERE o.oid >= 16384 \
    UNION ALL SELECT 'pg_cast'::regclass, k.oid, k.castfunc::regprocedure::text FROM pg_cast k WHERE k.oid >= 16384 \
    UNION ALL SELECT 'pg_transform'::regclass, t.oid, '' FROM pg_transform t \
    UNION ALL SELECT 'pg_collation'::regclass, l.oid, l.collcollate FROM pg_collation l WHERE l.oid >= 16384 \
    UNION ALL SELECT 'pg_conversion'::regclass, v.oid, v.conproc::text FROM pg_conversion v WHERE v.oid >= 16384 \
    UNION ALL SELECT 'pg_ts_config'::regclass, f.oid, (SELECT string_agg(m.maptokentype || ' ' || m.mapdict::regdictionary, ',' \
        ORDER BY m.maptokentype, m.mapseqno) FROM pg_ts_config_map m WHERE m.mapcfg = f.oid) FROM pg_ts_config f \
    UNION ALL SELECT 'pg_ts_dict'::regclass, d.oid, d.dictinitoption FROM pg_ts_dict d \
    UNION ALL SELECT 'pg_ts_parser'::regclass, r.oid, r.prstoken::text FROM pg_ts_parser r \
    UNION ALL SELECT 'pg_ts_template'::regclass, m.oid, m.tmpllexize::text FROM pg_ts_template m \
    UNION ALL SELECT 'pg_am'::regclass, m.oid, m.amhandler::text FROM pg_am m \
    UNION ALL SELECT 'pg_language'::regclass, l.oid, l.lanowner::regrole::text FROM pg_language l \
    UNION ALL SELECT 'pg_foreign_data_wrapper'::regclass, w.oid, w.fdwoptions::text FROM pg_foreign_data_wrapper w \
    UNION ALL SELECT 'pg_foreign_server'::regclass, s.oid, s.srvoptions::text FROM pg_foreign_server s \
    UNION ALL SELECT 'pg_user_mapping'::regclass, u.umid, u.umoptions::text FROM pg_user_mappings u \
    UNION ALL SELECT 'pg_extension'::regclass, x.oid, x.extversion FROM pg_extension x \
    UNION ALL SELECT 'pg_event_trigger'::regclass, e.oid, concat_ws(' ', e.evtevent, e.evtenabled) FROM pg_event_trigger e \
    UNION ALL SELECT 'pg_publication'::regclass, p.oid, concat_ws(' ', p.pubowner::regrole, p.puballtables, p.pubinsert, p.pubupdate, \
        (SELECT string_agg(r.prrelid::regclass::text, ',') FROM pg_publication_rel r WHERE r.prpubid = p.oid AND r.prrelid::regclass::text <> 'notes'), \
        (SELECT count(*) FROM pg_publication_namespace s WHERE s.pnpubid = p.oid)) FROM pg_publication p \
    UNION ALL SELECT 'pg_default_acl'::regclass, a.oid, a.defaclacl::text FROM pg_default_acl a \
    UNION ALL SELECT 'pg_largeobject'::regclass, l.oid, concat_ws(' ', l.lomowner::regrole, l.lomacl) FROM pg_largeobject_metadata l) \
    SELECT i.type || ' ' || i.identity, replace(concat_ws(' ', o.definition, obj_description(o.id, o.class::text), \
        (SELECT string_agg(concat(x.extname, ' ', d.deptype), ',') FROM pg_depend d JOIN pg_extension x ON x.oid = d.refobjid \
            WHERE d.refclassid = 'pg_extension'::regclass AND d.classid = o.class AND d.objid = o.id)), E'\\n', ' ') \
    FROM object o, pg_identify_object(o.class, o.id, 0) i \
    WHERE (o.id >= 16384 OR o.class = 'pg_largeobject'::regclass OR i.identity IN ('public', 'plpgsql')) AND i.schema IS DISTINCT FROM 'mothership' \
    AND i.identity !~ '^mothership|on mothership|pg_temp|pg_toast'";

/// Where each object is: its definition on each shard.
type Objects = BTreeMap<String, Vec<Option<String>>>;

fn objects(shards: &mut [Wire]) -> Objects {
    let mut found = Objects::new();
    let count = shards.len();
    for (shard, wire) in shards.iter_mut().enumerate() {
        for row in wire.rows(OBJECTS) {
            let on = found
                .entry(row[0].clone())
                .or_insert_with(|| vec![None; count]);
            on[shard] = Some(row[1].clone());
        }
    }
    found
}

/// What is wrong with where objects are.
fn torn(before: &Objects, after: &Objects) -> Vec<String> {
    let is_on_all = |on: &Vec<Option<String>>| on.iter().all(Option::is_some);
    let torn = after.iter().filter(|(name, on)| {
        let at_home = on[0].is_some() && on[1..].iter().all(Option::is_none);
        let alike = on.iter().all(|one| *one == on[0]);
        let was_on_all = before.get(*name).is_some_and(is_on_all);
        !(alike || at_home && !was_on_all)
    });
    torn.map(|(name, on)| format!("{name}: {on:#?}")).collect()
}

#[test]
#[ignore = "long"]
fn every_command_leaves_an_object_on_all_shards_or_on_none() {
    let stage = Stage::with(DECLARED);
    let plain = Shards::new(1);
    let mut direct = Wire::login(&plain.endpoint(0));
    for sql in super::stage::DEFINITIONS {
        say(&mut direct, sql);
    }
    say(&mut direct, "CREATE ROLE commands_owner");
    let mut wire = stage.wire();
    let mut shards: Vec<Wire> = (0..3)
        .map(|shard| Wire::login(&stage.shards.endpoint(shard)))
        .collect();
    let mut before = objects(&mut shards);
    let mut walked = BTreeSet::new();
    let mut wrong = Vec::new();
    let mut part = "";
    for line in PARTS.lines() {
        if let Some(command) = line.strip_prefix("-- ") {
            part = command;
            walked.insert(command);
            continue;
        }
        let (sql, is_refused) = match line.strip_prefix("! ") {
            Some(sql) => (sql, true),
            None => (line, false),
        };
        let told = say(&mut wire, sql);
        if is_refused {
            if !told[0].starts_with("Error 0A000") {
                wrong.push(format!("{part}: {sql} is not refused: {told:?}"));
            }
        } else {
            let expected = say(&mut direct, sql);
            if told != expected {
                wrong.push(format!(
                    "{part}: {sql}\n  router:     {told:?}\n  PostgreSQL: {expected:?}"
                ));
            }
        }
        let reads = [
            "SELECT", "INSERT", "UPDATE", "DELETE", "ANALYZE", "VACUUM", "LOCK",
        ];
        if reads.iter().any(|word| sql.starts_with(word)) {
            continue;
        }
        let after = objects(&mut shards);
        wrong.extend(
            torn(&before, &after)
                .iter()
                .map(|torn| format!("{part}: {sql} leaves {torn}")),
        );
        before = after;
    }
    say(&mut direct, "DROP ROLE commands_owner");
    assert!(
        wrong.is_empty(),
        "{} wrong:\n{}",
        wrong.len(),
        wrong.join("\n")
    );
    let missing: Vec<_> = COMMANDS
        .split(',')
        .filter(|one| !walked.contains(one))
        .collect();
    assert_eq!(missing, [""; 0], "commands that are not walked");
    stage.assert_nothing_prepared();
    stage.assert_nothing_open();
}

// A stranger found it: nothing could be done with such a table.
#[test]
fn a_table_with_the_columns_of_a_partitioned_one_and_a_key_of_its_own_was_no_part_of_it() {
    let stage = Stage::bare("[tables]\ndefault = \"auto\"");
    let mut wire = stage.wire();
    for sql in [
        "CREATE TABLE log (tenant_id int8, at date, note text, PRIMARY KEY (tenant_id, at)) PARTITION BY RANGE (at)",
        "CREATE TABLE log_24 PARTITION OF log FOR VALUES FROM ('2024-01-01') TO ('2025-01-01')",
        "INSERT INTO log SELECT n, '2024-02-02', 'x' FROM generate_series(1, 9) n",
        "CREATE TABLE history (id int8 PRIMARY KEY, tenant_id int8, at date, note text, until date)",
        "INSERT INTO history SELECT tenant_id + 100, tenant_id, at, note, at FROM log",
        "CREATE TABLE wider (tenant_id int8, at date, note text, more text, PRIMARY KEY (tenant_id, at))",
        "INSERT INTO wider SELECT tenant_id, at, note, 'y' FROM log",
        "ALTER TABLE log DETACH PARTITION log_24",
    ] {
        let told = say(&mut wire, sql);
        assert!(told[0].starts_with("CommandComplete"), "{sql}: {told:?}");
    }
    for table in ["history", "wider", "log_24"] {
        let count = format!("SELECT count(*) FROM {table}");
        assert_eq!(one(&mut wire, &count), "9", "{table}");
        let one_tenant = format!("{count} WHERE tenant_id = 7");
        assert_eq!(one(&mut wire, &one_tenant), "1", "{table}");
    }
    assert_eq!(
        one(&mut wire, "SELECT count(*) FROM history WHERE id = 107"),
        "1"
    );
    // A key of its own would divide what was a partition otherwise.
    let told = say(&mut wire, "ALTER TABLE log_24 DROP CONSTRAINT log_24_pkey");
    let other = say(
        &mut wire,
        "ALTER TABLE log_24 ADD COLUMN id int8, ADD PRIMARY KEY (id)",
    );
    let refused = [told, other].concat();
    assert!(
        refused.iter().any(|line| line.starts_with("Error 0A000")),
        "{refused:?}"
    );
}
