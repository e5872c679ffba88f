//! A COPY stream divided into rows.
//!
//! Promises: rows, keys, line numbers and errors do not depend on how the stream was cut into messages; the pieces
//! together are the stream, up to its end marker; no row is longer than the limit, and a claimed length allocates
//! nothing; the options of a statement are read alike each time.

use mothership_copy::{CopyOptions, KeyColumn, Piece, RowKey, Rules, Splitter};
use mothership_shardmap::{KeyType, TextContext};

use crate::input::{Input, pieces};
use crate::memory::bounded;

/// What streams and options are made of.
pub const WORDS: &[&str] = &[
    "\\.",
    "\\.\n",
    "\\N",
    "\t",
    "\n",
    "\r\n",
    "\r",
    "\"",
    "\"\"",
    ",",
    "\\\n",
    "\\t",
    "\\x41",
    "\\101",
    "\\\\",
    "k0",
    "PGCOPY\n",
    "DEFAULT",
    "NULL",
    "(FORMAT csv",
    "DELIMITER ';'",
    "QUOTE '!'",
    "HEADER match)",
    "FORCE_NULL (k0)",
];

/// Statements with the options that decide where rows end.
const STATEMENTS: [&str; 12] = [
    "COPY t FROM STDIN",
    "COPY t FROM STDIN CSV",
    "COPY t FROM STDIN (FORMAT binary)",
    "COPY t FROM STDIN (DELIMITER ';', NULL 'nil')",
    "COPY t FROM STDIN (FORMAT csv, HEADER)",
    "COPY t FROM STDIN (FORMAT csv, QUOTE '!', ESCAPE '#', NULL 'x')",
    "COPY t FROM STDIN (HEADER match)",
    "COPY t FROM STDIN (FORMAT csv, FORCE_NULL (k0), DEFAULT 'd')",
    "COPY t FROM STDIN (FORMAT csv, DELIMITER E'\\t', FORCE_NOT_NULL *)",
    "COPY t FROM STDIN (DEFAULT 'd')",
    "COPY BINARY t FROM STDIN",
    "COPY t FROM STDIN (FORMAT csv, ESCAPE '\\')",
];

/// Statement, key, limit and cuts; the rest is the stream, and is read as a statement too.
pub fn check(data: &[u8]) {
    let mut input = Input::new(data);
    let statement = input.one_of(&STATEMENTS);
    let rules = Rules {
        columns: 2,
        key: (0..1 + input.below(2))
            .map(|position| KeyColumn {
                name: format!("k{position}"),
                position,
                key_type: [KeyType::Text, KeyType::Int8][position],
                typmod: -1,
            })
            .collect(),
        context: TextContext::UTC,
        major_version: input.one_of(&[15, 17, 18]),
        row_limit: input.one_of(&[40, 200, 1 << 20]),
    };
    let seed = input.byte();
    let stream = input.rest();
    // A piece as text has four letters for a byte and is kept in a list that doubles; a key is short.
    let limit = 64 * 1024 + stream.len() * 400;
    let whole = bounded(limit, "dividing", || {
        divide(statement, rules.clone(), &[stream])
    });
    let cut = divide(statement, rules.clone(), &pieces(stream, seed));
    assert_eq!(cut.shown, whole.shown, "{statement} by pieces");
    // Of two faults of one row, either may be found first; that there is one is found in any case.
    let too_long = |end: &Result<u64, String>| {
        end.as_ref()
            .is_err_and(|error| error.contains("longer than"))
    };
    let either =
        whole.end.is_err() && cut.end.is_err() && (too_long(&whole.end) || too_long(&cut.end));
    assert!(
        either || cut.end == whole.end,
        "{statement} by pieces: {:?} {:?}",
        cut.end,
        whole.end
    );
    let bytes = &whole.bytes;
    assert!(
        stream.starts_with(bytes),
        "{statement}: the pieces are the stream"
    );
    if whole.end.is_ok() && bytes.len() < stream.len() {
        let rest = &stream[bytes.len()..];
        // In text the marker may end a line that has more than it, and is then part of its piece.
        let marked = [&b"\\."[..], b"\\.\n", b"\\.\r", b"\\.\r\n"]
            .iter()
            .any(|end| bytes.ends_with(end));
        // PostgreSQL takes half of a binary row's field count for the end, too.
        let half = statement.to_ascii_lowercase().contains("binary") && rest.len() == 1;
        assert!(
            marked || half || rest.starts_with(b"\\."),
            "{statement}: {} was left out",
            rest.escape_ascii()
        );
    }
    assert!(
        whole.longest <= rules.row_limit,
        "{statement}: a row over the limit"
    );
    for conforming in [true, false] {
        let read = CopyOptions::parse(stream, conforming);
        assert_eq!(CopyOptions::parse(stream, conforming), read);
        if let Ok(options) = read {
            let _ = Splitter::new(&options, rules.clone()).map(|_| ());
        }
    }
}

