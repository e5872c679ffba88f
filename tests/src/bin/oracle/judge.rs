//! The verdict on one statement.

use crate::choice;
use crate::compare::{Side, Types, difference};
use crate::run::{self, Answer, Column, Lost, Protocol, Row};
use crate::schema::Schema;
use crate::statement::{Effect, Order, Statement};
use crate::twins;
use mothership_tests::Wire;

/// What came of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    Equal,
    /// The same as far as SQL says what the answer is.
    Open,
    /// The router's message.
    Refused(String),
    Wrong {
        kind: &'static str,
        detail: String,
    },
}

/// The plain database with what is needed to ask it again.
pub struct Truth<'t> {
    pub o: &'t mut Wire,
    pub schema: &'t Schema,
    pub o_types: &'t Types,
    pub r_types: &'t Types,
}

/// The router's own word that it does not answer.
pub fn refusal(o: Option<&Answer>, r: &Answer) -> Option<String> {
    let (code, message) = r.error.as_ref()?;
    let same = o
        .and_then(|o| o.error.as_ref())
        .is_some_and(|(other, _)| other == code);
    let own = code == "0A000" || (code == "54001" && message.contains("to be routed"));
    (own && !same).then(|| message.clone())
}

impl Truth<'_> {
    /// Judges the router's answer beside the one of PostgreSQL.
    pub fn judge(
        &mut self,
        statement: &Statement,
        protocol: Protocol,
        o: &Answer,
        r: &Result<Answer, Lost>,
    ) -> Verdict {
        let r = match r {
            Ok(answer) => answer,
            Err(Lost::Hung) => return wrong("hung", "no answer"),
            Err(Lost::Closed) => return wrong("closed", "the connection is closed"),
        };
        if let Some(message) = refusal(Some(o), r) {
            return Verdict::Refused(message);
        }
        let (o_side, r_side) = (
            Side {
                answer: o,
                types: self.o_types,
            },
            Side {
                answer: r,
                types: self.r_types,
            },
        );
        let Some(found) = difference(&o_side, &r_side, statement, true) else {
            return Verdict::Equal;
        };
        if found.kind == "columns" && self.told_before_planning(statement, o, r) {
            return Verdict::Open;
        }
        let open = matches!(found.kind, "rows" | "order" | "error" | "count");
        if !open || statement.effect != Effect::Reads || o.status == 'E' {
            return wrong(found.kind, &found.detail);
        }
        if self.limited(statement, protocol, o, r) == Some(true) {
            return Verdict::Open;
        }
        if choice::only_differs(statement, o, r) {
            return Verdict::Open;
        }
        let as_routed = |answer: &Answer| {
            let twin = Side {
                answer,
                types: self.o_types,
            };
            difference(&twin, &r_side, statement, false).is_none()
        };
        let twins = twins::answers(self.o, self.schema, protocol, statement, as_routed);
        if twins.last().is_some_and(as_routed) {
            return Verdict::Open;
        }
        let twin_sides: Vec<Side> = twins
            .iter()
            .map(|answer| Side {
                answer,
                types: self.o_types,
            })
            .collect();
        let stable = twin_sides
            .iter()
            .all(|twin| difference(twin, &o_side, statement, false).is_none());
        let counted = twins
            .iter()
            .all(|twin| twin.rows.len() == o.rows.len() && twin.error.is_none());
        // Even of an answer that is open the number of rows may be certain.
        if stable || (counted && r.rows.len() != o.rows.len()) {
            return wrong(found.kind, &found.detail);
        }
        // Twins that show the same rows agree on an order, and it is another one.
        let ordered_otherwise = |twin: &&Side| {
            difference(twin, &r_side, statement, false).is_some_and(|d| d.kind == "order")
        };
        let same_rows: Vec<&Side> = twin_sides.iter().filter(ordered_otherwise).collect();
        let agree = |pair: &[&Side]| difference(pair[0], pair[1], statement, false).is_none();
        if same_rows.len() > 1 && same_rows.windows(2).all(agree) {
            return wrong("order", &found.detail);
        }
        Verdict::Open
    }

    /// Whether types' modifiers are those that PostgreSQL itself tells who asks with Describe
    /// of a statement. What planning leaves of a CASE may have another one.
    fn told_before_planning(&mut self, statement: &Statement, o: &Answer, r: &Answer) -> bool {
        let modifiers =
            |columns: &[Column]| -> Vec<i32> { columns.iter().map(|c| c.modifier).collect() };
        let named = |answer: &Answer, types: &Types| -> Vec<(String, String, u16)> {
            let columns = answer.columns.iter();
            columns
                .map(|c| (c.name.clone(), types.name(c.ty), c.format))
                .collect()
        };
        let told = run::described(self.o, statement);
        named(o, self.o_types) == named(r, self.r_types)
            && told.is_ok_and(|told| modifiers(&told) == modifiers(&r.columns))
    }

    /// Whether a LIMIT that may take any rows has taken as many as PostgreSQL, with the
    /// same sort keys, and none that is not there without it.
    fn limited(
        &mut self,
        statement: &Statement,
        protocol: Protocol,
        o: &Answer,
        r: &Answer,
    ) -> Option<bool> {
        let unlimited = Statement {
            text: statement.unlimited.clone()?,
            ..statement.clone()
        };
        if o.error.is_some() || r.error.is_some() {
            return None;
        }
        // All rows at once: a row limit is another matter.
        let protocol = match protocol {
            Protocol::Text(_) | Protocol::Part(_) => Protocol::Text(0),
            Protocol::Binary(_) => Protocol::Binary(0),
            Protocol::Prepare => Protocol::Simple,
            other => other,
        };
        let mut all = run::run(self.o, protocol, &unlimited).ok()?.rows;
        let there = r.rows.iter().all(|row| {
            let at = all.iter().position(|other| other == row);
            at.map(|at| all.swap_remove(at)).is_some()
        });
        let keys = |answer: &Answer| -> Vec<Row> {
            let Order::Columns(keys) = &statement.order else {
                return Vec::new();
            };
            let of = |row: &Row| {
                keys.iter()
                    .map(|at| row.get(*at).cloned().flatten())
                    .collect()
            };
            answer.rows.iter().map(of).collect()
        };
        Some(there && o.rows.len() == r.rows.len() && keys(o) == keys(r))
    }
}

fn wrong(kind: &'static str, detail: &str) -> Verdict {
    Verdict::Wrong {
        kind,
        detail: detail.to_owned(),
    }
}
