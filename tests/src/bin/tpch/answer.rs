//! What a server says to a query, and whether two of them say the same.

use crate::queries::Query;
use mothership_tests::Wire;
use mothership_tests::frame::Frame;

type Row = Vec<Option<Vec<u8>>>;

/// What a server said.
pub enum Answer {
    Rows(Vec<Column>, Vec<Row>),
    Error { code: String, message: String },
}

/// Its name, type and modifier.
#[derive(Debug, PartialEq, Eq)]
pub struct Column(String, u32, i32);

/// Asks by a simple query.
pub fn ask(wire: &mut Wire, sql: &str) -> Answer {
    let frames = wire.query(sql);
    if let Some(error) = frames.iter().find(|frame| frame.kind == b'E') {
        let message = error.field('M').unwrap_or_default();
        return Answer::Error {
            code: error.sqlstate(),
            message,
        };
    }
    let head = frames.iter().find(|frame| frame.kind == b'T');
    let rows = frames.iter().filter(|frame| frame.kind == b'D');
    Answer::Rows(
        head.map(columns).unwrap_or_default(),
        rows.map(Frame::row).collect(),
    )
}

fn columns(head: &Frame) -> Vec<Column> {
    let mut rest = &head.body[2..];
    let mut columns = Vec::new();
    for name in head.columns() {
        // Name, then table, number, type, size, modifier and format; see RowDescription in the manual.
        let fields = &rest[name.len() + 1..];
        let ty = u32::from_be_bytes(fields[6..10].try_into().unwrap());
        let modifier = i32::from_be_bytes(fields[12..16].try_into().unwrap());
        columns.push(Column(name, ty, modifier));
        rest = &fields[18..];
    }
    columns
}

/// What came of one query.
pub enum Verdict {
    Equal,
    /// The router, or a limit, gave no answer.
    Refused(String),
    Wrong(String),
}

/// Judges the router's answer by the one of plain PostgreSQL. `all` asks that again without the LIMIT: among rows
/// that are equal in its ORDER BY, any may be the last ones.
pub fn judge(
    query: &Query,
    (plain, router): (&Answer, &Answer),
    all: impl FnOnce() -> Answer,
) -> Verdict {
    let (head, rows) = match plain {
        Answer::Rows(head, rows) => (head, rows),
        Answer::Error { code, message } => panic!("plain PostgreSQL: {code} {message}"),
    };
    let (told_head, told) = match router {
        Answer::Rows(head, rows) => (head, rows),
        Answer::Error { code, message } if is_refusal(code) => {
            return Verdict::Refused(format!("{code} {message}"));
        }
        Answer::Error { code, message } => return Verdict::Wrong(format!("{code} {message}")),
    };
    if head != told_head {
        return Verdict::Wrong(format!("columns {told_head:?}, and not {head:?}"));
    }
    match difference(query, (rows, told), all) {
        None => Verdict::Equal,
        Some(difference) => Verdict::Wrong(difference),
    }
}

/// Not supported, over a limit, or over the time.
fn is_refusal(code: &str) -> bool {
    code == "0A000" || code == "57014" || code.starts_with("54")
}

fn difference(
    query: &Query,
    (rows, told): (&[Row], &[Row]),
    all: impl FnOnce() -> Answer,
) -> Option<String> {
    if rows.len() != told.len() {
        return Some(format!("{} rows, and not {}", told.len(), rows.len()));
    }
    let key = |row: &Row| -> Row { query.order.iter().map(|at| row[*at].clone()).collect() };
    let at = (0..rows.len()).find(|at| key(&rows[*at]) != key(&told[*at]));
    if let Some(at) = at {
        return Some(format!(
            "row {at} is {}, and not {}",
            show(&told[at]),
            show(&rows[at])
        ));
    }
    let (mut rows, mut told) = (rows.to_vec(), told.to_vec());
    if query.limit == Some(rows.len()) {
        let last = key(rows.last()?);
        let Answer::Rows(_, mut may_be) = all() else {
            panic!("plain PostgreSQL answers with a LIMIT only");
        };
        for row in told.iter().filter(|row| key(row) == last) {
            match may_be.iter().position(|other| other == row) {
                Some(at) => drop(may_be.swap_remove(at)),
                None => return Some(format!("{} is no row of the answer", show(row))),
            }
        }
        rows.retain(|row| key(row) != last);
        told.retain(|row| key(row) != last);
    }
    rows.sort();
    told.sort();
    let at = (0..rows.len()).find(|at| rows[*at] != told[*at])?;
    Some(format!("{}, and not {}", show(&told[at]), show(&rows[at])))
}

fn show(row: &Row) -> String {
    let values = row.iter().map(|value| match value {
        None => "NULL".into(),
        Some(bytes) => String::from_utf8_lossy(bytes),
    });
    values.collect::<Vec<_>>().join("|")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Rows of one word each letter of which is a value; ordered by the first.
    fn rows(words: &[&str]) -> Vec<Row> {
        let value = |byte: u8| Some(vec![byte]);
        let row = |word: &&str| word.bytes().map(value).collect();
        words.iter().map(row).collect()
    }

    fn differ(limit: Option<usize>, plain: &[&str], router: &[&str], all: &[&str]) -> bool {
        let query = Query {
            number: 1,
            sql: String::new(),
            order: &[0],
            limit,
        };
        let all = || Answer::Rows(Vec::new(), rows(all));
        difference(&query, (&rows(plain), &rows(router)), all).is_some()
    }

    #[test]
    fn rows_count_in_any_order_among_equal_keys_and_in_no_other() {
        assert!(!differ(None, &["a1", "a2", "b1"], &["a2", "a1", "b1"], &[]));
        assert!(differ(None, &["a1", "b1"], &["b1", "a1"], &[]));
        assert!(differ(None, &["a1", "b1"], &["a1", "b2"], &[]));
        assert!(differ(None, &["a1", "b1"], &["a1"], &[]));
    }

    #[test]
    fn of_the_last_rows_any_that_exist_may_be_told_each_as_often_as_it_exists() {
        let (plain, all) = (["a1", "b1", "b2"], ["a1", "b1", "b2", "b3"]);
        assert!(!differ(Some(3), &plain, &["a1", "b3", "b1"], &all));
        assert!(differ(Some(3), &plain, &["a1", "b4", "b1"], &all));
        assert!(differ(Some(3), &plain, &["a1", "b1", "b1"], &all));
        assert!(differ(Some(3), &plain, &["a2", "b1", "b2"], &all));
    }
}
