//! The splitter without a server: what it makes of streams, and that it does not matter where they are cut.
//! Whether PostgreSQL agrees is asked in `tests/tests/e2e/copy.rs`.

use super::*;
use proptest::prelude::*;

/// A piece as text: `H` a header, `T` the trailer, a row as `line key bytes`.
type Pieces = Result<Vec<String>, CopyError>;

fn rules(key: &[(usize, KeyType)], version: u16) -> Rules {
    let column = |(position, key_type): &(usize, KeyType)| KeyColumn {
        name: format!("k{position}"),
        position: *position,
        key_type: *key_type,
        typmod: -1,
    };
    Rules {
        columns: 2,
        key: key.iter().map(column).collect(),
        context: TextContext::UTC,
        major_version: version,
        row_limit: 60,
    }
}

fn show(piece: Piece<'_>) -> String {
    let (head, bytes) = match piece {
        Piece::Header(header) => (format!("H{}", header.height), header.bytes),
        Piece::Trailer(bytes) => ("T".into(), bytes),
        Piece::Row(row) => {
            let key = match row.key {
                RowKey::Values(values) => {
                    let text = |value: &KeyBytes| value.as_bytes().escape_ascii().to_string();
                    values.iter().map(text).collect::<Vec<_>>().join(",")
                }
                other => format!("{other:?}"),
            };
            (format!("{} {key}", row.line), row.bytes)
        }
    };
    format!("{head} {}", bytes.escape_ascii())
}

fn split(options: &str, rules: Rules, bodies: &[&[u8]]) -> Pieces {
    let sql = format!("COPY t FROM STDIN {options}");
    let options = CopyOptions::parse(sql.as_bytes(), true).unwrap();
    let mut splitter = Splitter::new(&options, rules).unwrap();
    let mut pieces = Vec::new();
    for body in bodies {
        splitter.feed(body, |piece| pieces.push(show(piece)))?;
    }
    splitter.finish(|piece| pieces.push(show(piece)))?;
    Ok(pieces)
}

fn check(options: &str, version: u16, stream: &str, wanted: &[&str]) {
    let key = [(0, KeyType::Text)];
    let wanted = Ok(wanted.iter().map(ToString::to_string).collect());
    let whole = split(options, rules(&key, version), &[stream.as_bytes()]);
    assert_eq!(whole, wanted, "{options} {stream:?}");
    let bytes: Vec<&[u8]> = stream.as_bytes().chunks(1).collect();
    assert_eq!(
        split(options, rules(&key, version), &bytes),
        wanted,
        "{options} {stream:?}"
    );
}

// See: pgdog#1062, #744, #720
#[test]
fn rows_are_whole_wherever_the_stream_is_cut() {
    check(
        "",
        15,
        "a\t1\nb\\\n\tx\n",
        &["1 a a\\t1\\n", "2 b\\n b\\\\\\n\\tx\\n"],
    );
    check("", 15, "a\r\nb", &["1 a a\\r\\n", "2 b b"]);
    check("", 15, "a\rb\r", &["1 a a\\r", "2 b b\\r"]);
    check(
        "CSV",
        15,
        "\"a\n,\"\"\",x\nb,\n",
        &["1 a\\n,\\\" \\\"a\\n,\\\"\\\"\\\",x\\n", "2 b b,\\n"],
    );
    check(
        "CSV HEADER",
        15,
        "k0,\"v\n\"\nb,\n",
        &["H1 k0,\\\"v\\n\\\"\\n", "2 b b,\\n"],
    );
    // Of the first line PostgreSQL does not know yet that its lines end in \n; of later ones it does.
    check(
        "CSV",
        15,
        "a,\"\n\"\nb,\"\n\"\nc,\n",
        &["1 a a,\\\"\\n\\\"\\n", "3 b b,\\\"\\n\\\"\\n", "4 c c,\\n"],
    );
    check("(HEADER)", 15, "k0\tv", &["H1 k0\\tv"]);
    check("", 15, "", &[]);
}

#[test]
fn the_end_marker_ends_the_stream_as_the_version_says() {
    check("", 15, "a\n\\.\nb\\.x", &["1 a a\\n"]);
    check("", 15, "a\\.\nb\n", &["1 a a\\\\.\\n"]);
    check("", 15, "\\\\.\n", &["1 \\\\. \\\\\\\\.\\n"]);
    check("CSV", 17, "a\n\\.\nb\n", &["1 a a\\n"]);
    check(
        "CSV",
        18,
        "a\n\\.\nb\n",
        &["1 a a\\n", "2 \\\\. \\\\.\\n", "3 b b\\n"],
    );
    check("CSV", 15, "\\.,\n", &["1 \\\\. \\\\.,\\n"]);
    check(
        "CSV",
        15,
        "\"\n\\.\n\"\n",
        &["1 \\n\\\\.\\n \\\"\\n\\\\.\\n\\\"\\n"],
    );
}

