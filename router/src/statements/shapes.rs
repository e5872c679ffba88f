//! Statements of one core by their shape: texts that differ in literals share what they mean and their plans.
//!
//! A text comes in, and what is known of its shape goes out with the places of its literals. The second text of a
//! shape, in one model and context, pays for the plan that serves all others: many shapes are seen once only.
//! Which plan of one text may serve another is `plan::shaped`'s to say; here they are kept, the least recently used
//! gives way. A shape that does not lend itself is remembered too, so that it is not tried again.

use super::memo::Memo;
use super::step::{Kind, Step, steps};
use crate::model::DatabaseModel;
use foldhash::HashMap;
use mothership_plan::sample::{Found, Sample};
use mothership_plan::shaped::PlanResult;
use mothership_plan::{GenericPlan, Plan, PlanContext, Planner, shaped, slots};
use mothership_sql::cursor::Span;
use mothership_sql::effect::{Statement, analyse};
use mothership_sql::lexer::Lexer;
use mothership_sql::shape::{Literal, Scratch, shape};
use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::rc::Rc;

/// Longer normalised texts have no shape.
const LONGEST: usize = 8 * 1024;

/// Texts with more literals have none.
const MAX_LITERALS: usize = 1024;

/// Plans kept for one shape, for sessions that differ in search_path and the like.
const KEPT: usize = 4;

/// Texts that others are compared with before they are cut into tokens.
const SAMPLES: usize = 16;

/// What a shape with its plans is reckoned to take at least, in bytes.
const OVERHEAD: usize = 2048;

/// The limits of a core's cache.
#[derive(Clone, Copy, Debug)]
pub struct Room {
    /// Shapes.
    pub shapes: usize,
    /// Bytes, reckoned.
    pub bytes: usize,
}

/// A text as one of its shape.
#[derive(Clone, Debug)]
pub struct Shaped {
    /// Its shape.
    pub entry: Rc<Entry>,
    /// Where the statement stands in the text.
    pub span: Span,
    /// The literals that the shape leaves out, by their places in the statement.
    pub literals: Found,
}

impl Shaped {
    /// What the statement means for the session.
    pub fn step(&self) -> Option<Step> {
        let step = self.entry.step.as_ref()?;
        Some(Step {
            span: self.span,
            ..step.clone()
        })
    }
}

/// What is known of a shape.
#[derive(Debug)]
pub struct Entry {
    hash: u128,
    text: Box<[u8]>,
    /// What its statements mean, but for the span. `None` if each text must be read for itself.
    step: Option<Step>,
    plans: RefCell<VecDeque<Kept>>,
    /// Whether its texts ask for no time in a model, but for what their literals say.
    pub timeless: Memo,
    /// Whether they name code that may leave something in its session, but for what their literals say.
    pub names_code: Memo,
    uses: Cell<u64>,
    recent: Cell<bool>,
}

#[derive(Debug)]
struct Kept {
    model: u64,
    context: Rc<PlanContext>,
    types: Box<[u8]>,
    plan: Known,
}

impl Kept {
    fn is_for(&self, model: u64, context: &Rc<PlanContext>, types: &[u8]) -> bool {
        self.model == model
            && *self.types == *types
            && (Rc::ptr_eq(&self.context, context) || self.context == *context)
    }
}

/// What is known of a shape's plan.
#[derive(Clone, Debug)]
pub enum Known {
    /// Nothing yet: at most one text was seen.
    Nothing,
    /// Each text has its own.
    Own,
    /// This one, if it serves the text.
    Plan(Rc<GenericPlan>),
}

/// What makes plans.
pub trait Plans {
    /// The plan of a statement.
    fn plan(&self, sql: &str, context: &PlanContext) -> Plan;

    /// The same and the plan of its shape.
    fn plan_shape(&self, sql: &str, literals: &[Literal], context: &PlanContext) -> PlanResult;
}

impl Plans for DatabaseModel {
    fn plan(&self, sql: &str, context: &PlanContext) -> Plan {
        DatabaseModel::plan(self, sql, context)
    }

    fn plan_shape(&self, sql: &str, literals: &[Literal], context: &PlanContext) -> PlanResult {
        DatabaseModel::plan_shape(self, sql, literals, context)
    }
}

impl Plans for Planner<'_> {
    fn plan(&self, sql: &str, context: &PlanContext) -> Plan {
        Planner::plan(self, sql, context)
    }

    fn plan_shape(&self, sql: &str, literals: &[Literal], context: &PlanContext) -> PlanResult {
        Planner::plan_shape(self, sql, literals, context)
    }
}

impl Entry {
    /// Its plan in this model and context, for these declared parameter types.
    pub fn plan(&self, model: u64, context: &Rc<PlanContext>, types: &[u8]) -> Known {
        let plans = self.plans.borrow();
        let kept = plans.iter().find(|kept| kept.is_for(model, context, types));
        kept.map_or(Known::Nothing, |kept| kept.plan.clone())
    }

