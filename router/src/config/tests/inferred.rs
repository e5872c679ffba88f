//! What is inferred from a collection is a configuration, and documents like those have nothing wrong by it.

use crate::config::{Config, Place, Surroundings};
use bson::{Document, RawDocumentBuf, doc, oid::ObjectId, rawdoc};
use expect_test::{Expect, expect};
use mothership_documents::drift::{self, Traits};
use mothership_documents::index::Index;
use mothership_documents::infer::{Subject, infer};
use std::path::Path;

struct Nothing;

impl Surroundings for Nothing {
    fn variable(&self, _: &str) -> Option<String> {
        None
    }

    fn file(&self, _: &Path) -> std::io::Result<String> {
        Err(std::io::ErrorKind::NotFound.into())
    }
}

const SHARDS: &str = "[[shard]]\nname = \"main\"\n[[shard.server]]\naddress = \"db1\"\n\
    [[shard]]\nname = \"docs0\"\nengine = \"mongodb\"\n[[shard.server]]\naddress = \"m1:27017\"\n";

fn indexes(listed: &[Document]) -> Vec<Index> {
    let own = std::iter::once(Index::of_id());
    own.chain(listed.iter().filter_map(Index::read)).collect()
}

fn proposal(collection: &str, listed: Vec<Document>, sample: &[RawDocumentBuf]) -> String {
    let indexes = indexes(&listed);
    infer(&Subject {
        shard: "docs0",
        collection,
        traits: &Traits::default(),
        indexes: &indexes,
        sample,
    })
}

/// The proposal, which is a configuration by which the same documents have nothing wrong.
fn check(collection: &str, listed: Vec<Document>, sample: &[RawDocumentBuf], expected: Expect) {
    let indexes = indexes(&listed);
    let text = proposal(collection, listed, sample);
    expected.assert_eq(&text);
    let config = Config::parse(Path::new("test"), &format!("{SHARDS}{text}"), &Nothing);
    let config = config.unwrap_or_else(|problems| panic!("{problems}\n{text}"));
    let Place::Documents {
        collection: table, ..
    } = &config.tables.declared[0].place
    else {
        panic!("it is a table of documents");
    };
    assert_eq!(table.collection, collection);
    let mut findings = drift::of_documents(table, sample);
    findings.extend(drift::of_indexes(table, &indexes));
    let errors = findings.iter().filter(|f| f.weight == drift::Weight::Error);
    assert_eq!(errors.collect::<Vec<_>>(), Vec::<&drift::Finding>::new());
}

fn id() -> ObjectId {
    ObjectId::from_bytes([7; 12])
}

