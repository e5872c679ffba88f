//! Rules against a small catalog: a table of statements with what each rule makes of them,
//! and random texts around a name that is refused.

use super::facts::Facts;
use super::survey::{Scope, Survey, about};
use super::{RequestFacts, RuleOutcome, RuleSet, Servers};
use crate::config::{Config, Origin, Process, Reads};
use mothership_catalog::{Catalog, text};
use mothership_plan::About;
use mothership_shardmap::ShardId;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use std::net::IpAddr;
use std::path::Path;

const CATALOG: &str = "
schema shop
table public.salaries
  column id bigint not null
table shop.salaries
  column id bigint not null
table public.audit
  column id bigint
view public.pay (id) as SELECT id FROM salaries
function public.paid stable sql SELECT sum(id) FROM pay
function public.erase volatile plpgsql BEGIN DELETE FROM audit; END
function public.eraser stable plpgsql BEGIN PERFORM erase(); END
function public.dynamic volatile plpgsql BEGIN EXECUTE x; END
function public.plain volatile plpgsql BEGIN RETURN 1; END
index public.salaries_pkey on public.salaries
operator ### paid
type public.payable domain int4 check paid() > 0
";

fn rules(text: &str) -> RuleSet {
    let shard = "[[shard]]\nname = \"a\"\n[[shard.server]]\naddress = \"127.0.0.1:5432\"\nlabels = \"reports\"\n";
    let config = Config::parse(
        Path::new("rules.toml"),
        &format!("{text}\n{shard}"),
        &Process,
    );
    RuleSet::new(&config.unwrap_or_else(|p| panic!("{p}")), None)
}

fn catalog() -> Catalog {
    text::parse(CATALOG).unwrap()
}

fn scope() -> Scope {
    Scope {
        search_path: vec!["public".into()],
        is_path_known: true,
        is_hidden: false,
        is_redefined: false,
    }
}

fn outcome(set: &RuleSet, sql: &str, scope: &Scope) -> RuleOutcome {
    let catalog = catalog();
    let survey = Survey::new(set, &catalog);
    let request = survey.request(set, &catalog, &Facts::of(sql.as_bytes(), true), scope);
    let mine: Vec<usize> = (0..set.rules().len()).collect();
    set.outcome(&mine, &request, 0)
}

/// `yes`, `perhaps` or `no`: whether the statement is refused.
fn refused(set: &RuleSet, sql: &str, scope: &Scope) -> &'static str {
    match outcome(set, sql, scope).refusal {
        None => "no",
        Some(refusal) if refusal.is_certain => "yes",
        Some(_) => "perhaps",
    }
}

fn refuse(when: &str) -> RuleSet {
    rules(&format!(
        "[[rule]]\nname = \"r\"\n{when}\naction = \"refuse\"\nmessage = \"no\"\n"
    ))
}

fn check(set: &RuleSet, scope: &Scope, cases: &[(&str, &str)]) {
    for (sql, expected) in cases {
        assert_eq!(refused(set, sql, scope), *expected, "{sql}");
    }
}

