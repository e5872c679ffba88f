//! Plans that serve every text of a shape.
//!
//! [`Planner::plan_shape`] plans a text twice: for itself, and without its literals (see `slots`). Only if the
//! second is the first with slots for constants, and nothing was asked of a value, it is a plan of the shape. For
//! another text it may be used after [`is_tame`], which looks for what planning would stumble over in that
//! text, and [`Planner::serves`], which asks what the planning asked of the whole text. `session::shapes` keeps them.

use super::slots::{self, Literals, Looked, SlotKind, Text};
use super::{Plan, SHORT, STACK};
use super::{PlanContext, Planner, Reason, misread, read, write};
use mothership_sql::effect::{Statement, analyse};
use mothership_sql::shape::{Literal, Shape};
use std::rc::Rc;

/// A plan with slots for literals.
#[derive(Debug)]
pub struct ShapedPlan {
    /// The plan; to be routed with the literals of a text.
    pub plan: Rc<Plan>,
    /// It holds for texts that mention no declared table.
    no_tables: bool,
    /// It holds for texts with no function that runs SQL.
    no_functions: bool,
    /// It holds for texts with no table whose triggers reach far.
    no_triggers: bool,
}

impl ShapedPlan {
    /// Whether it holds for every text of the shape, so that [`Planner::serves`] need not look at any.
    pub fn serves_every_text(&self) -> bool {
        !(self.no_tables || self.no_functions || self.no_triggers)
    }
}

/// What planning a text gave.
#[derive(Debug)]
pub struct Planned {
    /// Its own plan.
    pub own: Plan,
    /// The plan of its shape, if there is one.
    pub shaped: Option<ShapedPlan>,
}

/// Whether a text has only what planning reads alike in all texts of a shape: literals in plain form,
/// comments that are simple, no byte that readers of SQL disagree about. `shape` is that of `sql`.
pub fn is_tame(sql: &[u8], shape: &Shape<'_>, standard_conforming_strings: bool) -> bool {
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
        if !REMARKABLE[usize::from(*byte)] {
            continue;
        }
        let before = at.checked_sub(1).map_or(b' ', |before| sql[before]);
        if is_harmless(before, *byte) {
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
    if comment && !comments_are_simple(sql) {
        return false;
    }
    if !unclear {
        return true;
    }
    std::str::from_utf8(sql)
        .is_ok_and(|sql| !misread::has_unclear_tokens(sql, standard_conforming_strings))
}

/// Whether a byte after this one is of no interest to [`is_tame`], wherever in a text.
pub(super) fn is_harmless(before: u8, byte: u8) -> bool {
    match byte {
        b'-' => before != b'-',
        b'*' => before != b'/',
        b'p' | b'P' => before | 0x20 != b'o',
        _ => !REMARKABLE[usize::from(byte)],
    }
}

/// Bytes that [`is_tame`] has a look at, with the one before them. Few bytes of a text are.
const REMARKABLE: [bool; 256] = {
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

/// No comment within a comment, even if one of them is in a string.
fn comments_are_simple(sql: &[u8]) -> bool {
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
    /// Plans a text for itself and, if that can be, for its shape. `literals` are those that the shape leaves out, by
    /// their places in `sql`, which [`is_tame`].
    pub fn plan_shape(&self, sql: &str, literals: &[Literal], context: &PlanContext) -> Planned {
        let own = self.plan(sql, context);
        let shaped = slots::blanked(sql, literals)
            .and_then(|(blank, slots)| self.without_literals(&blank, slots, context))
            .filter(|shaped| {
                let literals = Literals::new(sql.as_bytes(), literals);
                shaped.plan.with_literals(&literals).as_ref() == Some(&own)
            });
        Planned { own, shaped }
    }

    /// Whether a plan of its shape is the plan of this text, which [`is_tame`].
    pub fn serves(&self, shaped: &ShapedPlan, sql: &str) -> bool {
        !(shaped.no_tables && self.names.mentions(sql)
            || shaped.no_functions && read::runs_sql(&self.names, sql)
            || shaped.no_triggers && write::home_triggers(&self.names, sql).is_err())
    }

    fn without_literals(
        &self,
        blank: &str,
        slots: Vec<(usize, SlotKind)>,
        context: &PlanContext,
    ) -> Option<ShapedPlan> {
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
        let decided = if blank.len() <= SHORT {
            decide()
        } else {
            stacker::grow(STACK, decide)
        };
        let plan = match decided {
            Ok(plan) => plan,
            // Strings may matter to what is not understood.
            Err(refusal) if refusal.reason == Reason::NotUnderstood => return None,
            Err(refusal) => Plan::Refuse(refusal),
        };
        let Looked {
            value,
            tables,
            functions,
            triggers,
        } = &**text.looked();
        (!value.get()).then(|| ShapedPlan {
            plan: Rc::new(plan),
            no_tables: tables.get(),
            no_functions: functions.get(),
            no_triggers: triggers.get(),
        })
    }
}