// See: pgdog#721
#[test]
fn rows_without_a_certain_key_say_why() {
    check("", 15, "\\N\tx\n", &["1 Null { column: 0 } \\\\N\\tx\\n"]);
    check(
        "CSV",
        15,
        "\"\",x\n,x\n",
        &["1  \\\"\\\",x\\n", "2 Null { column: 0 } ,x\\n"],
    );
    let default = "(DEFAULT '\\D')";
    check(
        default,
        16,
        "\\D\tx\n",
        &["1 Unsure { column: 0 } \\\\D\\tx\\n"],
    );
    check(default, 16, "\\\\D\tx\n", &["1 \\\\D \\\\\\\\D\\tx\\n"]);
    check(
        "",
        15,
        "\\xff\tx\n",
        &["1 Refused { column: 0 } \\\\xff\\tx\\n"],
    );

    let second = |stream: &str| split("", rules(&[(1, KeyType::Bool)], 15), &[stream.as_bytes()]);
    assert_eq!(second("x\n").unwrap(), ["1 Refused { column: 0 } x\\n"]);
    assert_eq!(
        second("x\tmaybe\n").unwrap(),
        ["1 Refused { column: 0 } x\\tmaybe\\n"]
    );
    assert_eq!(
        second("x\tyes\textra\n").unwrap(),
        ["1 \\x01 x\\tyes\\textra\\n"]
    );
}

#[test]
fn a_key_of_two_columns_is_in_the_order_of_the_key() {
    let key = [(1, KeyType::Text), (0, KeyType::Bool)];
    let rows = split("", rules(&key, 15), &[b"t\tx\n\\N\ty\nz\t\\N\n"]).unwrap();
    let wanted = [
        "1 x,\\x01 t\\tx\\n",
        "2 Null { column: 1 } \\\\N\\ty\\n",
        // PostgreSQL refuses the row for its first column, whatever the second is.
        "3 Refused { column: 1 } z\\t\\\\N\\n",
    ];
    assert_eq!(rows, wanted);
}

#[test]
fn encodings_other_than_utf8_are_certain_for_ascii_only() {
    let latin1 = |stream: &[u8]| {
        split(
            "(ENCODING 'LATIN1')",
            rules(&[(0, KeyType::Text)], 15),
            &[stream],
        )
    };
    assert_eq!(latin1(b"a\n").unwrap(), ["1 a a\\n"]);
    assert_eq!(
        latin1(b"\xfc\n").unwrap(),
        ["1 Unsure { column: 0 } \\xfc\\n"]
    );
    let options = CopyOptions::parse("COPY t FROM STDIN (NULL 'ü')".as_bytes(), true).unwrap();
    let mut other = rules(&[], 15);
    assert!(Splitter::new(&options, other.clone()).is_ok());
    other.context = TextContext::UNKNOWN;
    assert!(matches!(
        Splitter::new(&options, other),
        Err(OptionError::NotAscii)
    ));
}

#[test]
fn broken_streams_are_refused_in_the_words_of_postgres() {
    let error = |options: &str, stream: &[u8]| {
        let key = [(0, KeyType::Text)];
        split(options, rules(&key, 15), &[stream])
            .unwrap_err()
            .to_string()
    };
    assert_eq!(
        error("", b"a\nb\r\n"),
        "literal carriage return found in data"
    );
    assert_eq!(error("", b"a\r\nb\n"), "literal newline found in data");
    assert_eq!(error("CSV", b"a\r\nb\n"), "unquoted newline found in data");
    assert_eq!(error("", b"a\n\\.x\n"), "end-of-copy marker corrupt");
    assert_eq!(
        error("", b"a\r\n\\.\n"),
        "end-of-copy marker does not match previous newline style"
    );
    assert_eq!(error("CSV", b"\"a"), "unterminated CSV quoted field");
    assert_eq!(
        error("", &[b'a'; 100]),
        "a row of COPY is longer than 60 bytes"
    );
    assert_eq!(error("BINARY", b""), "COPY file signature not recognized");
    assert_eq!(
        error("BINARY", b"PGCOPX"),
        "COPY file signature not recognized"
    );
    let header = b"PGCOPY\n\xff\r\n\0\0\0\0\0\0\0\0\0";
    let after = |rest: &[u8]| error("BINARY", &[&header[..], rest].concat());
    assert_eq!(
        error("BINARY", &header[..12]),
        "invalid COPY file header (missing flags)"
    );
    assert_eq!(
        after(&[0, 1, 0, 0, 0, 0]),
        "row field count is 1, expected 2"
    );
    assert_eq!(after(&[0, 2, 0xff, 0xff, 0xff, 0xfe]), "invalid field size");
    assert_eq!(after(&[0, 2, 0, 0, 0, 1]), "unexpected EOF in COPY data");
    assert_eq!(
        after(&[0xff, 0xff, 0]),
        "received copy data after EOF marker"
    );
    assert_eq!(
        after(&[0, 2, 0x7f, 0, 0, 0]),
        "a row of COPY is longer than 60 bytes"
    );
}