#[test]
fn tables_are_named_by_whatever_leads_to_them() {
    let set = refuse("tables = [\"salaries\"]");
    check(
        &set,
        &scope(),
        &[
            ("SELECT * FROM salaries", "yes"),
            ("SELECT * FROM a.b.c, public.salaries", "yes"),
            ("SELECT * FROM pay", "yes"),
            ("SELECT paid()", "yes"),
            ("SELECT a.paid FROM audit a", "yes"),
            ("DROP INDEX salaries_pkey", "yes"),
            ("DROP SCHEMA public", "perhaps"),
            ("SELECT dynamic()", "perhaps"),
            ("DO 'BEGIN EXECUTE $1; END'", "perhaps"),
            ("DO 'BEGIN PERFORM paid(); END'", "yes"),
            (r"DO E'BEGIN PERFORM p\141id(); END'", "yes"),
            (r"DO U&'BEGIN PERFORM p!0061id(); END' UESCAPE '!'", "yes"),
            ("DO LANGUAGE plperl 'x'", "perhaps"),
            (r"DO E'\u12'", "perhaps"),
            ("DO 'BEGIN NULL; END'", "no"),
            (
                r"CREATE FUNCTION f() RETURNS int LANGUAGE sql AS E'SELECT id FROM s\141laries'",
                "yes",
            ),
            (
                "CREATE FUNCTION f() RETURNS int LANGUAGE plpgsql AS $$BEGIN EXECUTE x; END$$",
                "perhaps",
            ),
            (
                "CREATE FUNCTION f() RETURNS int LANGUAGE sql AS 'SELECT 1'",
                "no",
            ),
            ("SELECT (ROW(1)::audit).paid", "perhaps"),
            ("SELECT (q.x).\"paid\" FROM q", "perhaps"),
            ("SELECT (ARRAY[ROW(1)::audit])[1].paid", "perhaps"),
            ("SELECT 1 ### 2", "perhaps"),
            ("SELECT 1 OPERATOR(public.###) 2", "perhaps"),
            ("SELECT 1 + 2", "no"),
            ("SELECT 1::payable", "perhaps"),
            ("SELECT pg_temp.f()", "perhaps"),
            ("SELECT * FROM shop.salaries", "no"),
            ("SELECT salaries FROM audit", "no"),
            (
                "SELECT a, salaries FROM audit, shop.salaries WHERE (salaries, 1) IN (salaries)",
                "no",
            ),
            ("INSERT INTO audit (salaries) VALUES (1)", "no"),
            ("SELECT plain(), erase()", "no"),
            ("SET x = salaries", "no"),
            ("ROLLBACK", "no"),
        ],
    );
}

#[test]
fn a_cast_that_leads_to_a_table_makes_everything_uncertain() {
    let set = refuse("tables = [\"salaries\"]");
    let catalog = text::parse(&format!("{CATALOG}cast paid\n")).unwrap();
    let survey = Survey::new(&set, &catalog);
    for (sql, refuses) in [("SELECT 1", true), ("ROLLBACK", false)] {
        let facts = Facts::of(sql.as_bytes(), true);
        let request = survey.request(&set, &catalog, &facts, &scope());
        let refusal = set.outcome(&[0], &request, 0).refusal;
        assert_eq!(refusal.is_some(), refuses, "{sql}");
    }
}

#[test]
fn what_the_session_may_hide_is_not_certain() {
    let select = refuse("tables = [\"salaries\"]\nkinds = [\"select\"]");
    let hidden = Scope {
        is_hidden: true,
        ..scope()
    };
    // Temporary objects may stand before any name that has no schema.
    check(
        &select,
        &hidden,
        &[("SELECT * FROM audit", "perhaps"), ("SELECT 1", "no")],
    );
    let all = refuse("tables = [\"salaries\"]");
    check(
        &all,
        &hidden,
        &[("SELECT * FROM audit", "no"), ("SELECT * FROM mine", "no")],
    );
    let redefined = Scope {
        is_redefined: true,
        ..scope()
    };
    check(
        &all,
        &redefined,
        &[
            ("SELECT * FROM made", "perhaps"),
            ("SELECT * FROM audit", "no"),
        ],
    );
    // A path that nobody has set may be another one for this role.
    let shop = refuse("tables = [\"shop.salaries\"]");
    let unknown = Scope {
        is_path_known: false,
        ..scope()
    };
    check(&shop, &scope(), &[("TABLE salaries", "no")]);
    check(
        &shop,
        &unknown,
        &[
            ("TABLE salaries", "perhaps"),
            ("TABLE public.salaries", "no"),
        ],
    );
}

