//! SHOW PLANS: the shapes of statements that the cores remember, most used first.

use super::Facts;
use crate::console::table::{Row, row};
use std::collections::HashMap;

pub(super) fn plans(facts: &Facts) -> Vec<Row> {
    let mut shapes: HashMap<u64, (&'static str, u64, &str)> = HashMap::new();
    for view in &facts.plans {
        let shape = shapes.entry(view.id).or_insert(("", 0, &view.shape));
        shape.1 += view.uses;
        // A core that has not planned it says nothing.
        if shape.0.is_empty() {
            shape.0 = view.plan;
        }
    }
    let mut shapes: Vec<_> = shapes.into_iter().collect();
    shapes.sort_by_key(|(id, (_, uses, _))| (std::cmp::Reverse(*uses), *id));
    shapes
        .into_iter()
        .map(|(id, (plan, uses, shape))| row![id, plan, uses, shape])
        .collect()
}
