//! pgwire as the judge of our messages: it reads what we write, and we read what it writes. Somebody else wrote it from
//! the same chapter of PostgreSQL's documentation ("Message Formats").

#![allow(clippy::unwrap_used)] // What does not decode says where.

use bytes::BytesMut;
use mothership_proto::backend::{self, Column, TxStatus};
use mothership_proto::frame;
use mothership_proto::frontend::{self, Bind, Parse, Target};
use mothership_proto::report::Report;
use pgwire::messages::{
    DecodeContext, PgWireBackendMessage as Backend, PgWireFrontendMessage as Frontend, data,
    extendedquery, response, simplequery,
};
use proptest::prelude::*;

/// Decodes all of it; what is left over or short is an error.
fn decoded(bytes: &[u8]) -> Vec<Backend> {
    let mut bytes = BytesMut::from(bytes);
    let mut messages = Vec::new();
    while !bytes.is_empty() {
        let context = DecodeContext::default();
        messages.push(Backend::decode(&mut bytes, &context).unwrap().unwrap());
    }
    messages
}

/// The only message in what `write` writes, which pgwire also writes byte for byte as we do.
fn written(write: impl FnOnce(&mut Vec<u8>)) -> Backend {
    let mut ours = Vec::new();
    write(&mut ours);
    let mut messages = decoded(&ours);
    assert_eq!(messages.len(), 1, "one message is one message");
    let message = messages.remove(0);
    let mut theirs = BytesMut::new();
    message.encode(&mut theirs).unwrap();
    assert_eq!(theirs, ours, "{message:?}");
    message
}

/// The body of a message that pgwire wrote.
fn body(message: &Frontend) -> Vec<u8> {
    let mut bytes = BytesMut::new();
    message.encode(&mut bytes).unwrap();
    bytes[frame::HEADER..].to_vec()
}

fn name() -> impl Strategy<Value = String> {
    prop_oneof![Just(String::new()), "[a-zA-Z0-9_ \"'é世-]{1,12}"]
}

/// pgwire has no name where we have an empty one.
fn named(name: &str) -> Option<String> {
    (!name.is_empty()).then(|| name.to_owned())
}

fn value() -> impl Strategy<Value = Option<Vec<u8>>> {
    proptest::option::of(proptest::collection::vec(any::<u8>(), 0..20))
}

fn column() -> impl Strategy<Value = Column> {
    let numbers = any::<(u32, i16, u32, i16, i32)>();
    ("[a-z?é]{0,9}", numbers, 0..2_i16).prop_map(|(name, numbers, format)| {
        let (table, attribute, type_oid, type_size, modifier) = numbers;
        Column {
            name: name.into_bytes(),
            table,
            attribute,
            type_oid,
            type_size,
            modifier,
            format,
        }
    })
}