#[test]
fn kinds_are_what_a_statement_does() {
    let write = refuse("kinds = [\"write\"]");
    check(
        &write,
        &scope(),
        &[
            ("SELECT 1", "no"),
            ("SELECT plain()", "no"),
            ("SELECT erase()", "perhaps"),
            ("SELECT eraser()", "perhaps"),
            ("SELECT delete FROM audit", "perhaps"),
            ("SELECT nextval('x')", "yes"),
            (
                "(((WITH x AS (UPDATE audit SET id = 1 RETURNING 1) TABLE x)))",
                "yes",
            ),
            ("EXPLAIN DELETE FROM audit", "yes"),
            ("PREPARE x AS DELETE FROM audit", "yes"),
            ("COPY audit TO STDOUT", "no"),
            ("COPY audit TO '/tmp/x'", "yes"),
            ("SHOW x", "no"),
            ("gibberish", "perhaps"),
        ],
    );
    let insert = refuse("kinds = [\"insert\"]");
    check(
        &insert,
        &scope(),
        &[
            ("INSERT INTO audit VALUES (1) ON CONFLICT DO NOTHING", "yes"),
            (
                "WITH x AS (INSERT INTO audit VALUES (1)) DELETE FROM audit",
                "yes",
            ),
            ("UPDATE audit SET id = 1", "no"),
            (
                "MERGE INTO audit USING salaries s ON true WHEN NOT MATCHED THEN INSERT VALUES (1)",
                "no",
            ),
            ("CREATE TABLE x (a int)", "no"),
        ],
    );
}

#[test]
fn the_first_rule_of_an_origin_decides_and_uncertainty_helps_only_refusals() {
    let set = rules(
        "[[rule]]\nname = \"own\"\nusers = \"boss\"\naction = \"primary\"\n\
         [[rule]]\nname = \"reads\"\nkinds = \"read\"\naction = \"replica\"\nlabel = \"reports\"\n\
         [[rule]]\nname = \"pay\"\ntables = \"salaries\"\naction = \"pool\"\npool = \"pay\"\npool_max = 3\n\
         [[rule]]\nname = \"rest\"\naction = \"refuse\"\nmessage = \"no\"\n\
         [[rule]]\nname = \"never\"\naction = \"primary\"\n",
    );
    let origin = |user| Origin {
        user,
        database: "d",
        application: "",
        address: None::<IpAddr>,
    };
    assert_eq!(set.of_origin(&origin("boss")), [0]);
    // What stands behind a rule that fits everything cannot decide.
    assert_eq!(set.of_origin(&origin("x")), [1, 2, 3]);
    let catalog = catalog();
    let survey = Survey::new(&set, &catalog);
    let decided = |sql: &str| {
        let facts = Facts::of(sql.as_bytes(), true);
        set.outcome(
            &[1, 2, 3],
            &survey.request(&set, &catalog, &facts, &scope()),
            0,
        )
    };
    let read = decided("SELECT * FROM salaries");
    assert_eq!((read.rule, read.shard), (Some(1), None));
    assert!(
        matches!(read.servers, Servers::By(Reads::PreferReplicas, Some(label)) if label.as_str() == "reports")
    );
    let write = decided("DELETE FROM salaries");
    assert_eq!(write.rule, Some(2));
    assert_eq!(write.limit.unwrap().get(), 3);
    assert_eq!(set.pool_max(&write.pool.unwrap()), write.limit);
    // A rule for reads does not let a write pass to it.
    assert_eq!(decided("SELECT erase() FROM audit").rule, Some(3));
    // It may read and may be of the table: neither is certain.
    assert_eq!(decided("SELECT dynamic()").rule, Some(3));
    assert_eq!(decided("COMMIT").rule, None);
}

