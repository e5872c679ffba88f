//! What a reload leaves as it was.

use std::collections::BTreeSet;

use super::super::value::Value;
use super::super::written::Written;
use super::super::{Applies, Config, Setting};
use super::{SMALLEST, accepted};

const ALL: &str = r#"
[listen]
address = "127.0.0.1"
port = 6432
unix_socket = "/tmp/here"
unix_socket_mode = "0700"
takeover = "/tmp/next"
backlog = 100
workers = 1
send_batch = "off"
[transactions]
router_id = "r1"
schema = "ours"
[control]
user = "root"
database = "main"
[metrics]
address = "127.0.0.3"
port = 9100
[logging]
format = "text"
[tables]
default = "home"
key_updates = "refuse"
[[database]]
name = "app"
server_name = "app_x"
on = { a = "app_1" }
[[shard]]
name = "a"
slots = "0-9999"
home = true
control_user = "boss"
[[shard.server]]
address = "one:5432"
[[shard]]
name = "b"
slots = "10000-16383"
[[shard.server]]
address = "two:5432"
[[shard]]
name = "d"
engine = "mongodb"
[[shard.server]]
address = "three:27017"
[[shard]]
name = "e"
engine = "mongodb"
[[shard.server]]
address = "four:27017"
[[table]]
name = "papers"
kind = "documents"
shards = ["d"]
collection = "sheets"
owner = "keeper"
nulls = "store"
[[table.column]]
name = "number"
sql_type = "int8"
path = "_id"
[[table.column]]
name = "title"
sql_type = "text"
path = "of.title"
not_null = true
default = "none"
[[table.column]]
name = "others"
sql_type = "jsonb"
rest = true
[[table.unique]]
name = "papers_pkey"
columns = ["number"]
[[table.unique]]
name = "papers_title"
columns = ["title"]
index = "by_title"
[[strategy]]
name = "ranges"
kind = "range"
key_type = "int8"
other = "b"
[[strategy.range]]
from = 1
below = 10
shard = "a"
[[strategy]]
name = "lists"
kind = "list"
key_type = "int4"
[[strategy.list]]
keys = [1, 2]
shard = "b"
[[strategy]]
name = "found"
kind = "directory"
table = "places"
key_column = "k"
shard_column = "s"
[[strategy]]
name = "hashed"
kind = "postgres"
remainders = ["a", "b"]
[[table]]
name = "orders"
key = "id"
key_type = "int8"
strategy = "ranges"
[[table]]
name = "lines"
key = "order_id"
key_type = "int8"
colocate = "orders"
[[table]]
name = "kinds"
kind = "reference"
"#;

/// A slot moves to the other shard.
const SLOTS: (&str, &str) = (
    "0-9999\"\nhome = true\ncontrol_user = \"boss\"\n[[shard.server]]\naddress = \"one:5432\"\n[[shard]]\nname = \"b\"\nslots = \"10000-",
    "0-9998\"\nhome = true\ncontrol_user = \"boss\"\n[[shard.server]]\naddress = \"one:5432\"\n[[shard]]\nname = \"b\"\nslots = \"9999-",
);

