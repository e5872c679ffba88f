//! Plans that serve every text of a shape.
//!
//! [`Planner::plan_shape`] plans a query string twice: as it is, and without its literals (see `slots`). The second plan is a
//! plan for the whole shape only if it equals the first one with slots for the constants, and if planning did not need
//! the value of a literal. Before the plan is used for another query string, two checks are needed. [`has_only_plain_tokens`] looks for
//! tokens that could be read differently in that query string. [`Planner::is_valid_for`] repeats the questions that planning
//! asked about the whole query string. `statements::shapes` caches the plans.

use super::Plan;
use super::slots::{self, Literals, Looked, SlotKind, Text};
use super::{PlanContext, Planner, Reason, misread, read, write};
use mothership_sql::effect::{Statement, analyse};
use mothership_sql::shape::{Literal, Shape};
use std::rc::Rc;

/// A plan with slots for literals.
#[derive(Debug)]
pub struct GenericPlan {
    /// The plan; to be routed with the literals of a text.
    pub plan: Rc<Plan>,
    /// It holds for texts that mention no declared table.
    no_tables: bool,
    /// It holds for texts with no function that runs SQL.
    no_functions: bool,
    /// It holds for texts with no table whose triggers reach far.
    no_triggers: bool,
}

impl GenericPlan {
    /// Whether it holds for every text of the shape, so that [`Planner::is_valid_for`] need not look at any.
    pub fn serves_every_text(&self) -> bool {
        !(self.no_tables || self.no_functions || self.no_triggers)
    }
}

/// What planning a text gave.
#[derive(Debug)]
pub struct PlanResult {
    /// Its own plan.
    pub own: Plan,
    /// The plan of its shape, if there is one.
    pub shaped: Option<GenericPlan>,
}

/// Whether a text has only what planning reads alike in all texts of a shape: literals in plain form,
/// comments that are simple, no byte that readers of SQL disagree about. `shape` is that of `sql`.
pub fn has_only_plain_tokens(
    sql: &[u8],
    shape: &Shape<'_>,
    standard_conforming_strings: bool,
) -> bool {
    if shape.tight
        || !shape
            .literals
            .iter()
            .all(|l| SlotKind::of(l, sql).is_some())
    {
        return false;
    }
    let mut unclear = false;
    let mut comment = false;
    for (at, byte) in sql.iter().enumerate() {
        if !NEEDS_CHECK[usize::from(*byte)] {
            continue;
        }
        let before = at.checked_sub(1).map_or(b' ', |before| sql[before]);
        if can_skip(before, *byte) {
            continue;
        }
        match byte {
            0..0x20 | 0x7f => return false,
            b'-' => return false,
            b'*' => comment = true,
            // u&'..', escapes; operator(..)
            _ => unclear = true,
        }
    }
    if comment && !has_no_nested_comments(sql) {
        return false;
    }
    if !unclear {
        return true;
    }
    std::str::from_utf8(sql)
        .is_ok_and(|sql| !misread::has_unclear_tokens(sql, standard_conforming_strings))
}

/// Whether [`has_only_plain_tokens`] can skip `byte` if it follows `before`.
pub(super) fn can_skip(before: u8, byte: u8) -> bool {
    match byte {
        b'-' => before != b'-',
        b'*' => before != b'/',
        b'p' | b'P' => before | 0x20 != b'o',
        _ => !NEEDS_CHECK[usize::from(byte)],
    }
}

/// The bytes that [`has_only_plain_tokens`] must check together with the byte before them. They are rare.
const NEEDS_CHECK: [bool; 256] = {
    let mut bytes = [false; 256];
    let mut byte = 0;
    while byte < bytes.len() {
        bytes[byte] = matches!(
            byte as u8,
            0..0x20 | 0x7f.. | b'-' | b'*' | b'&' | b'\\' | b'p' | b'P'
        ) && !matches!(byte as u8, b'\t' | b'\n' | b'\r');
        byte += 1;
    }
    bytes
};

/// Whether no `/*` comment contains another `/*`. It does not recognise strings, so it may return false without need.
fn has_no_nested_comments(sql: &[u8]) -> bool {
    let find = |from: usize, what: &[u8]| {
        let found = sql.get(from..)?.windows(2).position(|two| two == what)?;
        Some(from + found + 2)
    };
    let mut at = 0;
    while let Some(open) = find(at, b"/*") {
        let Some(end) = find(open, b"*/") else {
            return false;
        };
        if find(open, b"/*").is_some_and(|inner| inner < end) {
            return false;
        }
        at = end;
    }
    true
}

impl Planner<'_> {
    /// Plans a query string and, if possible, its shape. `literals` are the literals that the shape leaves out, with their
    /// positions in `sql`. The caller must have checked `sql` with [`has_only_plain_tokens`].
    pub fn plan_shape(&self, sql: &str, literals: &[Literal], context: &PlanContext) -> PlanResult {
        let own = self.plan(sql, context);
        let shaped = slots::blanked(sql, literals)
            .and_then(|(blank, slots)| self.without_literals(&blank, slots, context))
            .filter(|shaped| {
                let literals = Literals::new(sql.as_bytes(), literals);
                shaped.plan.with_literals(&literals).as_ref() == Some(&own)
            });
        PlanResult { own, shaped }
    }

    /// Whether the generic plan is valid for this query string. The caller must have checked `sql` with [`has_only_plain_tokens`].
    pub fn is_valid_for(&self, shaped: &GenericPlan, sql: &str) -> bool {
        !(shaped.no_tables && self.names.mentions(sql)
            || shaped.no_functions && read::runs_sql(&self.names, sql)
            || shaped.no_triggers && write::home_triggers(&self.names, sql).is_err())
    }

    fn without_literals(
        &self,
        blank: &str,
        slots: Vec<(usize, SlotKind)>,
        context: &PlanContext,
    ) -> Option<GenericPlan> {
        let strings = context.standard_conforming_strings;
        let text = Text::masked(blank, slots, strings);
        let decide = || match analyse(blank.as_bytes(), strings).statement {
            Statement::Select => read::plan(&self.names, &text, context),
            Statement::Insert | Statement::Update | Statement::Delete | Statement::Merge => {
                write::plan(&self.names, &text, context)
            }
            // Others have no value places, and are rare.
            _ => Err(super::Refusal::new(Reason::NotUnderstood)),
        };
        let plan = match self.with_stack_for(blank, decide) {
            Ok(plan) => plan,
            // Why the parser does not understand a statement may depend on its string literals, so this is no result for the shape.
            Err(refusal) if refusal.reason == Reason::NotUnderstood => return None,
            Err(refusal) => Plan::Refuse(refusal),
        };
        let Looked {
            value,
            tables,
            functions,
            triggers,
        } = &**text.looked();
        (!value.get()).then(|| GenericPlan {
            plan: Rc::new(plan),
            no_tables: tables.get(),
            no_functions: functions.get(),
            no_triggers: triggers.get(),
        })
    }
}
