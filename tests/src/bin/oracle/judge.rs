//! The verdict on one statement.

use crate::choice::{self, Shown};
use crate::compare::{Difference, Side, Types, difference, rows};
use crate::limits;
use crate::ranks::{self, Ranks};
use crate::run::{self, Answer, Column, Lost, Protocol, Row};
use crate::schema::Schema;
use crate::statement::{Effect, Order, Ranked, Statement};
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
    /// What documents cannot have or do, and are to be refused for.
    Limit(&'static str),
    Wrong {
        kind: &'static str,
        detail: String,
    },
}

/// The plain database with what is needed to ask it again.
pub struct Truth<'t> {
    pub o: &'t mut Wire,
    pub schema: &'t Schema,
    /// Some tables are documents.
    pub documents: bool,
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

/// A statement with its values in place has strings that are written for this.
const STANDARD_STRINGS: &str = "SET LOCAL standard_conforming_strings = on";

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
        if self.documents
            && let Some(limit) = limits::limit(r)
        {
            return Verdict::Limit(limit);
        }
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
        if found.kind == "columns" && o.status != 'E' && self.told_before_planning(statement, o, r)
        {
            return Verdict::Open;
        }
        if found.kind == "error" && either_is_first(o, r) {
            return Verdict::Open;
        }
        let open = matches!(found.kind, "rows" | "order" | "error" | "count");
        if !open || statement.effect != Effect::Reads || o.status == 'E' {
            return wrong(found.kind, &found.detail);
        }
        if r.error.is_none() && o.error.is_none() {
            let caseless = match choice::is_open(statement) {
                true => self.caseless(statement),
                false => Vec::new(),
            };
            if stand_for_the_same(&o_side, &r_side, statement, &caseless) {
                return Verdict::Open;
            }
            if let Some(verdict) = self.by_ranks(statement, protocol, o, r, &found, &caseless) {
                return verdict;
            }
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
        let stable = twins.iter().all(|answer| {
            let twin = Side {
                answer,
                types: self.o_types,
            };
            difference(&twin, &o_side, statement, false).is_none()
        });
        let counted = twins
            .iter()
            .all(|twin| twin.rows.len() == o.rows.len() && twin.error.is_none());
        // Even of an answer that is open the number of rows may be certain.
        match stable || (counted && r.rows.len() != o.rows.len()) {
            true => wrong(found.kind, &found.detail),
            false => Verdict::Open,
        }
    }

    /// The verdict on two answers that are not the same, by what PostgreSQL says of all rows
    /// that may be shown; none if it cannot say that.
    fn by_ranks(
        &mut self,
        statement: &Statement,
        protocol: Protocol,
        o: &Answer,
        r: &Answer,
        found: &Difference,
        caseless: &[usize],
    ) -> Option<Verdict> {
        let Ranked { text, offset } = statement.ranked.clone()?;
        let all = Statement {
            text,
            ..statement.clone()
        };
        let protocol = ranks::protocol(protocol);
        let rows_of = |answer: &Answer, types: &Types| rows(&Side { answer, types }, statement);
        let types = self.o_types;
        let ranks_of = |answer: &Answer| Ranks::new(answer, rows_of(answer, types));
        let shown = rows_of(r, self.r_types);
        let ranked = twins::aside(self.o, |o| run::run(o, protocol, &all));
        let one = ranks_of(&ranked.ok()?)?;
        let same_count = o.rows.len() == r.rows.len();
        let columns = &r.columns;
        let form = |row: &Row| Shown { columns, caseless }.form_of(row);
        let formed: Vec<Row> = shown.iter().map(form).collect();
        let is_open = same_count && choice::is_open(statement);
        if !one.admit(&rows_of(o, types), offset) {
            // PostgreSQL before 18 takes a constant that grouping sets make null for one, and does not sort by it. Who
            // does is right by its own ranks. Asked for the ranks PostgreSQL itself may choose others of equal values.
            let admitted = same_count && one.admit(&shown, offset)
                || is_open && one.with_rows(form).admit(&formed, offset);
            return admitted.then_some(Verdict::Open);
        }
        if same_count && one.admit(&shown, offset) {
            return Some(Verdict::Open);
        }
        if is_open {
            // Where a key of the order tells apart what stands for the same, the ranks are as open.
            let in_place = rows_of(o, types)
                .iter()
                .map(form)
                .eq(formed.iter().cloned());
            if in_place || one.with_rows(form).admit(&formed, offset) {
                return Some(Verdict::Open);
            }
        }
        let as_routed = |answer: &Answer| {
            ranks_of(answer).is_some_and(|ranks| same_count && ranks.admit(&shown, offset))
        };
        let twins = twins::answers(self.o, self.schema, protocol, &all, as_routed);
        if twins.last().is_some_and(as_routed) {
            return Some(Verdict::Open);
        }
        let twins: Vec<Ranks> = twins.iter().map(ranks_of).collect::<Option<_>>()?;
        let stable = twins.iter().all(|twin| *twin == one);
        // Even of an answer that is open the number of rows may be certain.
        let counted = twins.iter().all(|twin| twin.sizes() == one.sizes());
        // Twins that can show these rows agree on an order, and it is another one.
        let whole = shown.len() == one.sizes().len();
        let mut same_rows = twins.iter().filter(|twin| whole && twin.shows(&shown));
        let agreed = match (same_rows.next(), same_rows.next()) {
            (Some(first), Some(second)) => first == second && same_rows.all(|twin| twin == first),
            _ => false,
        };
        Some(match stable || (counted && !same_count) || agreed {
            true => wrong(found.kind, &found.detail),
            false => Verdict::Open,
        })
    }

    /// The columns of the answer by whose collation `a` and `A` are the same.
    fn caseless(&mut self, statement: &Statement) -> Vec<usize> {
        let Ok(columns) = self.described(statement) else {
            return Vec::new();
        };
        let texts: Vec<usize> = (0..columns.len())
            .filter(|at| choice::TEXTS.contains(&columns[*at].ty))
            .collect();
        let names: Vec<String> = (0..columns.len()).map(|at| format!("c{at}")).collect();
        let asked: Vec<String> = texts
            .iter()
            .map(|at| format!("pg_collation_for(c{at})"))
            .collect();
        if asked.is_empty() {
            return Vec::new();
        }
        let sql = format!(
            "SELECT {} FROM ({}) AS q ({}) LIMIT 1",
            asked.join(", "),
            statement.inline(),
            names.join(", ")
        );
        let asked = twins::aside(self.o, |o| {
            run::simple(o, STANDARD_STRINGS)?;
            run::simple(o, &sql)
        });
        let Ok(answer) = asked else {
            return Vec::new();
        };
        let Some(row) = answer.rows.first() else {
            return Vec::new();
        };
        let named =
            |name: &Option<Vec<u8>>| name.as_deref().is_some_and(|n| n.ends_with(b"nondet"));
        let told = texts.into_iter().zip(row);
        told.filter(|(_, name)| named(name))
            .map(|(at, _)| at)
            .collect()
    }

    /// The columns that PostgreSQL tells who asks with Describe. A text that it does not take undoes nothing.
    fn described(&mut self, statement: &Statement) -> Result<Vec<Column>, Lost> {
        twins::aside(self.o, |o| {
            run::simple(o, STANDARD_STRINGS)?;
            run::described(o, statement)
        })
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
        let told = self.described(statement);
        named(o, self.o_types) == named(r, self.r_types)
            && told.is_ok_and(|told| modifiers(&told) == modifiers(&r.columns))
    }
}