    /// Plans `sql`, a text of the shape, and if it is not the first also the shape, whose plan is kept. Returns the
    /// plan of the text.
    pub fn make_plan(
        &self,
        (planner, model): (&impl Plans, u64),
        (context, types): (&Rc<PlanContext>, &[u8]),
        sql: &str,
        literals: &[Literal],
        full: &PlanContext,
    ) -> Plan {
        let mut plans = self.plans.borrow_mut();
        plans.retain(|kept| kept.model == model);
        let mut kept = plans.iter_mut();
        if let Some(kept) = kept.find(|kept| kept.is_for(model, context, types)) {
            let planned = planner.plan_shape(sql, literals, full);
            let shaped = planned.shaped.map(Rc::new);
            kept.plan = shaped.map_or(Known::Own, Known::Plan);
            return planned.own;
        }
        if plans.len() >= KEPT {
            plans.pop_front();
        }
        plans.push_back(Kept {
            model,
            context: Rc::clone(context),
            types: types.into(),
            plan: Known::Nothing,
        });
        planner.plan(sql, full)
    }

    /// What its statements mean, but for the span. `None` if each text must be read for itself.
    pub fn step(&self) -> Option<&Step> {
        self.step.as_ref()
    }

    /// Another text is of this shape. `None` if each must be read for itself.
    pub fn use_again(&self) -> Option<()> {
        self.recent.set(true);
        self.step.as_ref()?;
        self.uses.set(self.uses.get() + 1);
        Some(())
    }

    fn bytes(&self) -> usize {
        // A plan has a value of its own for each literal, which is a few bytes here.
        self.text.len() * 16 + OVERHEAD
    }
}

/// The shapes of one core.
#[derive(Debug)]
pub struct Shapes {
    scratch: RefCell<Scratch>,
    kept: RefCell<Cache>,
}

#[derive(Debug, Default)]
struct Cache {
    known: HashMap<u128, Rc<Entry>>,
    /// The hand of the clock is at the front: who was used since it passed stays for another round.
    clock: VecDeque<u128>,
    bytes: usize,
    /// Texts of shapes, those that recognised the most others first.
    samples: Vec<(Sample, Rc<Entry>)>,
}

impl Default for Shapes {
    fn default() -> Self {
        Shapes {
            scratch: RefCell::new(Scratch::new(LONGEST, MAX_LITERALS)),
            kept: RefCell::default(),
        }
    }
}

impl Shapes {
    /// The text as one of its shape, if it is written like one that was seen. It does not count as a use.
    pub fn known(&self, sql: &[u8], strings: bool) -> Option<Shaped> {
        self.kept.borrow_mut().recognise(sql, strings)
    }

    /// The text as one of its shape, if what is known of the shape holds for it.
    pub fn find(&self, sql: &[u8], strings: bool, room: Room) -> Option<Shaped> {
        if let Some(shaped) = self.kept.borrow_mut().recognise(sql, strings) {
            shaped.entry.use_again()?;
            return Some(shaped);
        }
        let mut scratch = self.scratch.borrow_mut();
        let shape = shape(sql, strings, &mut scratch)?;
        if !shaped::has_only_plain_tokens(sql, &shape, strings) {
            return None;
        }
        let span = shape.span;
        let mut literals = Found::from_slice(shape.literals);
        within(&mut literals, span);
        let mut cache = self.kept.borrow_mut();
        if let Some(entry) = cache.known.get(&shape.hash) {
            // Whoever makes two texts of one hash gets no use of the cache.
            if *entry.text != *shape.text {
                return None;
            }
            entry.use_again()?;
            let entry = Rc::clone(entry);
            if let Some(sample) = Sample::of(sql, strings, &shape) {
                cache.samples.truncate(SAMPLES - 1);
                cache.samples.push((sample, Rc::clone(&entry)));
            }
            return Some(Shaped {
                entry,
                span,
                literals,
            });
        }
        let entry = Rc::new(Entry {
            hash: shape.hash,
            text: shape.text.into(),
            step: template(span.of(sql), &literals, strings),
            plans: RefCell::default(),
            timeless: Memo::default(),
            names_code: Memo::default(),
            uses: Cell::new(1),
            recent: Cell::new(false),
        });
        cache.enter(shape.hash, Rc::clone(&entry), room);
        entry.step.is_some().then_some(Shaped {
            entry,
            span,
            literals,
        })
    }

    /// Each shape without any value, with its number, how often it was used, and what its plans are.
    pub fn views(&self) -> Vec<PlanView> {
        let cache = self.kept.borrow();
        let view = |entry: &Rc<Entry>| PlanView {
            id: entry.hash as u64 & (u64::MAX >> 1),
            plan: entry.kind(),
            uses: entry.uses.get(),
            shape: shown(&entry.text),
        };
        cache
            .clock
            .iter()
            .filter_map(|hash| cache.known.get(hash))
            .map(view)
            .collect()
    }

