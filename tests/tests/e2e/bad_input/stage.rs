//! Sessions of others, and how answers are compared with PostgreSQL's.

use mothership_tests::endpoint::Served;
use mothership_tests::frame::{Frame, show};
use mothership_tests::wire::Silence;
use mothership_tests::{Endpoint, Wire};
use std::time::Duration;

/// Every answer and every wait of these tests ends within it.
pub const LIMIT: Duration = Duration::from_secs(30);

/// Sessions of others: whatever a client does, they go on as if it were not there.
pub struct Bystanders {
    pub inside: Wire,
    pub outside: Wire,
    pub backend: Vec<Vec<String>>,
}

impl Bystanders {
    pub fn of(endpoint: &Endpoint) -> Bystanders {
        let (mut inside, mut outside) = (Wire::login(endpoint), Wire::login(endpoint));
        inside.rows("BEGIN");
        inside.rows("SET LOCAL work_mem = '1234kB'");
        outside.rows("SET application_name = 'bystander'");
        let backend = inside.rows("SELECT pg_backend_pid()");
        Bystanders {
            inside,
            outside,
            backend,
        }
    }

    /// Asks both; each must have its own answer, its own settings, and nothing besides.
    pub fn noticed_nothing(&mut self) {
        assert_eq!(self.inside.rows("SELECT pg_backend_pid()"), self.backend);
        let expected =
            "RowDescription work_mem\nDataRow 1234kB\nCommandComplete SHOW\nReadyForQuery T\n";
        assert_eq!(show(&self.inside.query("SHOW work_mem")), expected);
        let expected = "RowDescription application_name\nDataRow bystander\nCommandComplete SHOW\nReadyForQuery I\n";
        assert_eq!(show(&self.outside.query("SHOW application_name")), expected);
        assert_eq!(self.outside.rows("SELECT 40 + 2"), [["42"]]);
    }
}

/// What is said to these bytes, a line for each message, up to the connection's end or the last ReadyForQuery.
pub fn answers(wire: &mut Wire, bytes: &[u8], readies: usize) -> Vec<String> {
    wire.set_limit(LIMIT);
    let mut lines = Vec::new();
    if wire.try_send(bytes).is_err() {
        // Closed while we were still speaking; what was said before is there to be read.
        lines.push("cut off".to_owned());
    }
    let mut left = readies;
    while left > 0 {
        match wire.try_frame(LIMIT) {
            Ok(frame) => {
                left -= usize::from(frame.kind == b'Z');
                lines.push(line(&frame));
            }
            Err(Silence::Closed) => {
                lines.push("closed".to_owned());
                break;
            }
            Err(Silence::Late) => panic!("nothing more within {LIMIT:?} after {lines:?}"),
        }
    }
    lines
}

pub fn line(frame: &Frame) -> String {
    match frame.kind {
        b'E' => format!("{} {frame}", frame.field('S').unwrap_or_default()),
        _ => frame.to_string(),
    }
}

/// The router says to these bytes what PostgreSQL says.
pub fn check_alike(server: &Served, what: &str, bytes: &[u8], readies: usize) {
    let direct = server.shards.endpoint(0);
    let expected = answers(&mut Wire::login(&direct), bytes, readies);
    let actual = answers(&mut Wire::login(server), bytes, readies);
    assert_eq!(actual, expected, "{what}");
}

/// The same, but for the words of a protocol violation: PostgreSQL has several for what is one to us.
pub fn check_violation(server: &Served, what: &str, bytes: &[u8], readies: usize) {
    let direct = server.shards.endpoint(0);
    let shortened = |lines: Vec<String>| -> Vec<String> {
        let short = |line: String| match line.split_once("Error 08P01") {
            Some((severity, _)) => format!("{severity}Error 08P01"),
            None => line,
        };
        lines.into_iter().map(short).collect()
    };
    let expected = shortened(answers(&mut Wire::login(&direct), bytes, readies));
    let actual = shortened(answers(&mut Wire::login(server), bytes, readies));
    assert_eq!(actual, expected, "{what}");
}

/// A message whose length is not that of its body.
pub fn with_length(kind: u8, length: i32, body: &[u8]) -> Vec<u8> {
    [&[kind][..], &length.to_be_bytes(), body].concat()
}

pub const KINDS: &[u8] = b"QPBDECHSFpdcfX";
