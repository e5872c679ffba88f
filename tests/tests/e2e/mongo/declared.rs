//! What the command line says of declarations and collections: `mongo infer`, `check-config --connect` and
//! `mongo ensure-indexes`.

use super::stage::Documents;
use crate::shards::stage::{Stage, say};
use mongodb::bson::{Document, doc, oid::ObjectId};
use mothership_tests::router::binary;
use mothership_tests::{Folder, Router, Wire};
use std::process::{Command, Output};

/// Runs the binary on a configuration: its exit code, what it prints, and what it complains of.
pub fn mothership(config: &str, command: &[&str], more: &[&str]) -> (i32, String, String) {
    let folder = Folder::new("declared");
    let path = folder.path().join("mothership.toml");
    std::fs::write(&path, config.replace("@port@", "6432")).unwrap();
    let mut program = Command::new(binary());
    program.args(command).arg("--config").arg(&path).args(more);
    let Output {
        status,
        stdout,
        stderr,
    } = program.output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (status.code().unwrap(), text(stdout), text(stderr))
}

/// What `check-config` says of the shard of documents, and its exit code.
pub fn checked(config: &str) -> (i32, Vec<String>) {
    let (code, said, error) = mothership(config, &["check-config"], &["--connect"]);
    eprintln!("{said}{error}");
    let of_documents = said
        .lines()
        .filter(|line| line.contains("shard docs0: ") && line.starts_with("  "));
    (
        code,
        of_documents.map(|line| line.trim().to_owned()).collect(),
    )
}

/// A client of a router of its own with this configuration.
pub fn wire_of(stage: &Stage, config: &str) -> (Router, Wire) {
    let router = Router::start(config);
    let mut endpoint = stage.endpoint();
    endpoint.port = router.port();
    let wire = Wire::login(&endpoint);
    (router, wire)
}

fn unique_index(documents: &Documents, collection: &str, index: Document) {
    let command = doc! {"createIndexes": collection, "indexes": [index]};
    documents.set.command(&documents.databases[0], command);
}

fn names_of_indexes(documents: &Documents, collection: &str) -> Vec<String> {
    let command = doc! {"listIndexes": collection};
    let member = documents.set.primary();
    let database = &documents.databases[0];
    let Ok(reply) = documents.set.try_command_on(member, database, command) else {
        return Vec::new(); // There is no such collection.
    };
    let batch = reply
        .get_document("cursor")
        .unwrap()
        .get_array("firstBatch");
    let names = batch
        .unwrap()
        .iter()
        .map(|index| index.as_document().unwrap());
    names
        .map(|index| index.get_str("name").unwrap().to_owned())
        .collect()
}

