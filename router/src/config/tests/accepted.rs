//! What is accepted, and what it then means.

use std::collections::BTreeSet;

use expect_test::expect;
use mothership_shardmap::{Declared, Placement, ShardId};

use super::*;
use crate::config::section::Applies;
use crate::config::value::Value;
use crate::config::written::Written;

#[test]
fn the_smallest_file_is_a_pooler_of_one_server() {
    let config = accepted(SMALLEST);
    expect![[r#"
        listens on 127.0.0.1:6432
        shard main: 16384 of 16384 slots, home; 127.0.0.1:5432 (auto)
        tables: 0 sharded, 0 reference; others: home
        databases: 0 declared; others: pass
        users: 0 declared; others: as the servers know them
        rules: 0 of login, 0 of routing"#]]
    .assert_eq(&config.summary().to_string());
    assert_eq!((config.pool.min, config.pool.max.get()), (10, 100));
    assert_eq!(
        config.auth.method(None, false, "anyone", "any"),
        AuthMethod::ScramSha256
    );
    assert_eq!(
        config
            .database("any")
            .map(|database| database.server_name.to_string())
            .as_deref(),
        Some("any")
    );
}

#[test]
fn slots_are_divided_evenly_in_the_order_of_the_file() {
    let shard = |name: &str| {
        format!("[[shard]]\nname = \"{name}\"\n[[shard.server]]\naddress = \"{name}\"\n")
    };
    let config = accepted(&[shard("c"), shard("a"), shard("b")].concat());
    let slots: Vec<_> = config
        .shards
        .iter()
        .map(|shard| (shard.name.as_str(), shard.slots.clone()))
        .collect();
    assert_eq!(
        slots,
        [
            ("c", vec![0..=5460]),
            ("a", vec![5461..=10921]),
            ("b", vec![10922..=16383])
        ]
    );
    assert_eq!(config.home().name.as_str(), "c");
}

#[test]
fn secrets_come_from_the_file_itself_from_files_and_from_variables_and_are_never_shown() {
    let text = "
        [control]\npassword = 'open sesame'
        [[user]]\nname = 'alice'\npassword_env = 'ALICE'
        [[user]]\nname = 'queen'\npassword_file = 'alice'
        [[user]]\nname = 'bob'\nverifier = 'md500000000000000000000000000000000'
    ";
    let config = accepted(&format!("{text}{SMALLEST}"));
    let password = |name: &str| {
        config
            .user(name)
            .and_then(|user| user.password.as_ref())
            .map(|it| it.reveal().to_owned())
    };
    assert_eq!(password("alice").as_deref(), Some("wonderland"));
    assert_eq!(password("queen").as_deref(), Some("queen of hearts"));
    let shown = format!("{config:?}{:?}{}", config.entries(), config.summary());
    for secret in ["open sesame", "wonderland", "queen of hearts", "md500"] {
        assert!(!shown.contains(secret), "{secret}");
    }
}

#[test]
fn login_rules_are_tried_in_order() {
    let text = "
        [[auth.rule]]\nnetwork = ['local', '127.0.0.1']\nusers = 'demo'\nmethod = 'trust'
        [[auth.rule]]\nnetwork = '10.0.0.0/8'\ndatabases = ['shop']\nmethod = 'md5'
        [[auth.rule]]\ntls = true\nmethod = 'scram-sha-256'
    ";
    let config = accepted(&format!("{text}{SMALLEST}"));
    let method = |address: &str, tls: bool, user: &str, database: &str| {
        config
            .auth
            .method(address.parse().ok(), tls, user, database)
            .word()
    };
    assert_eq!(method("unix", false, "demo", "any"), "trust");
    assert_eq!(method("127.0.0.1", false, "demo", "any"), "trust");
    assert_eq!(method("127.0.0.1", false, "alice", "any"), "reject");
    assert_eq!(method("10.1.2.3", false, "alice", "shop"), "md5");
    assert_eq!(method("10.1.2.3", true, "alice", "other"), "scram-sha-256");
    assert_eq!(method("10.1.2.3", false, "alice", "other"), "reject");
}

#[test]
fn a_default_that_a_given_value_leaves_no_room_for_gives_way() {
    let config = accepted(&format!(
        "[pool]\nmax = 5\n[limits]\nclient_message = '64KiB'\n{SMALLEST}"
    ));
    assert_eq!((config.pool.min, config.pool.max.get()), (5, 5));
    assert_eq!(config.limits.parsed_statement, ByteSize::kib(64));
}

#[test]
fn users_go_before_databases_before_the_common_pool() {
    let text = "
        [[user]]\nname = 'few'\npool_max = 3
        [[database]]\nname = 'shop'\npool_max = 20\npool_mode = 'session'
    ";
    let config = accepted(&format!("{text}{SMALLEST}"));
    let shape = |user: &str, database: &str| {
        let shape = config.pool_of(user, &config.database(database).expect("it passes"));
        (shape.mode.word(), shape.min, shape.max.get())
    };
    assert_eq!(shape("few", "shop"), ("session", 3, 3));
    assert_eq!(shape("many", "shop"), ("session", 10, 20));
    assert_eq!(shape("many", "other"), ("transaction", 10, 100));
}

#[test]
fn databases_have_other_names_on_servers() {
    let text = "[listen]\nundeclared_databases = 'refuse'\n[[database]]\nname = 'app'\nserver_name = 'app_x'\non = { main = 'app_1' }\n";
    let config = accepted(&format!("{text}{SMALLEST}"));
    let app = config.database("app").expect("it is declared");
    assert_eq!(app.name_on(&config.shards[0].name).as_str(), "app_1");
    assert_eq!(app.server_name.as_str(), "app_x");
    assert_eq!(config.database("other"), None);
}

#[test]
fn a_database_of_the_servers_that_has_another_name_here_has_only_that() {
    let text = "[[database]]\nname = 'shop'\nserver_name = 'app'\non = { main = 'app_1' }\n\
                [[database]]\nname = 'again'\nserver_name = 'app_1'\n";
    let config = accepted(&format!("{text}{SMALLEST}"));
    for (name, reached) in [
        ("shop", true),
        ("again", true),
        ("other", true),
        ("app", false),
        ("app_1", false),
    ] {
        assert_eq!(config.database(name).is_some(), reached, "{name}");
    }
    // What runs for a database that was found on a server still goes there.
    assert_eq!(config.database_on("app_1", &config.shards[0].name), "app_1");
    let said = config.summary().to_string();
    assert!(
        said.contains("note: database \"app_1\" of the servers is reached as \"shop\" only"),
        "{said}"
    );
    assert!(
        said.contains("warning: databases \"shop\" and \"again\" are the same on shard main"),
        "{said}"
    );
}

#[test]
fn differences_say_what_a_reload_applies_and_hide_secrets() {
    let old = accepted(&format!(
        "[pool]\nmax = 50\n[[user]]\nname = 'alice'\npassword = 'old'\n{SMALLEST}"
    ));
    let new = "[listen]\nport = 7000\n[pool]\nmax = 60\n[[user]]\nname = 'alice'\npassword = 'new'\n[[rule]]\nname = 'r'\naction = 'primary'\n";
    let new = accepted(&format!("\n\n{new}{SMALLEST}"));
    assert_eq!(Config::diff(&old, &old), []);
    let changes: Vec<String> = Config::diff(&old, &new)
        .iter()
        .filter(|change| {
            change.new.as_deref() != Some("[]") && change.new.as_deref() != Some("not set")
        })
        .map(|change| {
            format!(
                "{:?} {}: {} -> {}",
                change.applies,
                change.path,
                show(&change.old),
                show(&change.new)
            )
        })
        .collect();
    expect![[r#"
        Restart listen.port: 6432 -> 7000
        Reload pool.max: 50 -> 60
        Reload rule: [] -> [r]
        Reload rule.r.action: nothing -> "primary"
        Reload rule.r.concurrency: nothing -> "off"
        Reload rule.r.log: nothing -> false
        Reload rule.r.max_lag: nothing -> "off"
        Reload rule.r.name: nothing -> "r"
        Reload rule.r.pool_max: nothing -> "off"
        Reload rule.r.timeout: nothing -> "off"
        Reload rule.r.wait: nothing -> "off"
        Reload user.alice.password: *** -> ***"#]]
    .assert_eq(&changes.join("\n"));
}

#[test]
fn another_order_of_rules_is_a_difference() {
    let rule = |name: &str| format!("[[rule]]\nname = '{name}'\naction = 'primary'\n");
    let old = accepted(&[rule("a"), rule("b"), SMALLEST.to_owned()].concat());
    let new = accepted(&[rule("b"), rule("a"), SMALLEST.to_owned()].concat());
    let order = Change {
        path: "rule".to_owned(),
        old: Some("[a, b]".to_owned()),
        new: Some("[b, a]".to_owned()),
        applies: Applies::Reload,
    };
    assert_eq!(Config::diff(&old, &new), [order]);
}

fn show(value: &Option<String>) -> &str {
    value.as_deref().unwrap_or("nothing")
}

#[test]
fn every_default_of_the_reference_reads_back_as_itself() {
    let group = Written::group().expect("the file is a table");
    let mut text = String::new();
    let mut settings = 0;
    for section in group.settings.iter().filter(|setting| {
        setting
            .inside
            .as_ref()
            .is_some_and(|inside| !inside.repeated)
    }) {
        text += &format!("[{}]\n", section.key);
        for setting in section
            .inside
            .iter()
            .flat_map(|inside| &inside.settings)
            .filter(|setting| setting.inside.is_none())
        {
            assert!(
                !setting.doc.is_empty() && setting.doc.ends_with('.'),
                "{}.{}",
                section.key,
                setting.key
            );
            match setting.default.as_deref() {
                Some("not set") => {}
                Some(value) => text += &format!("{} = {value}\n", setting.key),
                None => panic!(
                    "{}.{} of the whole file has no default",
                    section.key, setting.key
                ),
            }
            settings += 1;
        }
    }
    assert!(settings > 100, "{settings}");
    let written = accepted(&format!("{text}{SMALLEST}"));
    assert_eq!(Config::diff(&written, &accepted(SMALLEST)), []);
}

#[test]
fn every_setting_says_when_it_applies_and_names_are_unique() {
    fn walk(path: &str, setting: &Setting, seen: &mut BTreeSet<String>) {
        let path = format!("{path}.{}", setting.key);
        assert!(seen.insert(path.clone()), "{path} is there twice");
        assert!(
            !setting.doc.is_empty() && !setting.kind.is_empty(),
            "{path}"
        );
        let inside = setting.inside.iter().flat_map(|inside| &inside.settings);
        inside.for_each(|setting| walk(&path, setting, seen));
    }
    let mut seen = BTreeSet::new();
    let group = Written::group().expect("the file is a table");
    group
        .settings
        .iter()
        .for_each(|setting| walk("", setting, &mut seen));
    let entries = accepted(SMALLEST);
    let reload = entries
        .entries()
        .values()
        .filter(|entry| entry.applies == Applies::Reload)
        .count();
    assert!(reload > 0 && reload < entries.entries().len());
}

const SHOP: &str = "
    [[table]]\nname = 'orders'\nkey = 'customer_id'
    [[table]]\nname = 'items'\nkey = 'customer_id'\nkey_type = 'int8'\ncolocate = 'orders'
    [[table]]\nname = 'log.*'\nkey = 'id'
    [[table]]\nname = 'products'\nkind = 'reference'
    [[table]]\nname = 'weeks'\nkey = 'week'\nstrategy = 'weekly'
    [[strategy]]\nname = 'weekly'\nkind = 'range'\nkey_type = 'int4'
    range = [{ below = 100, shard = 'main' }, { from = 100, shard = 'next' }]
    [[shard]]\nname = 'next'\n[[shard.server]]\naddress = 'next'
";

fn known(name: &str, columns: &[(&str, Option<KeyType>)]) -> KnownTable {
    let (schema, name) = name.split_once('.').unwrap_or(("public", name));
    let columns = columns
        .iter()
        .map(|(name, key_type)| ((*name).to_owned(), *key_type))
        .collect();
    KnownTable {
        schema: schema.to_owned(),
        name: name.to_owned(),
        columns,
    }
}

fn mistakes(text: &str, known: &[KnownTable]) -> String {
    let config = accepted(&format!("{text}{SMALLEST}"));
    let mistakes = match config.shard_map(1, known, &|_| None) {
        Ok(built) => built
            .misfits
            .into_iter()
            .map(|misfit| misfit.mistake)
            .collect(),
        Err(mistakes) => mistakes,
    };
    mistakes
        .iter()
        .map(ToString::to_string)
        .collect::<Vec<_>>()
        .join("\n")
}

#[test]
fn the_map_takes_key_types_from_the_file_and_from_the_catalog() {
    let config = accepted(&format!("{SHOP}{SMALLEST}"));
    let before = config
        .shard_map(1, &[], &|_| None)
        .expect("nothing contradicts");
    let pending: Vec<String> = before.pending.iter().map(ToString::to_string).collect();
    assert_eq!(pending, ["public.orders", "log.*"]);

    let catalog = [
        known("orders", &[("customer_id", Some(KeyType::Int8))]),
        known("log.a", &[("id", Some(KeyType::Uuid))]),
    ];
    let built = config
        .shard_map(2, &catalog, &|_| None)
        .expect("nothing contradicts");
    let sharded = |schema: &str, name: &str| match built.map.declared(schema, name) {
        Declared::Placement(Placement::Sharded(sharded)) => sharded.clone(),
        other => panic!("{other:?}"),
    };
    assert_eq!(
        sharded("public", "orders").group,
        sharded("public", "items").group
    );
    assert_eq!(
        sharded("log", "a").columns,
        [("id".to_owned(), KeyType::Uuid)]
    );
    assert!(matches!(
        built.map.declared("public", "products"),
        Declared::Placement(Placement::Reference)
    ));
    let week = |week| KeyType::Int4.from_integer(week).expect("an int4");
    let main = built.map.shard_named("main").expect("it is declared");
    assert_eq!(sharded("public", "weeks").owner(&[week(99)]), Ok(main));
    assert_eq!(
        sharded("public", "weeks").owner(&[week(100)]),
        Ok(ShardId(0))
    );
    assert_eq!(built.map.shard_name(ShardId(0)), "next");
}

#[test]
fn the_map_is_refused_when_the_catalog_disagrees() {
    let catalog = [
        known("orders", &[("customer_id", Some(KeyType::Int4))]),
        known("items", &[("customer_id", Some(KeyType::Text))]),
        known("log.a", &[("no", Some(KeyType::Int4))]),
        known("log.b", &[("id", None)]),
        known("weeks", &[("week", Some(KeyType::Int8))]),
    ];
    expect![[r#"
        column `customer_id` of table `public.items` is text and is declared as int8
        table `public.items` has the key (int8) and is colocated with `public.orders`, whose key is (int4)
        table `log.a` is sharded by `id` and has no such column
        table `log.b` is sharded by `id`, whose type cannot be a key
        column `week` of table `public.weeks` is int8 and is declared as int4"#]].assert_eq(&mistakes(SHOP, &catalog));
}

#[test]
fn a_directory_that_is_not_loaded_is_no_map() {
    let text = "
        [[table]]\nname = 'a'\nkey = 'id'\nkey_type = 'int8'\nstrategy = 'd'
        [[strategy]]\nname = 'd'\nkind = 'directory'\ntable = 'ms.places'\nkey_column = 'id'\nshard_column = 'shard'
    ";
    expect!["the directory of strategy `d` is not there"].assert_eq(&mistakes(text, &[]));
}

#[test]
fn a_tables_own_entry_goes_before_patterns_and_patterns_count_in_order() {
    let text = "
        [[table]]\nname = 'log.*'\nkey = 'id'
        [[table]]\nname = '*.a'\nkind = 'reference'
        [[table]]\nname = 'log.b'\nkind = 'home'
    ";
    let config = accepted(&format!("{text}{SMALLEST}"));
    let found = |schema: &str, table: &str| {
        config
            .tables
            .find(schema, table)
            .map(|found| found.name.to_string())
    };
    assert_eq!(found("log", "a").as_deref(), Some("log.*"));
    assert_eq!(found("public", "a").as_deref(), Some("*.a"));
    assert_eq!(found("log", "b").as_deref(), Some("log.b"));
    assert_eq!(found("public", "b"), None);
}

#[test]
fn a_file_that_breaks_off_anywhere_is_refused_or_right_and_never_a_panic() {
    let example = include_str!("../../../../docs/mothership.example.toml");
    for end in (0..example.len())
        .step_by(13)
        .filter(|end| example.is_char_boundary(*end))
    {
        let text = &example[..end];
        if let Err(problems) = parse(text) {
            let last = text.matches('\n').count() + 1;
            assert!(
                problems
                    .list
                    .iter()
                    .all(|problem| (1..=last).contains(&problem.line)),
                "{problems}"
            );
        }
    }
    for nested in ["[", "{a=", "[[", "a."] {
        parse(&format!("x = {}", nested.repeat(20_000))).expect_err("nesting has a limit");
    }
}
