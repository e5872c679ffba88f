//! The plans that a statement keeps.

use super::names::Prepared;
use super::shapes::Known;
use crate::model::DatabaseModel;
use mothership_plan::{Plan, PlanContext};
use std::rc::Rc;

/// A plan with what it was made for.
#[derive(Debug)]
pub struct Planned {
    model: u64,
    context: Rc<PlanContext>,
    /// The plan.
    pub plan: Rc<Plan>,
}

impl Planned {
    /// Whether it was made for this.
    pub fn is_for(&self, model: u64, context: &Rc<PlanContext>) -> bool {
        self.model == model && (Rc::ptr_eq(&self.context, context) || self.context == *context)
    }
}

/// Plans kept for one statement, for sessions that differ in search_path and the like.
const KEPT: usize = 4;

impl Prepared {
    /// The plan of its only statement, if that or the plan of its shape is known.
    pub fn known_plan(&self, model: &DatabaseModel, context: &Rc<PlanContext>) -> Option<Rc<Plan>> {
        let of = |known: &Planned| {
            let same = known.is_for(model.version, context);
            same.then(|| Rc::clone(&known.plan))
        };
        if let Some(plan) = self.served.borrow().as_ref().and_then(of) {
            return Some(plan);
        }
        let own = self.plans.borrow().iter().find_map(|(_, known)| of(known));
        if own.is_some() {
            return own;
        }
        let shaped = self.shaped.as_ref()?;
        let types = self.origin.types();
        let Known::Plan(known) = shaped.entry.plan(model.version, context, types) else {
            return None;
        };
        let sql = std::str::from_utf8(shaped.span.of(&self.sql)).ok()?;
        model.planner().is_valid_for(&known, sql).then(|| {
            self.serve(model.version, Rc::clone(context), &known.plan);
            Rc::clone(&known.plan)
        })
    }

    /// The plan of its shape is its own.
    pub fn serve(&self, model: u64, context: Rc<PlanContext>, plan: &Rc<Plan>) {
        self.served.replace(Some(Planned {
            model,
            context,
            plan: Rc::clone(plan),
        }));
    }

    /// Remembers a plan of one of its statements.
    pub fn keep(&self, at: usize, model: u64, context: Rc<PlanContext>, plan: &Rc<Plan>) {
        let mut plans = self.plans.borrow_mut();
        plans.retain(|(_, p)| p.model == model);
        if plans.len() >= KEPT {
            plans.remove(0);
        }
        let plan = Rc::clone(plan);
        let planned = Planned {
            model,
            context,
            plan,
        };
        plans.push((at, planned));
    }
}