#[test]
fn what_infer_proposes_is_read_by_the_router() {
    let Some(documents) = Documents::over(1) else {
        return;
    };
    let database = &documents.databases[0];
    let id = |n: u8| ObjectId::from_bytes([n; 12]);
    let people = vec![
        doc! {"_id": id(1), "email": "a@x", "address": {"city": "Ulm", "zip": 1}, "tags": ["a", "b"], "createdAt": mongodb::bson::DateTime::from_millis(1_600_000_000_123),
        "score": 1, "notes": {"de": "hallo"}, "odd": 1, "key": mongodb::bson::Timestamp { time: 1, increment: 1 }},
        doc! {"_id": id(2), "email": "b@x", "address": {"city": "Bonn", "zip": null}, "tags": [], "score": 5_000_000_000_i64, "notes": {"en": "hello", "fr": "salut"}, "odd": "x"},
        doc! {"_id": id(3), "email": "c@x", "address": null, "notes": {"it": "ciao", "es": "hola"}},
    ];
    documents.set.insert(database, "people", people);
    let index = doc! {"key": {"email": 1}, "name": "mail", "unique": true};
    unique_index(&documents, "people", index);
    let config = documents.stage.config();
    let infer = |more: &[&str]| mothership(config, &["mongo", "infer"], more);
    let (code, proposed, error) = infer(&["docs0", "people"]);
    assert_eq!((code, error.as_str()), (0, ""));
    assert!(
        proposed.contains("# No column for field \"key\": BSON type Timestamp"),
        "{proposed}"
    );
    assert!(
        proposed.contains("# values of several types: Int32 in 1, String in 1"),
        "{proposed}"
    );

    let config = format!("{config}{proposed}");
    let (code, said) = checked(&config);
    assert_eq!(code, 0, "{said:?}");
    let of_people: Vec<&String> = said
        .iter()
        .filter(|line| line.contains("public.people"))
        .collect();
    assert_eq!(
        of_people,
        [
            "note: shard docs0: table public.people: fields without a column, of 3 documents sampled: \"key\" in 1; SQL \
          does not see them, and leaves them as they are"
        ]
    );
    let (_router, mut wire) = wire_of(&documents.stage, &config);
    let rows = wire.rows(
        "SELECT id, email, address_city, address_zip, tags, created_at, score, notes, odd FROM people ORDER BY id",
    );
    assert_eq!(
        rows.iter().map(|row| row.join("|")).collect::<Vec<_>>(),
        [
            "010101010101010101010101|a@x|Ulm|1|{a,b}|2020-09-13 12:26:40.123+00|1|{\"de\": \"hallo\"}|1",
            "020202020202020202020202|b@x|Bonn|∅|{}|∅|5000000000|{\"en\": \"hello\", \"fr\": \"salut\"}|\"x\"",
            "030303030303030303030303|c@x|∅|∅|∅|∅|∅|{\"es\": \"hola\", \"it\": \"ciao\"}|∅",
        ]
    );
    let answer = say(&mut wire, "INSERT INTO people (email) VALUES ('a@x')");
    assert!(answer[0].contains("\"people_email_key\""), "{answer:?}");
    let answer = say(&mut wire, "INSERT INTO people (email) VALUES ('d@x')");
    assert_eq!(answer[0], "CommandComplete INSERT 0 1", "{answer:?}");

    let (code, _, error) = infer(&["docs0", "nobody"]);
    assert_eq!(
        (code, error),
        (
            1,
            format!("shard docs0 has no collection \"nobody\" in database {database:?}\n")
        )
    );
    let (code, _, error) = infer(&["s1", "people"]);
    let expected = "the configuration has no shard \"s1\" with engine = \"mongodb\"\n";
    assert_eq!((code, error.as_str()), (1, expected));
    assert_eq!(infer(&["docs0"]).0, 2);
    assert_eq!(infer(&["docs0", "people", "--sample", "0"]).0, 2);
    let (code, fewer, _) = infer(&["docs0", "people", "--sample", "1", "--database", "app"]);
    assert!(code == 0 && !fewer.contains("from 4 documents"), "{fewer}");
}

#[test]
fn check_config_says_where_documents_are_not_as_declared() {
    let Some(documents) = Documents::over(1) else {
        return;
    };
    let config = documents.stage.config();
    let database = &documents.databases[0];
    let (code, said) = checked(config);
    let not_yet =
        "note: shard docs0: table public.events: collection \"events\" does not exist yet";
    assert_eq!((code, said), (0, vec![not_yet.to_owned()]));

    let mut wire = documents.stage.wire();
    let all = "INSERT INTO events VALUES (1, 'x', 5.00, 1, 10, 0.5, true, '2020-01-02 03:04:05.678+00', '2020-01-02', \
        '00000000-0000-4000-8000-000000000001', '{\"b\": 1}', '{a,NULL}', '\\x00ff', 'eins')";
    assert_eq!(say(&mut wire, all)[0], "CommandComplete INSERT 0 1");
    assert_eq!(checked(config), (0, vec![]));

    let odd = vec![
        doc! {"_id": 2_i64, "kind": "x", "amount": "five", "of": {"count": 5_000_000_000_i64, "more": 1}, "extra": true},
        doc! {"_id": 3_i64, "kind": null, "of": [{"count": 1}]},
    ];
    documents.set.insert(database, "events", odd);
    let index = doc! {"key": {"kind": 1}, "name": "one_of_each", "unique": true, "partialFilterExpression": {"ratio": {"$gt": 1}}};
    unique_index(&documents, "events", index);
    let (code, said) = checked(config);
    assert_eq!(code, 1);
    let expected = [
        "warning: unique index \"one_of_each\" (kind) is not declared",
        "error: column \"kind\" is declared not_null: it is null or left out in 1 of 3 documents sampled, such as the one \
         with _id 3",
        "error: column \"amount\" is declared numeric: value is of BSON type String, expected Decimal128, in 1 of 3 \
         documents sampled, such as the one with _id 2",
        "error: column \"count\" (field \"of.count\") is declared int4: integer out of range, in 1 of 3",
        "error: column \"count\" (field \"of.count\") is inside of a document, but there is a value of BSON type Array",
        "error: column \"name\" (field \"of.name\") is inside of a document, but there is a value of BSON type Array",
        "note: fields without a column, of 3 documents sampled: \"extra\" in 1, \"of.more\" in 1;",
    ];
    assert_eq!(said.len(), expected.len(), "{said:?}");
    for (line, expected) in said.iter().zip(expected) {
        let line = line.replace("shard docs0: table public.events: ", "");
        assert!(
            line.starts_with(expected),
            "{line}
{expected}"
        );
    }
}