    /// How many are kept, and the bytes that they are reckoned to take.
    pub fn size(&self) -> (usize, usize) {
        let cache = self.kept.borrow();
        (cache.known.len(), cache.bytes)
    }
}

/// Makes the places of literals in a text those in the statement that stands at `span` in it.
fn within(literals: &mut [Literal], span: Span) {
    for literal in literals {
        literal.span.start -= span.start;
        literal.span.end -= span.start;
    }
}

impl Cache {
    /// The text as one of its shape, if it is written like one that was seen.
    fn recognise(&mut self, sql: &[u8], strings: bool) -> Option<Shaped> {
        for at in 0..self.samples.len() {
            let mut literals = Found::new();
            let (sample, entry) = &self.samples[at];
            let Some(span) = sample.read(sql, strings, &mut literals) else {
                continue;
            };
            within(&mut literals, span);
            let entry = Rc::clone(entry);
            if at > 0 {
                self.samples.swap(at, at - 1);
            }
            return Some(Shaped {
                entry,
                span,
                literals,
            });
        }
        None
    }

    fn enter(&mut self, hash: u128, entry: Rc<Entry>, room: Room) {
        let bytes = entry.bytes();
        while !self.known.is_empty()
            && (self.known.len() >= room.shapes || self.bytes + bytes > room.bytes)
        {
            self.drop_one();
        }
        self.bytes += bytes;
        self.known.insert(hash, entry);
        self.clock.push_back(hash);
    }

    fn drop_one(&mut self) {
        // Each round takes marks away, so that the second finds one without.
        while let Some(hash) = self.clock.pop_front() {
            let recent = self.known.get(&hash).is_some_and(|e| e.recent.take());
            if recent {
                self.clock.push_back(hash);
                continue;
            }
            if let Some(entry) = self.known.remove(&hash) {
                self.bytes -= entry.bytes();
                self.samples.retain(|(_, of)| !Rc::ptr_eq(of, &entry));
            }
            return;
        }
    }
}

/// What a text of a shape means for the session, if all texts of the shape mean the same. `sql` is one of them.
fn template(sql: &[u8], literals: &[Literal], strings: bool) -> Option<Step> {
    let rows = matches!(
        analyse(sql, strings).statement,
        Statement::Select
            | Statement::Insert
            | Statement::Update
            | Statement::Delete
            | Statement::Merge
    );
    let text = std::str::from_utf8(sql).ok()?;
    let (blank, _) = slots::blanked(text, literals)?;
    // Tokens and names are all that steps are made of. Only set_config is read with its arguments, and then
    // the statement is not plain.
    let mut own = steps(sql, strings);
    let plain = |step: &Step| step.kind == Kind::Plain && step.name_span.is_none();
    let alike = own.len() == 1 && own == steps(blank.as_bytes(), strings);
    own.pop().filter(|step| rows && alike && plain(step))
}

/// One row of SHOW PLANS.
#[derive(Clone, Debug)]
pub struct PlanView {
    /// A number of the shape, the same on all cores.
    pub id: u64,
    /// What its newest plan is.
    pub plan: &'static str,
    /// Texts that were of the shape.
    pub uses: u64,
    /// The normalised text, `?` for every literal.
    pub shape: String,
}

impl Entry {
    fn kind(&self) -> &'static str {
        use mothership_plan::Plan;
        match self.plans.borrow().back().map(|kept| &kept.plan) {
            // Not planned yet, or no tables are declared.
            None | Some(Known::Nothing) => "",
            Some(Known::Own) => "own",
            Some(Known::Plan(shaped)) => match &*shaped.plan {
                Plan::Local(_) => "local",
                Plan::Single(_) => "single",
                Plan::Scatter(_) => "scatter",
                Plan::Split(_) => "split",
                Plan::Gather(_) => "gather",
                Plan::Fill(_) => "fill",
                Plan::Ddl(_) => "ddl",
                Plan::Guarded(_) => "guarded",
                Plan::Refuse(_) => "refuse",
            },
        }
    }
}

/// A normalised text with `?` for every literal, also for those that are part of the shape.
fn shown(text: &[u8]) -> String {
    let Some((strings, rest)) = text.split_first() else {
        return String::new();
    };
    let mut words: Vec<String> = Vec::new();
    for (index, part) in rest
        .split(|b| *b == mothership_sql::shape::MARK)
        .enumerate()
    {
        // The first byte after a mark is the kind of the literal.
        let part = if index == 0 {
            part
        } else {
            words.push("?".to_owned());
            part.get(1..).unwrap_or_default()
        };
        for token in Lexer::new(part, *strings == b'+') {
            words.push(if token.kind.is_value() {
                "?".to_owned()
            } else {
                String::from_utf8_lossy(token.text(part)).into_owned()
            });
        }
    }
    words.join(" ")
}

#[cfg(test)]
#[path = "shapes_tests.rs"]
mod tests;