/// For each setting that only a restart changes: what of `ALL` to write otherwise.
const OTHERWISE: [(&str, &str, &str); 55] = [
    ("database.server_name", "\"app_x\"", "\"app_y\""),
    ("database.on", "app_1", "app_2"),
    ("listen.address", "\"127.0.0.1\"", "\"127.0.0.2\""),
    ("listen.port", "port = 6432", "port = 6433"),
    ("listen.unix_socket", "/tmp/here", "/tmp/there"),
    ("listen.unix_socket_mode", "0700", "0770"),
    ("listen.takeover", "/tmp/next", "/tmp/last"),
    ("listen.backlog", "backlog = 100", "backlog = 200"),
    ("listen.workers", "workers = 1", "workers = 2"),
    (
        "listen.send_batch",
        "send_batch = \"off\"",
        "send_batch = \"auto\"",
    ),
    ("transactions.router_id", "\"r1\"", "\"r2\""),
    ("transactions.schema", "\"ours\"", "\"theirs\""),
    ("control.user", "\"root\"", "\"other\""),
    (
        "control.database",
        "database = \"main\"",
        "database = \"other\"",
    ),
    ("metrics.address", "127.0.0.3", "127.0.0.4"),
    ("metrics.port", "9100", "9101"),
    ("logging.format", "format = \"text\"", "format = \"json\""),
    ("tables.default", "default = \"home\"", "default = \"auto\""),
    ("tables.key_updates", "\"refuse\"", "\"move\""),
    ("shard.name", "\"b\"", "\"c\""),
    ("shard.slots", SLOTS.0, SLOTS.1),
    ("shard.home", "home = true\n", ""),
    ("shard.control_user", "\"boss\"", "\"chief\""),
    ("table.name", "\"kinds\"", "\"sorts\""),
    ("table.kind", "\"reference\"", "\"home\""),
    ("table.key", "key = \"id\"", "key = \"number\""),
    (
        "table.key_type",
        "key = \"order_id\"\nkey_type = \"int8\"",
        "key = \"order_id\"",
    ),
    ("table.strategy", "strategy = \"ranges\"\n", ""),
    ("table.colocate", "colocate = \"orders\"\n", ""),
    ("strategy.name", "\"hashed\"", "\"hash\""),
    (
        "strategy.kind",
        "kind = \"postgres\"\nremainders = [\"a\", \"b\"]",
        "kind = \"directory\"\ntable = \"t\"\nkey_column = \"k\"\nshard_column = \"s\"",
    ),
    (
        "strategy.key_type",
        "key_type = \"int4\"",
        "key_type = \"int2\"",
    ),
    (
        "strategy.range",
        "below = 10\n",
        "below = 10\nshard = \"b\"\n[[strategy.range]]\nfrom = 10\nbelow = 12\n",
    ),
    (
        "strategy.list",
        "keys = [1, 2]\n",
        "keys = [1]\nshard = \"b\"\n[[strategy.list]]\nkeys = [2]\n",
    ),
    ("table.shards", "shards = [\"d\"]", "shards = [\"e\"]"),
    ("table.collection", "\"sheets\"", "\"leaves\""),
    ("table.owner", "\"keeper\"", "\"other\""),
    ("table.nulls", "nulls = \"store\"", "nulls = \"omit\""),
    (
        "table.column.name",
        "name = \"number\"\nsql_type = \"int8\"\npath = \"_id\"\n",
        "name = \"number\"\nsql_type = \"int8\"\npath = \"_id\"\n[[table.column]]\nname = \"more\"\nsql_type = \"text\"\n",
    ),
    (
        "table.column.sql_type",
        "sql_type = \"text\"",
        "sql_type = \"varchar(9)\"",
    ),
    (
        "table.column.path",
        "path = \"of.title\"",
        "path = \"title\"",
    ),
    ("table.column.rest", "rest = true", "rest = false"),
    (
        "table.column.not_null",
        "not_null = true",
        "not_null = false",
    ),
    (
        "table.column.default",
        "default = \"none\"",
        "default = \"some\"",
    ),
    (
        "table.unique.name",
        "name = \"papers_title\"",
        "name = \"papers_key\"",
    ),
    (
        "table.unique.columns",
        "columns = [\"title\"]",
        "columns = [\"title\", \"number\"]",
    ),
    (
        "table.unique.index",
        "index = \"by_title\"",
        "index = \"titles\"",
    ),
    ("strategy.other", "other = \"b\"", "other = \"a\""),
    ("strategy.table", "\"places\"", "\"spots\""),
    ("strategy.key_column", "\"k\"", "\"kk\""),
    ("strategy.shard_column", "\"s\"", "\"ss\""),
    ("strategy.remainders", "[\"a\", \"b\"]", "[\"b\", \"a\"]"),
    ("strategy.range.from", "from = 1\n", "from = 2\n"),
    ("strategy.range.below", "below = 10", "below = 11"),
    ("strategy.list.keys", "keys = [1, 2]", "keys = [1, 3]"),
];