#[test]
#[ignore = "long"]
fn check_config_asks_each_member() {
    let Some(documents) = Documents::over(1) else {
        return;
    };
    let config = documents.stage.config();
    let address = &documents.set.addresses()[0];
    let (code, said) = checked(&config.replace(address, "127.0.0.1:1"));
    assert_eq!((code, said.len()), (1, 2), "{said:?}");
    assert!(
        said[0].starts_with("error: shard docs0: server 127.0.0.1:1: "),
        "{said:?}"
    );
    assert_eq!(
        said[1],
        "error: shard docs0: no server is a member that can be read"
    );

    let server = format!("address = \"{address}\"\n");
    let with_another = format!("{server}[[shard.server]]\naddress = \"127.0.0.1:1\"\n");
    let (code, said) = checked(&config.replace(&server, &with_another));
    assert_eq!((code, said.len()), (0, 2), "{said:?}");
    assert!(
        said[0].starts_with("warning: shard docs0: server 127.0.0.1:1: "),
        "{said:?}"
    );
}

/// A table with unique keys that need indexes.
const PEOPLE: &str = r#"
[[table]]
name = "people"
kind = "documents"
shards = ["docs0"]
[[table.column]]
name = "id"
path = "_id"
sql_type = "int8"
[[table.column]]
name = "email"
sql_type = "text"
[[table.column]]
name = "city"
sql_type = "text"
path = "address.city"
[[table.unique]]
name = "people_pkey"
columns = ["id"]
[[table.unique]]
name = "people_email_key"
columns = ["email"]
index = "mail"
[[table.unique]]
name = "people_place_key"
columns = ["city", "id"]
"#;

