//! Rows by a predicate: of any condition, the rows for which it is true, those for which it is false and those for which it
//! is null are all rows (Rigger and Su, "Finding Bugs in Database Systems via Query Partitioning", OOPSLA 2020). The
//! router's answers are judged by each other here, and need no other PostgreSQL.

use crate::expr::{Ctx, Gen};
use crate::statement::{Effect, Order, Statement};

impl Gen<'_> {
    /// Counts rows: all of them, then the three parts.
    pub fn parts(mut self) -> [Statement; 4] {
        self.exact = true;
        self.budget = self.pick(&[1, 1, 2]);
        let (from, atoms, _) = self.from(0, &[]);
        let rows = Ctx {
            atoms,
            ..Ctx::default()
        };
        let kept = match self.chance(50) {
            true => self.predicate(&rows, 1),
            false => "true".to_owned(),
        };
        let depth = self.pick(&[0, 1, 2]);
        let by = self.predicate(&rows, depth);
        self.has("parts by a predicate");
        let parts = [
            String::new(),
            format!(" AND ({by})"),
            format!(" AND NOT ({by})"),
            format!(" AND ({by}) IS NULL"),
        ];
        parts.map(|part| Statement {
            text: format!("SELECT count(*) FROM {from} WHERE ({kept}){part}"),
            values: self.values.clone(),
            features: self.features.clone(),
            order: Order::None,
            effect: Effect::Reads,
            floats: false,
            ranked: None,
        })
    }
}