fn waiting(new: &Config, old: &Config) -> (Config, Vec<String>) {
    let held = new.clone().held(old).unwrap_or_else(|why| panic!("{why}"));
    let paths = held.waiting.iter().map(|change| change.path.clone());
    (held.config.clone(), paths.collect())
}

#[test]
fn what_only_a_restart_changes_stays_as_it_was() {
    let old = accepted(ALL);
    for (path, from, to) in OTHERWISE {
        assert!(ALL.contains(from), "{path}");
        let new = accepted(&ALL.replace(from, to));
        assert_ne!(new, old, "{path}");
        let (held, paths) = waiting(&new, &old);
        assert_eq!(held, old, "{path}");
        assert!(!paths.is_empty(), "{path}");
        assert_eq!(Config::diff(&old, &held), [], "{path}");
    }
}

#[test]
fn every_such_setting_is_tried() {
    fn restart(path: &str, settings: &[Setting], found: &mut BTreeSet<String>) {
        for setting in settings {
            let path = match path {
                "" => setting.key.clone(),
                path => format!("{path}.{}", setting.key),
            };
            match &setting.inside {
                Some(group) => restart(&path, &group.settings, found),
                None if setting.applies == Applies::Restart => drop(found.insert(path)),
                None => {}
            }
        }
    }
    let mut found = BTreeSet::new();
    let all = Written::group().expect("it is a table");
    restart("", &all.settings, &mut found);
    let tried: BTreeSet<String> = OTHERWISE.map(|(path, ..)| path.to_owned()).into();
    let missing: Vec<_> = found.difference(&tried).collect();
    // A shard of a range or list of keys changes with its table above, and what a shard is with all that it may have.
    assert_eq!(
        missing,
        [
            "shard.engine",
            "strategy.list.shard",
            "strategy.range.shard"
        ]
    );
}

#[test]
fn all_else_goes_in_force_beside_it() {
    let old = accepted(ALL);
    let new = ALL
        .replace("one:5432", "three:5432")
        .replace("0-9999", "0-9998")
        .replace("10000-", "9999-")
        .replace("[logging]", "[pool]\nmax = 7\n[logging]");
    let more = "[[table]]\nname = \"more\"\nkind = \"reference\"\n[[rule]]\nname = \"r\"\naction = \"primary\"\n";
    let (held, paths) = waiting(&accepted(&(new + more)), &old);
    assert_eq!(held.pool.max.get(), 7);
    assert_eq!(
        held.shards[0].servers[0].address.value.to_string(),
        "three:5432"
    );
    assert_eq!((held.rules.len(), held.tables.clone()), (1, old.tables));
    assert_eq!(
        [&held.shards[0].slots, &held.shards[1].slots],
        [&old.shards[0].slots, &old.shards[1].slots]
    );
    let shown: Vec<&str> = paths.iter().map(String::as_str).collect();
    assert!(
        shown.starts_with(&["shard.a.slots", "shard.b.slots", "table", "table.more."])
            || shown.contains(&"shard.b.slots"),
        "{shown:?}"
    );
}

#[test]
fn a_shard_more_or_less_waits_and_what_needs_it_is_refused() {
    let one = accepted(SMALLEST);
    let text =
        format!("{SMALLEST}[[shard]]\nname = \"more\"\n[[shard.server]]\naddress = \"x:1\"\n");
    let two = accepted(&text);
    let (held, paths) = waiting(&two, &one);
    assert_eq!(held, one);
    assert!(paths.contains(&"shard.more.name".to_owned()), "{paths:?}");
    let (held, paths) = waiting(&one, &two);
    assert_eq!(held, two);
    assert!(paths.contains(&"shard".to_owned()), "{paths:?}");
    let named = format!("{text}[[rule]]\nname = \"r\"\naction = \"shard\"\nshard = \"more\"\n");
    let why = accepted(&named).held(&one).unwrap_err();
    assert!(
        why.contains("after a restart") && why.contains("`more`"),
        "{why}"
    );
}
