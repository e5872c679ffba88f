//! Whether two sides have said the same to a group.
//!
//! What is not compared, and why:
//! - the place of an error in its text (`P`), and where in the server's code it comes from;
//! - object ids of tables, which are those of a shard;
//! - what a statement that failed had said before its error: PostgreSQL does not promise how many rows that are;
//! - the order of rows where the statement has none, and that of notices of one statement;
//! - of errors about data (classes 22, 23 and P0) which one comes, where rows of one statement fail in several ways, and
//!   their detail and context.

use crate::known::known;
use crate::sent::{Order, Sent};
use crate::side::Answers;
use mothership_tests::Frame;

/// What came of comparing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    Equal,
    /// By the router, with its message; or what is known to differ, by its name in `known.rs`.
    Refused(String),
    Wrong(Difference),
}

/// Both sides' answers to one message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Difference {
    /// What stays the same while a conversation is made shorter.
    pub kind: String,
    pub text: String,
}

impl Difference {
    /// Whether it may be seen by who comes next.
    pub fn stays(&self) -> bool {
        ["left", "settings", "Late"]
            .iter()
            .any(|word| self.kind.starts_with(word))
    }
}

/// The first message whose answers differ decides.
pub fn compare(group: &[Sent], plain: &Answers, router: &Answers) -> Verdict {
    for (at, sent) in group.iter().enumerate() {
        let [asked, answered] = [&plain[at], &router[at]].map(|said| said.iter().find_map(refusal));
        if let (None, Some(reason)) = (asked, answered) {
            return Verdict::Refused(reason);
        }
        let [p, r] = [&plain[at], &router[at]].map(|frames| lines(frames, sent.order()));
        if p == r
            || (is_data_error(&plain[at]) && is_data_error(&router[at]) && same_but_data(&p, &r))
        {
            continue;
        }
        if let Some(name) = known(sent, &p, &r) {
            return Verdict::Refused(format!("(known) {name}"));
        }
        return Verdict::Wrong(difference(sent, &p, &r));
    }
    Verdict::Equal
}

fn difference(sent: &Sent, plain: &[String], router: &[String]) -> Difference {
    let common = plain.iter().zip(router).take_while(|(p, r)| p == r).count();
    let first = |lines: &[String]| {
        let line = lines.get(common).map_or("nothing", String::as_str);
        line.split(' ').take(2).collect::<Vec<_>>().join(" ")
    };
    let word = sent.to_string();
    let word = word.split(' ').next().unwrap_or_default();
    let show = |lines: &[String]| {
        lines
            .iter()
            .map(|line| format!("\n      {line}"))
            .collect::<String>()
    };
    Difference {
        kind: format!("{word}: {} / {}", first(plain), first(router)),
        text: format!(
            "to {sent}\n    PostgreSQL:{}\n    router:{}",
            show(plain),
            show(router)
        ),
    }
}

/// A named refusal. PostgreSQL has errors of this class, too; then both sides have them.
fn refusal(frame: &Frame) -> Option<String> {
    (frame.kind == b'E' && frame.sqlstate() == "0A000")
        .then(|| frame.field('M').unwrap_or_default())
}

fn is_data_error(frames: &[Frame]) -> bool {
    let mut errors = frames.iter().filter(|frame| frame.kind == b'E');
    errors.any(|error| ["22", "23", "P0"].contains(&&error.sqlstate()[..2]))
}

fn same_but_data(plain: &[String], router: &[String]) -> bool {
    plain.len() == router.len()
        && plain
            .iter()
            .zip(router)
            .all(|(p, r)| p == r || (p.starts_with("Error ") && r.starts_with("Error ")))
}

/// A line for each message, of what is compared.
fn lines(frames: &[Frame], order: Order) -> Vec<String> {
    let (mut done, mut rows, mut notices): (Vec<String>, Vec<String>, Vec<String>) =
        Default::default();
    // Up to here statements have come to their end.
    let mut whole = 0;
    for frame in frames {
        match frame.kind {
            b'S' => continue,
            b'N' => {
                notices.push(report(frame));
                continue;
            }
            b'D' | b'd' => {
                rows.push(frame.to_string());
                continue;
            }
            b'E' => {
                done.truncate(whole);
                rows.clear();
                notices.clear();
            }
            _ => {}
        }
        if order == Order::Open {
            rows.sort();
        }
        done.append(&mut rows);
        notices.sort();
        done.append(&mut notices);
        done.push(line(frame));
        if matches!(frame.kind, b'C' | b'I' | b's' | b'E' | b'Z') {
            whole = done.len();
        }
    }
    done.append(&mut rows);
    done.append(&mut notices);
    done
}

fn line(frame: &Frame) -> String {
    match frame.kind {
        b'E' => report(frame),
        b'T' => description(frame),
        b't' => format!("ParameterDescription {:?}", &frame.body[2..]),
        b'G' | b'H' => format!("{frame} {:?}", frame.body),
        _ => frame.to_string(),
    }
}

/// An error or a notice.
fn report(frame: &Frame) -> String {
    let mut line = frame.to_string();
    let data = frame.kind == b'E' && ["22", "23"].contains(&&frame.sqlstate()[..2]);
    for code in ['S', 'D', 'H', 't', 'c', 'n'] {
        if code == 'D' && data {
            continue;
        }
        if let Some(field) = frame.field(code) {
            line += &format!(" {code}:{field}");
        }
    }
    line
}

/// Columns with their types and forms; whether they are of a table, and which.
fn description(frame: &Frame) -> String {
    let mut rest = &frame.body[2..];
    let mut line = "RowDescription".to_owned();
    for name in frame.columns() {
        let (column, tail) = rest[name.len() + 1..].split_at(18);
        rest = tail;
        let of_table = column[..4] != [0; 4];
        line += &format!(" {name}:{of_table}:{:?}", &column[4..]);
    }
    line
}
