//! The cases as text: rows with a number and a title, and under each what a client
//! asks and what is expected. `a.txt` begins with a description of the signs.

/// The files, one for each part of the list.
const FILES: [&str; 6] = [
    include_str!("a.txt"),
    include_str!("b.txt"),
    include_str!("c.txt"),
    include_str!("d.txt"),
    include_str!("e.txt"),
    include_str!("f.txt"),
];

/// One kind of statement that a shard router must get right.
pub struct Row {
    pub number: usize,
    pub title: &'static str,
    pub sessions: Vec<Vec<Request>>,
    /// Tests elsewhere that show what no statement alone can.
    pub tests: Vec<&'static str>,
    /// Why there is nothing to ask.
    pub absent: Option<&'static str>,
}

/// One request of a client, with what is expected.
pub struct Request {
    pub expected: Expected,
    pub sql: &'static str,
    pub manner: Manner,
}

impl Request {
    /// Whether no table can be other than before.
    pub fn only_reads(&self) -> bool {
        let words = [
            "SELECT", "VALUES", "TABLE", "(", "BEGIN", "SET ", "ROLLBACK",
        ];
        words.iter().any(|word| self.sql.starts_with(word))
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Expected {
    /// The answer of one PostgreSQL.
    Equal,
    /// A reason of docs/refused.md, or the message itself.
    Refused(&'static str),
    /// The shape of PostgreSQL's answer; values differ by this letter of docs/differences.md.
    Differs(&'static str),
}

/// How a statement is sent.
pub enum Manner {
    /// In the protocol of the run.
    Plain,
    /// As a simple query always.
    Simple,
    /// With parameters of these types, as text.
    Bind(Vec<u32>, Vec<Option<Vec<u8>>>),
    /// The same in the binary form, parameters and rows.
    Binary(Vec<u32>, Vec<Option<Vec<u8>>>),
    /// COPY FROM STDIN with this data; with what COPY is given up, if it is.
    Copy(String, bool),
    /// Rows in portions of this size.
    Portions(u32),
}

/// All rows in their order.
pub fn rows() -> Vec<Row> {
    let mut rows: Vec<Row> = Vec::new();
    for line in FILES.into_iter().flat_map(str::lines) {
        let Some((sign, rest)) = line.trim().split_once(' ') else {
            match (line.trim(), rows.last_mut()) {
                ("", _) | ("}", _) => {}
                ("{", Some(row)) => row.sessions.push(Vec::new()),
                _ => panic!("{line}"),
            }
            continue;
        };
        let inside = line.starts_with(' ');
        match sign {
            "--" => {}
            "##" => {
                let (number, title) = rest.split_once(' ').unwrap();
                rows.push(Row {
                    number: number.parse().unwrap(),
                    title,
                    sessions: Vec::new(),
                    tests: Vec::new(),
                    absent: None,
                });
            }
            ">" => rows.last_mut().unwrap().tests.push(rest),
            "none" => rows.last_mut().unwrap().absent = Some(rest),
            _ => {
                let row = rows.last_mut().unwrap();
                if !inside {
                    row.sessions.push(Vec::new());
                }
                row.sessions.last_mut().unwrap().push(request(sign, rest));
            }
        }
    }
    rows
}

fn request(sign: &str, rest: &'static str) -> Request {
    let (expected, text) = match sign {
        "=" => (Expected::Equal, rest),
        "!" | "~" => {
            let (why, text) = rest.split_once(" | ").unwrap_or_else(|| panic!("{rest}"));
            match sign {
                "!" => (Expected::Refused(why), text),
                _ => (Expected::Differs(why), text),
            }
        }
        _ => panic!("{sign} {rest}"),
    };
    let (sql, manner) = manner(text);
    Request {
        expected,
        sql,
        manner,
    }
}

/// `bind(int8, text) SELECT ... <- 5 ; x` and the like.
fn manner(text: &'static str) -> (&'static str, Manner) {
    let called = |name: &str| {
        let rest = text.strip_prefix(name)?.strip_prefix('(')?;
        rest.split_once(") ")
    };
    let with = |sql: &'static str| sql.rsplit_once(" <- ").unwrap_or((sql, ""));
    if let Some((types, rest)) = called("bind") {
        let (sql, values) = with(rest);
        let values = values.split(" ; ").filter(|v| !v.is_empty());
        let values = values.map(|v| (v != "NULL").then(|| v.as_bytes().to_vec()));
        return (sql, Manner::Bind(oids(types), values.collect()));
    }
    if let Some((types, rest)) = called("binary") {
        let (sql, values) = with(rest);
        let values = values.split(" ; ").map(|v| (v != "NULL").then(|| hex(v)));
        return (sql, Manner::Binary(oids(types), values.collect()));
    }
    if let Some((size, sql)) = called("portions") {
        return (sql, Manner::Portions(size.parse().unwrap()));
    }
    if let Some(sql) = text.strip_prefix("simple ") {
        return (sql, Manner::Simple);
    }
    for (word, fail) in [("copy ", false), ("giveup ", true)] {
        if let Some(rest) = text.strip_prefix(word) {
            let (sql, data) = with(rest);
            let data = data.replace("\\n", "\n").replace("\\t", "\t");
            return (sql, Manner::Copy(data, fail));
        }
    }
    (text, Manner::Plain)
}

fn hex(digits: &str) -> Vec<u8> {
    let pairs = (0..digits.len()).step_by(2);
    pairs
        .map(|at| u8::from_str_radix(&digits[at..at + 2], 16).unwrap())
        .collect()
}

fn oids(names: &str) -> Vec<u32> {
    let names = names.split(", ").filter(|name| !name.is_empty());
    names
        .map(|name| match name {
            "unknown" => 0,
            "int2" => 21,
            "int4" => 23,
            "int8" => 20,
            "text" => 25,
            "numeric" => 1700,
            "float8" => 701,
            "uuid" => 2950,
            "int8[]" => 1016,
            "timestamptz" => 1184,
            other => panic!("{other}"),
        })
        .collect()
}