/// What came of a stream.
struct Divided {
    shown: Vec<String>,
    bytes: Vec<u8>,
    longest: usize,
    end: Result<u64, String>,
}

fn divide(statement: &str, rules: Rules, bodies: &[&[u8]]) -> Divided {
    let options = CopyOptions::parse(statement.as_bytes(), true).expect("a good statement");
    let mut splitter = Splitter::new(&options, rules).expect("good options");
    let mut divided = Divided {
        shown: Vec::new(),
        bytes: Vec::new(),
        longest: 0,
        end: Ok(0),
    };
    let mut each = |piece: Piece<'_>| {
        let (shown, bytes) = match piece {
            Piece::Header(header) => (format!("header {}", header.height), header.bytes),
            Piece::Trailer(bytes) => ("trailer".to_owned(), bytes),
            Piece::Row(row) => {
                divided.longest = divided.longest.max(row.bytes.len());
                assert!(!row.bytes.is_empty(), "a row is not empty");
                if let RowKey::Values(values) = row.key {
                    assert!(!values.is_empty());
                }
                let shown = format!(
                    "{} {} {} {:?}",
                    row.line, row.height, row.first_height, row.key
                );
                (shown, row.bytes)
            }
        };
        divided
            .shown
            .push(format!("{shown} {}", bytes.escape_ascii()));
        divided.bytes.extend_from_slice(bytes);
    };
    let mut run = || {
        for body in bodies {
            splitter.feed(body, &mut each)?;
        }
        splitter.finish(&mut each)
    };
    let end = run();
    divided.end = match end {
        Ok(()) => Ok(splitter.line()),
        Err(error) => {
            assert_eq!(error.code().len(), 5);
            Err(error.to_string())
        }
    };
    divided
}

/// Streams of each format with their corners.
pub fn seeds() -> Vec<Vec<u8>> {
    let streams: [&[u8]; 12] = [
        b"a\t1\nb\\\n\t2\n\\N\t3\n",
        b"a\t1\r\nb\t2\r\n\\.\r\nignored",
        b"a\rb\r",
        b"\"a\n,\"\"\",x\nb,\n",
        b"k0,\"v\n\"\nb,\n\\.\n",
        b"PGCOPY\n\xff\r\n\0\0\0\0\0\0\0\0\0\0\x02\0\0\0\x01a\xff\xff\xff\xff\xff\xff",
        b"PGCOPY\n\xff\r\n\0\0\0\0\0\0\0\0\0\0\x02\x7f\xff\xff\xff",
        b"PGCOPY\n\xff\r\n\0\0\0\0\0\0\0\0\x02xy\0\x02\0\0\0\x01b\0\0\0\x08\0\0\0\0\0\0\0\x05\xff\xff",
        b"nil;2\nd;3\n",
        b"!a#!!,1\nx,2\n",
        b"a,\"\n\"\nb,\"\n\"\nc,\n",
        b"COPY t (a, b) FROM STDIN WITH (FORMAT csv, DELIMITER ';', QUOTE '!', HEADER match, FORCE_NULL (a))",
    ];
    let mut seeds = Vec::new();
    for statement in 0..STATEMENTS.len() {
        for (number, stream) in streams.iter().enumerate() {
            let head = [
                statement as u8,
                1,
                number as u8,
                1 + (number % 2) as u8,
                number as u8,
            ];
            seeds.push([&head[..], stream].concat());
        }
    }
    seeds
}