#[test]
fn binary_streams_need_no_trailer() {
    let header = b"PGCOPY\n\xff\r\n\0\0\0\0\0\0\0\0\x01x";
    let row = [0, 2, 0, 0, 0, 1, b'a', 0xff, 0xff, 0xff, 0xff];
    let null = [0, 2, 0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0];
    let stream = [&header[..], &row, &null, &[0xff, 0xff]].concat();
    let key = [(0, KeyType::Text)];
    let bytes: Vec<&[u8]> = stream.chunks(1).collect();
    let pieces = split("BINARY", rules(&key, 15), &bytes).unwrap();
    assert_eq!(pieces.len(), 4);
    assert!(pieces[1].starts_with("1 a ") && pieces[2].starts_with("2 Null"));
    assert_eq!(pieces[3], "T \\xff\\xff");
    let short = split("BINARY", rules(&key, 15), &[&stream[..stream.len() - 2]]).unwrap();
    assert_eq!(short, pieces[..3]);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(3000))]
    #[test]
    fn cuts_change_nothing_and_no_stream_panics(
        options in proptest::sample::select(vec![
            "", "(HEADER)", "CSV", "CSV HEADER ESCAPE '\\'", "(FORMAT csv, QUOTE '!', DELIMITER '\\', FORCE_NULL *)", "BINARY",
        ]),
        pieces in proptest::collection::vec(proptest::sample::select(vec![
            &b"a"[..], b"\t", b",", b"\n", b"\n", b"\r", b"\r\n", b"\\", b"\\.", b"\"", b"!", b"\\N", b"\xff\xff", b"\0\x02",
            b"\0\0\0\x01", b"\0\0\0\x02", b"\xff\xff\xff\xff", b"1", b"\xc3\xbc",
        ]), 0..30),
        cuts in proptest::collection::vec(1usize..9, 1..20),
    ) {
        let mut stream = pieces.concat();
        if options == "BINARY" {
            stream.splice(0..0, *b"PGCOPY\n\xff\r\n\0\0\0\0\0\0\0\0\0");
        }
        let key = [(1, KeyType::Text), (0, KeyType::Int8)];
        let whole = split(options, rules(&key, 15), &[&stream]);
        let mut bodies = Vec::new();
        let mut rest = &stream[..];
        for cut in cuts.iter().cycle() {
            let (body, after) = rest.split_at((*cut).min(rest.len()));
            bodies.push(body);
            rest = after;
            if rest.is_empty() {
                break;
            }
        }
        let cut = split(options, rules(&key, 15), &bodies);
        // Which of two errors is met first may depend on the cuts; that there is one may not.
        prop_assert_eq!(cut.clone().ok(), whole.clone().ok(), "{:?} {:?}", cut, whole);
        // Pieces are the client's bytes, in order, up to the end marker.
        let options = CopyOptions::parse(format!("COPY t FROM STDIN {options}").as_bytes(), true).unwrap();
        let mut splitter = Splitter::new(&options, rules(&key, 15)).unwrap();
        let mut passed = Vec::new();
        for body in bodies {
            let emit = |piece: Piece<'_>| match piece {
                Piece::Header(header) => passed.extend_from_slice(header.bytes),
                Piece::Row(row) => passed.extend_from_slice(row.bytes),
                Piece::Trailer(bytes) => passed.extend_from_slice(bytes),
            };
            if splitter.feed(body, emit).is_err() {
                break;
            }
        }
        prop_assert!(stream.starts_with(&passed));
    }
}

// Found by the fuzz target `copy`.
#[test]
fn a_binary_header_over_the_limit_goes_to_nobody_whole_or_cut() {
    let header = |extension: usize| {
        let length = i32::try_from(extension).unwrap().to_be_bytes();
        let fixed = [&binary::SIGNATURE[..], &[0; 4], &length].concat();
        [fixed, vec![0xff; extension]].concat()
    };
    let options = CopyOptions::parse(b"COPY t FROM STDIN (FORMAT binary)", true).unwrap();
    let fixed = header(0).len();
    // The longest header that is taken, and one byte more.
    for (length, taken) in [(60, 1), (61, 0)] {
        let stream = header(length - fixed);
        for cut in 1..=stream.len() {
            let mut splitter = Splitter::new(&options, rules(&[(0, KeyType::Text)], 15)).unwrap();
            let mut pieces = 0;
            let fed =
                (stream.chunks(cut)).try_for_each(|body| splitter.feed(body, |_| pieces += 1));
            let wanted = match taken {
                0 => Err(CopyError::RowTooLong { limit: 60 }),
                _ => Ok(()),
            };
            assert_eq!((pieces, fed), (taken, wanted), "{length} by {cut}");
        }
    }
}