proptest! {
    #[test]
    fn it_reads_our_columns_and_rows(
        columns in proptest::collection::vec(column(), 0..9),
        values in proptest::collection::vec(value(), 0..9),
    ) {
        let Backend::RowDescription(read) = written(|out| backend::put_columns(out, &columns)) else {
            panic!("no RowDescription");
        };
        for (ours, theirs) in columns.iter().zip(&read.fields) {
            prop_assert_eq!(&ours.name, theirs.name.as_bytes());
            prop_assert_eq!(ours.table as i32, theirs.table_id);
            prop_assert_eq!(ours.attribute, theirs.column_id);
            prop_assert_eq!(ours.type_oid, theirs.type_id);
            prop_assert_eq!(ours.type_size, theirs.type_size);
            prop_assert_eq!(ours.modifier, theirs.type_modifier);
            prop_assert_eq!(ours.format, theirs.format_code);
        }
        prop_assert_eq!(columns.len(), read.fields.len());
        let row = written(|out| backend::put_row(out, values.iter().map(Option::as_deref)));
        let Backend::DataRow(data::DataRow { data, field_count, .. }) = row else {
            panic!("no DataRow");
        };
        prop_assert_eq!(usize::try_from(field_count).unwrap(), values.len());
        let mut expected = Vec::new();
        for value in &values {
            let length = value.as_ref().map_or(-1, |value| value.len() as i32);
            expected.extend_from_slice(&length.to_be_bytes());
            expected.extend_from_slice(value.as_deref().unwrap_or_default());
        }
        prop_assert_eq!(&data[..], &expected[..]);
    }

    #[test]
    fn it_reads_our_reports(message in "[a-z\"é ]{0,40}", detail in "[a-z\n]{0,40}", hint in "[a-z.]{0,40}") {
        for (report, severity) in [
            (Report::error("0A000", message.clone()), "ERROR"),
            (Report::fatal("57P01", message.clone()), "FATAL"),
            (Report::notice(message.clone()), "NOTICE"),
        ] {
            let report = report.detail(detail.clone()).hint(hint.clone());
            let fields = match written(|out| report.put(out)) {
                Backend::ErrorResponse(response::ErrorResponse { fields, .. }) if severity != "NOTICE" => fields,
                Backend::NoticeResponse(response::NoticeResponse { fields, .. }) if severity == "NOTICE" => fields,
                other => panic!("{other:?}"),
            };
            let field = |code: u8| {
                let mut found = fields.iter().filter(|(known, _)| *known == code);
                found.next().map(|(_, text)| text.clone()).unwrap_or_default()
            };
            prop_assert_eq!(field(b'S'), severity);
            prop_assert_eq!(field(b'V'), severity);
            prop_assert_eq!(field(b'M'), message.clone());
            prop_assert_eq!(field(b'D'), detail.clone());
            prop_assert_eq!(field(b'H'), hint.clone());
        }
    }

    #[test]
    fn we_read_its_parse_and_bind(
        names in (name(), name()),
        query in "[a-z$1é ]{0,60}",
        types in proptest::collection::vec(any::<u32>(), 0..5),
        values in proptest::collection::vec(value(), 0..5),
        format in 0..2_i16,
        results in proptest::collection::vec(0..2_i16, 0..4),
    ) {
        let (portal, statement) = names;
        let theirs = extendedquery::Parse::new(named(&statement), query.clone(), types.clone());
        let bytes = body(&Frontend::Parse(theirs));
        let parse = Parse::read(&bytes).unwrap();
        prop_assert_eq!(parse.name, statement.as_bytes());
        prop_assert_eq!(parse.sql, query.as_bytes());
        prop_assert_eq!(parse.type_oids().collect::<Vec<_>>(), types);

        let parameters = values.iter().map(|value| value.clone().map(Into::into)).collect();
        let theirs = extendedquery::Bind::new(
            named(&portal), named(&statement), vec![format], parameters, results.clone(),
        );
        let bytes = body(&Frontend::Bind(theirs));
        let bind = Bind::read(&bytes).unwrap();
        prop_assert_eq!(bind.portal, portal.as_bytes());
        prop_assert_eq!(bind.statement, statement.as_bytes());
        let read: Vec<(i16, Option<Vec<u8>>)> =
            bind.values().map(|(format, value)| (format, value.map(<[u8]>::to_vec))).collect();
        prop_assert_eq!(read, values.iter().map(|value| (format, value.clone())).collect::<Vec<_>>());
        prop_assert_eq!(bind.result_formats().collect::<Vec<_>>(), results);
    }

    #[test]
    fn we_read_its_short_messages(name in name(), rows in any::<i32>(), query in "[a-z;'é ]{0,60}") {
        let bytes = body(&Frontend::Query(simplequery::Query::new(query.clone())));
        prop_assert_eq!(frontend::query(&bytes).unwrap(), query.as_bytes());
        let bytes = body(&Frontend::Execute(extendedquery::Execute::new(named(&name), rows)));
        prop_assert_eq!(frontend::execute(&bytes).unwrap(), (name.as_bytes(), rows));
        for (kind, target) in [(b'S', Target::Statement), (b'P', Target::Portal)] {
            let describe = Frontend::Describe(extendedquery::Describe::new(kind, named(&name)));
            let close = Frontend::Close(extendedquery::Close::new(kind, named(&name)));
            for message in [describe, close] {
                let bytes = body(&message);
                prop_assert_eq!(frontend::target(&bytes).unwrap(), (target, name.as_bytes()));
            }
        }
    }
}

#[test]
fn it_reads_our_short_messages() {
    use Backend::*;
    for (status, byte) in [
        (TxStatus::Idle, b'I'),
        (TxStatus::Open, b'T'),
        (TxStatus::Failed, b'E'),
    ] {
        let ReadyForQuery(ready) = written(|out| backend::put_ready(out, status)) else {
            panic!("no ReadyForQuery");
        };
        assert_eq!(ready.status as u8, byte);
    }
    let complete = written(|out| backend::put_complete(out, b"INSERT 0 5"));
    assert!(matches!(complete, CommandComplete(complete) if complete.tag == "INSERT 0 5"));
    let parameter = written(|out| backend::put_parameter(out, b"TimeZone", b"UTC"));
    assert!(
        matches!(parameter, ParameterStatus(status) if status.name == "TimeZone" && status.value == "UTC")
    );
    let constant = |bytes: &[u8]| written(|out| out.extend_from_slice(bytes));
    assert!(matches!(
        constant(backend::PARSE_COMPLETE),
        ParseComplete(_)
    ));
    assert!(matches!(constant(backend::BIND_COMPLETE), BindComplete(_)));
    assert!(matches!(
        constant(backend::CLOSE_COMPLETE),
        CloseComplete(_)
    ));
    assert!(matches!(constant(backend::NO_DATA), NoData(_)));
    assert!(matches!(
        constant(backend::EMPTY_QUERY),
        EmptyQueryResponse(_)
    ));
    assert!(matches!(
        constant(backend::PORTAL_SUSPENDED),
        PortalSuspended(_)
    ));
    let none = constant(backend::NO_PARAMETERS);
    assert!(matches!(none, ParameterDescription(none) if none.types.is_empty()));
}