#[test]
fn ensure_indexes_makes_what_is_missing_and_says_what_is_in_the_way() {
    let Some(documents) = Documents::over(1) else {
        return;
    };
    let config = format!("{}{PEOPLE}", documents.stage.config());
    let ensure =
        |config: &str, more: &[&str]| mothership(config, &["mongo", "ensure-indexes"], more);
    let line = |index: &str, done: &str| {
        format!("  shard docs0: table public.people: index {index} {done}\n")
    };
    let both = |done: &str| {
        let (mail, place) = (
            "\"mail\" (email)",
            "\"address.city_1__id_1\" (address.city, _id)",
        );
        format!("database app\n{}{}", line(mail, done), line(place, done))
    };
    let (code, said) = checked(&config);
    assert_eq!(code, 1);
    let missing = "error: shard docs0: table public.people: unique key \"people_email_key\" (email) is kept by no \
        index: duplicates are stored; `mothership mongo ensure-indexes` makes it";
    assert!(said.iter().any(|line| line == missing), "{said:?}");

    assert_eq!(
        ensure(&config, &["--dry-run"]),
        (0, both("would be made"), String::new())
    );
    assert!(names_of_indexes(&documents, "people").is_empty());
    assert_eq!(ensure(&config, &[]), (0, both("is made"), String::new()));
    let made = ["_id_", "mail", "address.city_1__id_1"];
    assert_eq!(names_of_indexes(&documents, "people"), made);
    // A second time there is nothing to do.
    assert_eq!(
        ensure(&config, &[]),
        (0, "database app\n".to_owned(), String::new())
    );
    assert_eq!(checked(&config).0, 0);
    let (_router, mut wire) = wire_of(&documents.stage, &config);
    let insert = "INSERT INTO people (id, email) VALUES (1, 'a'), (2, 'a')";
    let answer = say(&mut wire, insert);
    assert!(answer[0].contains("\"people_email_key\""), "{answer:?}");

    // Duplicates are in the way of one, another index is in the way of the next; what can be made is made.
    let database = &documents.databases[0];
    let twice = vec![doc! {"_id": 1, "email": "a"}, doc! {"_id": 2, "email": "a"}];
    documents.set.insert(database, "others", twice);
    let others = config.replace("[[table.column]]\nname = \"id\"\npath = \"_id\"\nsql_type = \"int8\"\n[[table.column]]\nname = \"email\"", 
        "collection = \"others\"\n[[table.column]]\nname = \"id\"\npath = \"_id\"\nsql_type = \"int8\"\n[[table.column]]\nname = \"email\"");
    assert_ne!(others, config);
    let (code, said, error) = ensure(&others, &[]);
    assert_eq!(
        (code, error.as_str()),
        (1, "1 of the above indexes could not be made\n")
    );
    assert!(
        said.contains("  error: shard docs0: table public.people: index \"mail\" (email) is not made: documents have the same values: "),
        "{said}"
    );
    assert!(
        said.contains("change or remove all but one of them"),
        "{said}"
    );
    assert_eq!(
        names_of_indexes(&documents, "others"),
        ["_id_", "address.city_1__id_1"]
    );

    unique_index(
        &documents,
        "others",
        doc! {"key": {"other": 1}, "name": "mail"},
    );
    let (code, said, _) = ensure(&others, &["--dry-run"]);
    assert_eq!(code, 1);
    assert!(
        said.contains("is not made: \"mail\" is there and is another one, on other: drop it"),
        "{said}"
    );
    let (code, said) = checked(&others);
    assert_eq!(code, 1);
    assert!(
        said.iter()
            .any(|line| line.contains("\"mail\" is not one that keeps it (other)")),
        "{said:?}"
    );
}

#[test]
fn a_key_is_said_to_be_kept_by_nobody_only_where_rows_are_divided() {
    let Some(documents) = Documents::over(1) else {
        return;
    };
    let wide = "[[table]]\nname = \"wide\"\nkey = [\"id\"]\nkey_type = [\"int8\"]\n";
    let config = format!("{}{PEOPLE}{wide}", documents.stage.config());
    let create = "CREATE TABLE wide (id int8 PRIMARY KEY, v int8 UNIQUE)";
    documents.stage.shards.sql_all(create);
    let (router, mut wire) = wire_of(&documents.stage, &config);
    assert_eq!(wire.rows("SELECT count(*) FROM people"), [["0"]]);
    let log = router.log();
    let finding = "a unique constraint of a sharded table must contain the shard key";
    let found = log.lines().filter(|line| line.contains(finding));
    let found: Vec<&str> = found.collect();
    assert!(!found.is_empty(), "{log}");
    let of_wide = |line: &&str| line.contains("wide_v_key");
    assert!(found.iter().all(of_wide), "{found:?}");
}

#[test]
fn a_database_whose_schema_was_dropped_behind_the_router_is_mended() {
    let Some(documents) = Documents::over(1) else {
        return;
    };
    let mut wire = documents.stage.wire();
    let row = "INSERT INTO events (id) VALUES (1)";
    assert_eq!(say(&mut wire, row)[0], "CommandComplete INSERT 0 1");
    drop(wire);
    // Nobody else has been told of it.
    documents.stage.shards.sql_all("DROP SCHEMA public CASCADE");
    let (_router, mut wire) = wire_of(&documents.stage, documents.stage.config());
    assert_eq!(wire.rows("SELECT id FROM events"), [["1"]]);
    let made = say(&mut wire, "CREATE SCHEMA IF NOT EXISTS public");
    assert!(
        made.iter()
            .any(|line| line == "CommandComplete CREATE SCHEMA"),
        "{made:?}"
    );
    let made = say(
        &mut wire,
        "CREATE TABLE items (id int8 PRIMARY KEY, v int8)",
    );
    assert!(
        made.iter()
            .any(|line| line == "CommandComplete CREATE TABLE"),
        "{made:?}"
    );
}