#[test]
fn a_column_has_the_type_of_its_values() {
    let day = bson::DateTime::from_millis(86_400_000);
    let time = bson::DateTime::from_millis(86_400_001);
    let uuid = bson::Binary::from(bson::Uuid::from_bytes([1; 16]));
    let bytes = |subtype| bson::Binary {
        subtype,
        bytes: vec![0; 16],
    };
    let decimal: bson::Decimal128 = "1.50".parse().unwrap();
    let sample = [
        rawdoc! { "_id": id(), "isOn": true, "small": 1, "count": 1, "big": 1, "whole": 1.0, "ratio": 1.0, "amount": decimal,
        "mixed": 1, "text": "é", "tag": uuid.clone(), "raw": bytes(bson::spec::BinarySubtype::Generic), "old": bytes(bson::spec::BinarySubtype::UuidOld),
        "day": day, "at": day, "tags": ["a", null], "numbers": [1, 2.5], "owner": id() },
        rawdoc! { "_id": ObjectId::from_bytes([8; 12]), "isOn": false, "small": 2, "count": 2_i64, "big": 9e12, "whole": 2.0, "ratio": 0.5,
        "amount": 2, "mixed": 2.5, "text": null, "tag": uuid.clone(), "raw": bytes(bson::spec::BinarySubtype::Generic), "old": uuid,
        "day": day, "at": time, "tags": [], "numbers": [] },
    ];
    check(
        "things",
        vec![],
        &sample,
        expect![[r##"
            # Proposed from 2 documents of collection "things" and its indexes: what was seen, not what may come.
            [[table]]
            name = "things"
            kind = "documents"
            shards = ["docs0"]

            [[table.column]]
            name = "id"
            path = "_id"
            sql_type = "objectid"
            default = "objectid()"

            [[table.column]]
            name = "is_on"
            path = "isOn"
            sql_type = "bool"
            # not_null = true  # it has a value in all 2 documents

            [[table.column]]
            name = "small"
            sql_type = "int4"
            # not_null = true  # it has a value in all 2 documents

            [[table.column]]
            name = "count"
            sql_type = "int8"
            # not_null = true  # it has a value in all 2 documents

            [[table.column]]
            name = "big"
            # Int32 in 1, Double without a fraction in 1
            sql_type = "int8"
            # not_null = true  # it has a value in all 2 documents

            [[table.column]]
            name = "whole"
            # all without a fraction: int8 may be right
            sql_type = "float8"
            # not_null = true  # it has a value in all 2 documents

            [[table.column]]
            name = "ratio"
            sql_type = "float8"
            # not_null = true  # it has a value in all 2 documents

            [[table.column]]
            name = "amount"
            # Int32 in 1, Decimal128 in 1
            sql_type = "numeric"
            # not_null = true  # it has a value in all 2 documents

            [[table.column]]
            name = "mixed"
            # Int32 in 1, Double in 1
            sql_type = "float8"
            # not_null = true  # it has a value in all 2 documents

            [[table.column]]
            name = "text"
            sql_type = "text"
            # null or left out in 1 of 2 documents

            [[table.column]]
            name = "tag"
            sql_type = "uuid"
            # not_null = true  # it has a value in all 2 documents

            [[table.column]]
            name = "raw"
            sql_type = "bytea"
            # not_null = true  # it has a value in all 2 documents

            [[table.column]]
            name = "old"
            # Binary of subtype 4 in 1, Binary of another subtype than 4 in 1
            sql_type = "bytea"
            # not_null = true  # it has a value in all 2 documents

            [[table.column]]
            name = "day"
            # all at midnight in UTC: date may be right
            sql_type = "timestamptz(3)"
            # not_null = true  # it has a value in all 2 documents

            [[table.column]]
            name = "at"
            sql_type = "timestamptz(3)"
            # not_null = true  # it has a value in all 2 documents

            [[table.column]]
            name = "tags"
            sql_type = "text[]"
            # not_null = true  # it has a value in all 2 documents

            [[table.column]]
            name = "numbers"
            # Int32 in 1, Double in 1
            sql_type = "float8[]"
            # not_null = true  # it has a value in all 2 documents

            [[table.column]]
            name = "owner"
            sql_type = "objectid"
            # null or left out in 1 of 2 documents
        "##]],
    );
}

#[test]
fn nested_documents_are_columns_unless_they_are_not_alike() {
    let sample = [
        rawdoc! { "_id": 1, "address": { "city": "Ulm", "geo": { "lat": 1.5, "lon": 2.5 } }, "days": { "mon": 1, "tue": 2 }, "odd": { "a.b": 1 }, "items": [rawdoc! { "n": 1 }], "empty": {} },
        rawdoc! { "_id": 2, "address": { "city": "Bonn" }, "days": { "wed": 1, "thu": 2 }, "odd": null, "items": [], "address_city": 5 },
        rawdoc! { "_id": 3, "address": null, "days": { "fri": 1, "sat": 2 } },
    ];
    check(
        "Shop.people",
        vec![],
        &sample,
        expect![[r##"
            # Proposed from 3 documents of collection "Shop.people" and its indexes: what was seen, not what may come.
            [[table]]
            name = "shop_people"
            kind = "documents"
            shards = ["docs0"]
            collection = "Shop.people"

            [[table.column]]
            name = "id"
            path = "_id"
            sql_type = "int4"

            [[table.column]]
            name = "address_city"
            path = "address.city"
            sql_type = "text"
            # null or left out in 1 of 3 documents

            [[table.column]]
            name = "address_geo_lat"
            path = "address.geo.lat"
            sql_type = "float8"
            # null or left out in 2 of 3 documents

            [[table.column]]
            name = "address_geo_lon"
            path = "address.geo.lon"
            sql_type = "float8"
            # null or left out in 2 of 3 documents

            [[table.column]]
            name = "days"
            # as a whole: its documents are not alike (6 different names in 3 documents)
            sql_type = "jsonb"
            # not_null = true  # it has a value in all 3 documents

            [[table.column]]
            name = "odd"
            # as a whole: no path may have the name "a.b", which is in it
            sql_type = "jsonb"
            # null or left out in 2 of 3 documents

            [[table.column]]
            name = "items"
            # arrays with elements: Document in 1
            sql_type = "jsonb"
            # null or left out in 1 of 3 documents

            [[table.column]]
            name = "empty"
            # only empty documents
            sql_type = "jsonb"
            # null or left out in 2 of 3 documents

            [[table.column]]
            name = "address_city_2"
            path = "address_city"
            sql_type = "int4"
            # null or left out in 2 of 3 documents
        "##]],
    );
}

#[test]
fn what_cannot_be_decided_is_said() {
    let sample = [
        rawdoc! { "_id": 1, "mixed": 1, "none": null, "list": [], "key": bson::Timestamp { time: 1, increment: 1 }, "$x": 1, "a.b": 2, "7": 3, "zero": "a\0b", "weird\n": 1 },
        rawdoc! { "_id": 2, "mixed": "one", "none": null, "list": [], "both": bson::RawBson::MinKey },
        rawdoc! { "_id": 3, "mixed": { "a": 1 }, "far": bson::DateTime::MAX, "both": 5 },
    ];
    check(
        "odd",
        vec![],
        &sample,
        expect![[r##"
            # Proposed from 3 documents of collection "odd" and its indexes: what was seen, not what may come.
            [[table]]
            name = "odd"
            kind = "documents"
            shards = ["docs0"]

            [[table.column]]
            name = "id"
            path = "_id"
            sql_type = "int4"

            [[table.column]]
            name = "mixed"
            # values of several types: Int32 in 1, String in 1, Document in 1
            sql_type = "jsonb"
            # not_null = true  # it has a value in all 3 documents

            [[table.column]]
            name = "list"
            # only arrays without values: an array such as text[] may be right
            sql_type = "jsonb"
            # null or left out in 1 of 3 documents

            [[table.column]]
            name = "weird_"
            path = """
            weird
            """
            sql_type = "int4"
            # null or left out in 2 of 3 documents

            [[table.column]]
            name = "far"
            # timestamptz(3) does not read all values
            sql_type = "jsonb"
            # null or left out in 2 of 3 documents

            # No column for field "none": only null (null in 2)

            # No column for field "key": BSON type Timestamp, which no column has

            # No column for field "$x": no path may have such a name (Int32 in 1)

            # No column for field "a.b": no path may have such a name (Int32 in 1)

            # No column for field "7": no path may have such a name (Int32 in 1)

            # No column for field "zero": no type reads all of its values (String in 1)

            # No column for field "both": no type reads all of its values (Int32 in 1, MinKey in 1)
        "##]],
    );
}

#[test]
fn unique_indexes_are_keys_where_sql_means_the_same() {
    let sample = [
        rawdoc! { "_id": 1, "email": "a", "name": { "last": "x" }, "n": 1, "tags": ["a"], "code": "q" },
        rawdoc! { "_id": 2, "email": "b", "name": { "last": "x" }, "n": 2, "tags": ["b"] },
    ];
    let unique = |name: &str, key: Document, more: Document| {
        let mut listed = doc! { "key": key, "name": name, "unique": true };
        listed.extend(more);
        listed
    };
    let exists = doc! { "partialFilterExpression": { "code": { "$type": "string" } } };
    let listed = vec![
        doc! { "key": { "n": 1 }, "name": "n_1" },
        unique("mail", doc! { "email": 1 }, doc! {}),
        unique(
            "name.last_1_n_-1",
            doc! { "name.last": 1, "n": -1 },
            doc! { "sparse": true },
        ),
        unique("code_1", doc! { "code": 1 }, exists),
        unique("code_2", doc! { "code": 1, "n": 1 }, doc! {}),
        unique(
            "some",
            doc! { "n": 1 },
            doc! { "partialFilterExpression": { "n": { "$gt": 5 } } },
        ),
        unique(
            "german",
            doc! { "email": 1 },
            doc! { "collation": { "locale": "de" } },
        ),
        unique("tags_1", doc! { "tags": 1 }, doc! {}),
        unique("gone_1", doc! { "gone": 1 }, doc! {}),
    ];
    check(
        "people",
        listed,
        &sample,
        expect![[r##"
            # Proposed from 2 documents of collection "people" and its indexes: what was seen, not what may come.
            [[table]]
            name = "people"
            kind = "documents"
            shards = ["docs0"]

            [[table.column]]
            name = "id"
            path = "_id"
            sql_type = "int4"

            [[table.column]]
            name = "email"
            sql_type = "text"
            # not_null = true  # it has a value in all 2 documents

            [[table.column]]
            name = "name_last"
            path = "name.last"
            sql_type = "text"
            # not_null = true  # it has a value in all 2 documents

            [[table.column]]
            name = "n"
            sql_type = "int4"
            # not_null = true  # it has a value in all 2 documents

            [[table.column]]
            name = "tags"
            sql_type = "text[]"
            # not_null = true  # it has a value in all 2 documents

            [[table.column]]
            name = "code"
            sql_type = "text"
            # null or left out in 1 of 2 documents

            [[table.unique]]
            name = "people_pkey"
            columns = ["id"]

            [[table.unique]]
            name = "people_email_key"
            columns = ["email"]
            index = "mail"

            [[table.unique]]
            name = "people_name_last_n_key"
            columns = ["name_last", "n"]
            index = "name.last_1_n_-1"

            [[table.unique]]
            name = "people_code_key"
            columns = ["code"]
            index = "code_1"

            [[table.unique]]
            name = "people_code_n_key"
            columns = ["code", "n"]
            index = "code_2"
            # Two NULLs are equal to MongoDB.

            # No key for unique index "some" ("n"): it leaves documents out (partialFilterExpression)

            # No key for unique index "german" ("email"): its collation is not "simple": it takes texts for equal that differ

            # No key for unique index "tags_1" ("tags"): "tags" is text[], of which MongoDB may keep parts unique

            # No key for unique index "gone_1" ("gone"): "gone" is no column
        "##]],
    );
}

#[test]
fn another_column_is_the_key_where_the_id_cannot_be_one() {
    let sample = [
        rawdoc! { "_id": { "a": 1 }, "ratio": 0.5, "id": "x" },
        rawdoc! { "_id": "two", "ratio": 0.5, "id": "y" },
    ];
    check(
        "mixed",
        vec![],
        &sample,
        expect![[r##"
            # Proposed from 2 documents of collection "mixed" and its indexes: what was seen, not what may come.
            [[table]]
            name = "mixed"
            kind = "documents"
            shards = ["docs0"]
            # `_id` cannot be a key; another column that is never NULL can.
            key = ["id_2"]

            [[table.column]]
            name = "id"
            path = "_id"
            # values of several types: String in 1, Document in 1
            sql_type = "jsonb"

            [[table.column]]
            name = "ratio"
            sql_type = "float8"
            # not_null = true  # it has a value in all 2 documents

            [[table.column]]
            name = "id_2"
            path = "id"
            sql_type = "text"
            not_null = true  # it has a value in all 2 documents
        "##]],
    );
    let doubles = [rawdoc! { "_id": 1.0 }, rawdoc! { "_id": 2.0 }];
    check(
        "doubles",
        vec![],
        &doubles,
        expect![[r##"
        # Proposed from 2 documents of collection "doubles" and its indexes: what was seen, not what may come.
        [[table]]
        name = "doubles"
        kind = "documents"
        shards = ["docs0"]

        [[table.column]]
        name = "id"
        path = "_id"
        # Double without a fraction in 2
        sql_type = "int8"
    "##]],
    );
}

#[test]
fn a_table_without_a_possible_key_is_called_incomplete() {
    let sample = [rawdoc! { "_id": { "a": 1 } }];
    expect![[r##"
        # Proposed from 1 documents of collection "nothing" and its indexes: what was seen, not what may come.
        # This is not complete: `_id` cannot be a key, so give a `key` of columns that can, with `not_null`.
        [[table]]
        name = "nothing"
        kind = "documents"
        shards = ["docs0"]

        [[table.column]]
        name = "id"
        path = "_id"
        # a document
        sql_type = "jsonb"
    "##]].assert_eq(&proposal("nothing", vec![], &sample));
}