#[test]
fn only_what_needs_no_rows_is_without_tables() {
    let catalog = catalog();
    for (sql, expected) in [
        ("SELECT 1", About::NoTables),
        ("SELECT version(), now()", About::NoTables),
        ("SELECT * FROM pg_stat_activity", About::NoTables),
        (
            "SELECT * FROM pg_catalog.pg_class, generate_series(1, 2)",
            About::NoTables,
        ),
        ("WITH x AS (SELECT 1) TABLE x", About::NoTables),
        ("WITH audit AS (TABLE audit) TABLE audit", About::Rows),
        ("SELECT * FROM unknown", About::Rows),
        ("SELECT plain()", About::Rows),
        ("SELECT nextval('x')", About::Rows),
        ("SELECT query_to_xml('x', true, true, '')", About::Rows),
        ("LISTEN x", About::Session),
        ("SET x = 1", About::Session),
        ("SHOW x", About::Session),
        ("COMMIT", About::Session),
        ("VALUES (1)", About::NoTables),
        ("TABLE audit", About::Rows),
        ("CREATE TABLE x (a int)", About::Rows),
        ("DO 'BEGIN END'", About::Rows),
        ("gibberish", About::Rows),
    ] {
        let facts = Facts::of(sql.as_bytes(), true);
        assert_eq!(about(Some(&catalog), &facts, &scope()), expected, "{sql}");
    }
}