/// Whether both are errors of single rows, one of them that no partition takes its row. Which row is met first depends on
/// the order of the rows, and each shard has an order of its own.
fn either_is_first(o: &Answer, r: &Answer) -> bool {
    let no_partition = |answer: &Answer| {
        let error = answer.error.as_ref();
        error.is_some_and(|(code, told)| code == "23514" && told.starts_with("no partition of"))
    };
    let of_a_row = |answer: &Answer| {
        let code = answer.error.as_ref().map(|(code, _)| code.as_str());
        no_partition(answer) || matches!(code, Some("23505" | "21000"))
    };
    of_a_row(o) && of_a_row(r) && (no_partition(o) || no_partition(r))
}

/// Whether both show, in the same places, values that are equal, where the statement leaves open which of them is shown.
/// A key of the order that tells them apart (their texts) makes nothing more certain.
fn stand_for_the_same(o: &Side, r: &Side, statement: &Statement, caseless: &[usize]) -> bool {
    let formed = |side: &Side| -> Vec<Row> {
        let columns = &side.answer.columns;
        let rows = rows(side, statement);
        let form = |row: &Row| Shown { columns, caseless }.form_of(row);
        let mut formed: Vec<Row> = rows.iter().map(form).collect();
        if statement.order == Order::None {
            formed.sort();
        }
        formed
    };
    choice::is_open(statement) && formed(o) == formed(r)
}

fn wrong(kind: &'static str, detail: &str) -> Verdict {
    Verdict::Wrong {
        kind,
        detail: detail.to_owned(),
    }
}