#[test]
fn an_outcome_carries_what_its_rule_and_the_rules_of_its_pool_say() {
    let set = rules(
        "[[rule]]\nname = \"keys\"\nkinds = \"insert\"\naction = \"pool\"\npool = \"slow\"\npriority = -20\n\
         [[rule]]\nname = \"more\"\nkinds = \"update\"\naction = \"pool\"\npool = \"slow\"\npool_max = 4\n\
         [[rule]]\nname = \"own\"\nkinds = \"delete\"\naction = \"pool\"\npool = \"other\"\npriority = 100\n\
         [[rule]]\nname = \"here\"\nkinds = \"merge\"\naction = \"shard\"\nshard = \"a\"\npriority = 7\n\
         [[rule]]\nname = \"no\"\nkinds = \"copy\"\naction = \"refuse\"\nmessage = \"no\"\n",
    );
    for (sql, limit, priority, told) in [
        // The limit of a pool stands in one of its rules.
        (
            "INSERT INTO audit VALUES (1)",
            Some(4),
            -20,
            "Rule: keys (pool slow, priority -20)",
        ),
        (
            "UPDATE audit SET id = 1",
            Some(4),
            0,
            "Rule: more (pool slow)",
        ),
        (
            "DELETE FROM audit",
            None,
            100,
            "Rule: own (pool other, priority 100)",
        ),
        (
            "MERGE INTO audit USING salaries s ON true WHEN MATCHED THEN DELETE",
            None,
            7,
            "Rule: here (shard a, priority 7)",
        ),
        ("COPY audit TO STDOUT", None, 0, "Rule: no (refuse)"),
    ] {
        let outcome = outcome(&set, sql, &scope());
        assert_eq!(outcome.limit.map(|limit| limit.get()), limit, "{sql}");
        assert_eq!(outcome.priority, priority, "{sql}");
        assert_eq!(outcome.told(&set).as_deref(), Some(told));
        // Only a rule that keeps statements on a shard has a say in their routes.
        let pin = |names: &[&'static str]| outcome.pin(&set, About::Rows, names.iter().copied());
        let expected = told.contains("shard").then_some(Some(ShardId(1)));
        assert_eq!(pin(&["b", "a"]).map(|pin| pin.shard), expected, "{sql}");
        assert_eq!(pin(&["b"]).map(|pin| pin.shard), expected.map(|_| None));
    }
    assert_eq!(outcome(&set, "SELECT 1", &scope()), RuleOutcome::default());
}

#[test]
fn no_way_to_write_a_query_hides_the_table_that_it_reads() {
    let seed: u64 = rand::random();
    println!("seed {seed}");
    let mut random = StdRng::seed_from_u64(seed);
    let set = refuse("tables = [\"salaries\"]");
    let names = [
        "salaries",
        "SALARIES",
        "\"salaries\"",
        "public.salaries",
        "U&\"s\\0061laries\"",
        "pay",
    ];
    let between = [
        " ",
        "\n",
        "/**/",
        "-- x\n",
        "/* /* */ from shop.salaries */",
        "\t",
    ];
    let mut count = 0;
    for _ in 0..3000 {
        let mut pick = |from: &[&'static str]| from[random.random_range(0..from.len())];
        let name = pick(&names);
        let table = match pick(&["name", "only", "alias", "join", "list", "group", "derived"]) {
            "only" => format!("ONLY~{name}"),
            "alias" => format!("{name}~AS~audit (a)"),
            "join" => format!("audit~a~LEFT~JOIN~{name}~b~ON~a.id = b.id"),
            "list" => format!("audit~a,~f(1, (2))~b,~{name}"),
            "group" => format!("(audit~CROSS JOIN~({name}~x~NATURAL JOIN audit))"),
            "derived" => format!("audit,~LATERAL~(SELECT 1~FROM~{name}) x"),
            _ => name.to_owned(),
        };
        let sql = match pick(&[
            "select", "exists", "cte", "union", "insert", "update", "delete", "from", "copy",
            "explain", "in",
        ]) {
            "exists" => format!("SELECT 1~WHERE~EXISTS~(SELECT~FROM~{table})"),
            "cte" => format!("WITH~x~AS~(SELECT 1~FROM~{table})~SELECT~a~FROM~x"),
            "union" => format!("SELECT 1~FROM~audit~WHERE a = 1~UNION~SELECT~2~FROM~{table}"),
            "insert" => format!("INSERT~INTO~audit~(id)~SELECT~1~FROM~{table}"),
            "update" => format!("UPDATE~audit~SET~(a, b) = (1, 2)~FROM~{table}~WHERE~true"),
            "delete" => format!("DELETE~FROM~audit~USING~{table}"),
            "from" => format!("SELECT~EXTRACT(year~FROM~d),~a~IS~DISTINCT~FROM~b~FROM~{table}"),
            "copy" => format!("COPY~(SELECT~1~FROM~{table})~TO~STDOUT"),
            "explain" => format!("EXPLAIN~(COSTS off)~SELECT~1~FROM~{table}"),
            "in" => format!(
                "SELECT~a~FROM~audit~WHERE~a~IN~(SELECT~b~FROM~{table}~ORDER~BY~1)~ORDER~BY~1"
            ),
            _ => format!("SELECT~a,~'from x'~FROM~{table}~WHERE~salaries = 1"),
        };
        let mut text = String::new();
        for part in sql.split('~') {
            text.push_str(part);
            text.push_str(pick(&between));
        }
        assert_eq!(refused(&set, &text, &scope()), "yes", "{text}");
        count += 1;
    }
    println!("{count} statements");
}

#[test]
fn a_rule_fits_at_its_times_alone() {
    let set = rules(
        "[[rule]]\nname = \"night\"\ntimes = \"mon-fri 22:00-06:00\"\nzone = \"Europe/Berlin\"\naction = \"primary\"\n\
         [[rule]]\nname = \"rest\"\npriority = 1",
    );
    // What stands behind a rule with times may decide.
    let mine = set.of_origin(&Origin {
        user: "x",
        database: "d",
        application: "",
        address: None,
    });
    assert_eq!(mine, [0, 1]);
    let request = RequestFacts::by_origin(&Facts::of(b"SELECT 1", true), &set);
    let at = |moment: i64| set.outcome(&mine, &request, moment).rule;
    // 2026-01-05 is a Monday; noon in UTC.
    let noon = 1_767_614_400;
    assert_eq!(at(noon), Some(1));
    assert_eq!(at(noon + 9 * 3600), Some(0), "22:00 in Berlin");
    assert_eq!(at(noon + 9 * 3600 - 1), Some(1));
}

#[test]
fn a_rule_fits_the_statements_of_its_shapes() {
    let set = rules(
        "[[rule]]\nname = \"big\"\nstatements = [\"SELECT * FROM big WHERE day = '2026-01-01'\", \"select 1\"]\n\
         action = \"refuse\"\nmessage = \"no\"",
    );
    assert!(!set.needs_catalog(&[0]));
    let refused = |sql: &str| {
        let request = RequestFacts::by_origin(&Facts::with_shape(sql.as_bytes(), true), &set);
        set.outcome(&[0], &request, 0)
            .refusal
            .map(|its| its.is_certain)
    };
    for sql in [
        "select * from BIG where day = $1",
        "SELECT 7",
        "EXPLAIN ANALYZE SELECT 7",
        "PREPARE p AS SELECT * FROM big WHERE day = $1",
    ] {
        assert_eq!(refused(sql), Some(true), "{sql}");
    }
    for sql in ["SELECT * FROM big", "SELECT 1, 2 FROM t", "COMMIT"] {
        assert_eq!(refused(sql), None, "{sql}");
    }
    // What cannot be read may be one.
    assert_eq!(refused("SELECT 'a"), Some(false));
    let unknown = RequestFacts::by_origin(&Facts::unknown(), &set);
    assert!(set.outcome(&[0], &unknown, 0).refusal.is_some());
}

#[test]
fn a_rule_says_in_the_words_of_a_shard_who_serves_reads() {
    let set = rules(
        "[[rule]]\nname = \"a\"\nusers = \"a\"\nreads = \"prefer-primary\"\n\
         [[rule]]\nname = \"b\"\nusers = \"b\"\nreads = \"replicas\"\nlabel = \"reports\"\n\
         [[rule]]\nname = \"c\"\nusers = \"c\"\nreads = \"primary\"\npool = \"slow\"\n\
         [[rule]]\nname = \"d\"\nusers = \"d\"\nreads = \"any\"\naction = \"pool\"\npool = \"slow\"\n",
    );
    assert!(set.has_replicas());
    let request = RequestFacts::by_origin(&Facts::of(b"SELECT 1", true), &set);
    let decided = |at: usize| {
        let outcome = set.outcome(&[at], &request, 0);
        let told = outcome.told(&set).unwrap();
        (outcome.servers, told)
    };
    let reports = || crate::config::Label::new("reports");
    for (at, servers, told) in [
        (
            0,
            Servers::By(Reads::PreferPrimary, None),
            "Rule: a (reads prefer-primary)",
        ),
        (
            1,
            Servers::By(Reads::Replicas, reports()),
            "Rule: b (reads replicas labelled reports)",
        ),
        (2, Servers::Primary, "Rule: c (primary, pool slow)"),
        (
            3,
            Servers::By(Reads::Any, None),
            "Rule: d (reads any, pool slow)",
        ),
    ] {
        assert_eq!(decided(at), (servers, told.to_owned()));
    }
}

#[test]
fn one_rule_does_several_things() {
    let set = rules(
        "[[rule]]\nname = \"all\"\naction = \"group\"\nlabel = \"reports\"\nshard = \"a\"\npool = \"slow\"\npool_max = 2\n\
         priority = -5\nconcurrency = 4\nrate = \"600/min\"\nwait = \"3s\"\ntimeout = \"30s\"\nlog = true",
    );
    let request = RequestFacts::by_origin(&Facts::of(b"SELECT 1", true), &set);
    let outcome = set.outcome(&[0], &request, 0);
    assert!(
        matches!(&outcome.servers, Servers::By(Reads::Any, Some(label)) if label.as_str() == "reports")
    );
    assert_eq!(outcome.shard.as_ref().unwrap().as_str(), "a");
    assert_eq!(outcome.pool.as_ref().unwrap().as_str(), "slow");
    assert_eq!(outcome.limit.unwrap().get(), 2);
    assert_eq!(
        outcome.told(&set).unwrap(),
        "Rule: all (servers labelled reports, shard a, pool slow, priority -5, at most 4 at once, at most 600/min, \
         waits 3s, timeout 30s, logged)"
    );
    let (caps, _) = set.metered(0).unwrap();
    assert_eq!(caps.concurrency.unwrap().get(), 4);
}
